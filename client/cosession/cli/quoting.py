r"""Words of a shell: what a line being typed says, and how a word that was begun is written to its end.

Both directions keep what was typed as it is: only what is missing is added, in the kind of quotes that stand open at
the cursor. That works in bash and zsh alike, whatever they take for the boundary of a word.

Rule: what is added holds printable characters only; others are written as `$'\u009b'`, which both shells read.
"""

from __future__ import annotations

#: What needs no quotes in bash or zsh, wherever in a word it stands, beside printable characters beyond ASCII.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,-")
#: What a backslash makes plain between double quotes. An exclamation mark it does not.
_QUOTED = frozenset('"$`\\')
_BLANKS = " \t\n"
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


class Typed:
    """A line up to the cursor: the words before the last, the last one, and the quote that is open at its end.

    `quote` is "", `'`, `"` or `$'`. A blank before the cursor means that the last word is empty.
    """

    __slots__ = ("last", "quote", "words")

    def __init__(self, words: list[str], last: str, quote: str) -> None:
        self.words = words
        self.last = last
        self.quote = quote


def typed(line: str) -> Typed:
    """Read `line` as bash and zsh do, as far as quotes go; nothing is expanded."""
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    at = 0
    while at < len(line):
        char = line[at]
        at += 1
        if quote == "$'":
            assert word is not None, "a quote begins a word"
            if char == "\\":
                char, at = _escaped(line, at)
                word.append(char)
            elif char == "'":
                quote = ""
            else:
                word.append(char)
            continue
        if not quote and char in _BLANKS:
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if char == "\\" and quote != "'":
            following = line[at : at + 1]
            word.append(char + following if quote and following not in _QUOTED else following)
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char == "$" and line[at : at + 1] == "'":
            quote = "$'"
            at += 1
        else:
            word.append(char)
    return Typed(words, "".join(word or []), quote)


def _escaped(line: str, at: int) -> tuple[str, int]:
    """The character behind a backslash in `$'...'`, and where the text goes on."""
    kind = line[at : at + 1]
    digits = line[at + 1 : at + 1 + _HEX_DIGITS.get(kind, 0)]
    if digits and all(digit in "0123456789abcdefABCDEF" for digit in digits):
        code = int(digits, 16)
        return (chr(code) if code <= 0x10FFFF else ""), at + 1 + len(digits)  # noqa: PLR2004 (the last of Unicode)
    return kind, at + 1


def rest_of(value: str, typed: Typed) -> str:
    """What must follow the typed word, which `value` begins with, to make it `value`; an open quote stays open."""
    return "".join(_written(char, typed.quote) for char in value[len(typed.last) :])


def _written(char: str, quote: str) -> str:
    if not char.isprintable():
        code = ord(char)
        alone = f"$'\\u{code:04x}'" if code <= 0xFFFF else f"$'\\U{code:08x}'"  # noqa: PLR2004 (what \u can say)
        return alone if not quote else alone[2:-1] if quote == "$'" else f"{quote}{alone}{quote}"
    if quote == "'":
        return "'\\''" if char == "'" else char
    if quote == "$'":
        return f"\\{char}" if char in "'\\" else char
    if quote == '"':
        return "\"'!'\"" if char == "!" else f"\\{char}" if char in _QUOTED else char
    return char if char in _PLAIN or not char.isascii() else f"\\{char}"


def fish_word(text: str) -> str:
    """A word of fish, as far as it is typed, without its quotes."""
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\" and at < len(text) and (not quote or text[at] in ("\\", quote, "$")):
            char, at = _escaped(text, at) if not quote else (text[at], at + 1)
            word.append(char)
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            word.append(char)
    return "".join(word)
