"""A systemd unit as settings, read as systemd.syntax(7) says: a setting may stand there several times, in order."""

from __future__ import annotations


def settings(text: str) -> dict[str, dict[str, list[str]]]:
    """Sections, in them settings, each with all of its values."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert equals, f"no setting: {line}"
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def words(value: str, *, program: bool = False) -> list[str]:
    """A value that is a list of words in double quotes, with the escapes taken out again. `program`: the first one is
    the program of a command, in which `$` is plain text.
    """
    found: list[str] = []
    rest = value.strip()
    while rest:
        assert rest.startswith('"'), f"not quoted: {rest}"
        word, at = "", 1
        while rest[at] != '"':
            at += rest[at] == "\\"
            word += rest[at]
            at += 1
        word = word.replace("%%", "%")
        found.append(word if program and not found else word.replace("$$", "$"))
        rest = rest[at + 1 :].strip()
        if rest.startswith("$"):  # a variable that is expanded
            break
    return found
