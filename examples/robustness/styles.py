"""The same queries as people type them: six styles, made by rules with a seed.

A style is a function of a query and a random generator. It never returns an empty query.
"""

import random
import re
import zlib
from collections.abc import Callable, Sequence

from word_list import FUNCTION_WORDS, OPENINGS, PHRASE_STARTS, SYNONYMS

Style = Callable[[str, random.Random], str]
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LETTERS_PER_ERROR = 12
SHARE_REPLACED = 0.7
"""Share of the words with a synonym that a paraphrase replaces."""


def as_written(text: str, rng: random.Random) -> str:
    """The query itself."""
    return text


def typing_errors(text: str, rng: random.Random) -> str:
    """One error for every twelve letters, at least one: letters swapped, missing, doubled, or a neighbour on the keyboard.

    >>> typing_errors("a dog on a beach", random.Random(1))
    'a dog on a bech'
    """
    letters = sum(letter.isalpha() for letter in text)
    for _ in range(max(1, round(letters / LETTERS_PER_ERROR))):
        places = [at for at, letter in enumerate(text) if letter.isalpha()]
        if len(places) < 2:
            return text
        changed = text
        while changed == text:  # two equal letters can be swapped
            changed = rng.choice((_swap, _leave_out, _double, _mistype))(text, rng.choice(places), rng)
        text = changed
    return text


def keywords(text: str, rng: random.Random) -> str:
    """Words with content only, without punctuation.

    >>> keywords("Two dogs are playing in the snow .", random.Random())
    'two dogs playing snow'
    """
    kept = [word for word in _words(text) if word not in FUNCTION_WORDS]
    return " ".join(kept or _words(text)) or text


def reordered(text: str, rng: random.Random) -> str:
    """The phrases of the query in another order.

    >>> reordered("A man in a hat is sitting on a bench .", random.Random(0))
    'a man on a bench in a hat is sitting'
    """
    phrases: list[list[str]] = [[]]
    for word in _words(text):
        if word in PHRASE_STARTS and phrases[-1]:
            phrases.append([])
        phrases[-1].append(word)
    if len(phrases) == 1:  # no phrase begins inside
        phrases = [[word] for word in phrases[0]]
    order = phrases[:]
    while len(phrases) > 1 and order == phrases:
        if len({*map(tuple, phrases)}) == 1:
            break
        rng.shuffle(order)
    return " ".join(word for phrase in order for word in phrase) or text


def cut_short(text: str, rng: random.Random) -> str:
    """The first half of the words, and never fewer than three.

    >>> cut_short("A man in a hat is sitting on a bench .", random.Random())
    'a man in a hat'
    """
    words = _words(text)
    return " ".join(words[: max(3, (len(words) + 1) // 2)]) or text


def paraphrased(text: str, rng: random.Random) -> str:
    """Most words that the word list has are replaced, and the query begins as a request may.

    >>> paraphrased("A man in a hat is sitting on a bench .", random.Random(0))
    'show me a man in a hat is seated on a bench'
    """
    words = [SYNONYMS[w] if w in SYNONYMS and rng.random() < SHARE_REPLACED else w for w in _words(text)]
    opening = rng.choice(OPENINGS if words[:1] in (["a"], ["an"]) else OPENINGS[:-1])
    return f"{opening} {' '.join(words)}" if words else text


STYLES: dict[str, Style] = {
    "as written": as_written,
    "typing errors": typing_errors,
    "keywords only": keywords,
    "reordered": reordered,
    "cut short": cut_short,
    "paraphrased": paraphrased,
}


def styled(texts: Sequence[str], style: str, seed: int) -> list[str]:
    """Rewrite queries; each depends on the style, the seed and its own text alone.

    Args:
        texts: the queries.
        style: one of :data:`STYLES`.
        seed: of the random choices.
    """
    return [STYLES[style](text, random.Random(zlib.crc32(f"{seed} {style} {text}".encode()))) for text in texts]


def _words(text: str) -> list[str]:
    """Words in lower case, without punctuation.

    >>> _words("A dog 's ball , mid-air .")
    ['a', 'dog', "'s", 'ball', 'mid-air']
    """
    return re.findall(r"[\w'’-]*\w", text.lower())


def _swap(text: str, at: int, rng: random.Random) -> str:
    """Swap a letter with the next one."""
    return text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :] if text[at + 1 : at + 2].isalpha() else text


def _leave_out(text: str, at: int, rng: random.Random) -> str:
    return text[:at] + text[at + 1 :]


def _double(text: str, at: int, rng: random.Random) -> str:
    return text[: at + 1] + text[at:]


def _mistype(text: str, at: int, rng: random.Random) -> str:
    """Replace a letter by one beside it on the keyboard; other letters stay."""
    for row in KEYBOARD:
        place = row.find(text[at].lower())
        if place >= 0:
            beside = [row[near] for near in (place - 1, place + 1) if 0 <= near < len(row)]
            return text[:at] + rng.choice(beside) + text[at + 1 :]
    return text
