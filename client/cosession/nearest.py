"""The nearest known word to one that is not known, for every "did you mean".

Rule: standard library only and light; asked for mistakes only, since `difflib` is slow to load.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Whoever types is cut here: comparing takes time with the product of the lengths.
WORD_MAX = 80


def nearest(word: str, known: Iterable[str]) -> str:
    """The nearest known word, "" when none is near."""
    return "".join(near(word, known, 1))


def near(word: str, known: Iterable[str], count: int) -> list[str]:
    """At most `count` known words that are near, the nearest first."""
    import difflib

    return difflib.get_close_matches(word[:WORD_MAX], list(known), n=count, cutoff=0.6)
