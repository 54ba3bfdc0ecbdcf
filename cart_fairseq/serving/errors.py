"""Refusals: what is wrong with a request, as an HTTP status and ``{"error": {"field", "found", "remedy"}}``."""

LONGEST = 300
"""Characters of a request that are repeated in an answer."""


class Refusal(Exception):
    """A request that is not answered with what it asks for.

    Args:
        status: the HTTP status.
        field: the field, header or path that is wrong.
        found: what was found there.
        remedy: what to do.
        retry_after: seconds after which to try again.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        field: str,
        found: str,
        remedy: str,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(f"{field}: {found}; {remedy}")
        self.status = status
        self.body = {"error": {"field": field, "found": shortened(found), "remedy": remedy}}
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(retry_after)


def shortened(text: str) -> str:
    """Shorten a text, and replace what is no valid Unicode.

    >>> shortened("a" * 1000) == "a" * 299 + "…"
    True
    """
    text = text.encode(errors="replace").decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def refusal_of(error: ValueError, field: str, status: int = 422) -> Refusal:
    """Make a refusal of an error ``found; remedy`` of a search.

    Args:
        error: the error.
        field: the field of the request that it is about.
        status: the HTTP status.
    """
    text = " ".join(str(error).split())
    found, _, remedy = text.rpartition("; ")
    return Refusal(status, field, found or text, remedy if found else "correct the request")
