"""Words of messages that depend on a number."""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the singular or the plural.

    >>> counted(1, "item"), counted(1200, "item")
    ('1 item', '1,200 items')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
