"""Keys in their order, which is that of their code points and so of their UTF-8 bytes: where a prefix ends.

Rule: pure; the same order as SQLite's BINARY collation and Python's comparison of strings.
"""

from __future__ import annotations

from typing import Final

_LAST_CHARACTER: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)


def end_of(prefix: str) -> str:
    """The first key, in code point order, after all that start with `prefix`; "" when there is none."""
    for end in range(len(prefix), 0, -1):
        following = ord(prefix[end - 1]) + 1
        if following in _SURROGATES:
            following = _SURROGATES.stop
        if following <= _LAST_CHARACTER:
            return prefix[: end - 1] + chr(following)
    return ""
