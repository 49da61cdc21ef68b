"""Whether a Python value is JSON data as it stands, and where it is not.

The encoder would take more: a set becomes a list, a Decimal or a datetime a string, and what is read back is another
thing than what was written. Here all of that is refused; a tuple is a list, as the json module has it, and so are its
like (subclasses of dict, list, str, int and float are what they are made of).

Rule: pure; a plain value costs a look at the types of each level and no more.
"""

from __future__ import annotations

from typing import Any, Final

from cosession.errors import InvalidRequest

_LISTS: Final = (list, tuple)
_PLAIN: Final = frozenset({type(None), bool, int, float, str, list, tuple, dict})
_KINDS: Final = (type(None), bool, int, float, str, list, tuple, dict)
#: What to send in the place of what people try.
_INSTEAD: Final = {
    "set": "a list",
    "frozenset": "a list",
    "Decimal": "a number or a string",
    "datetime": "a string, as isoformat() makes it, or a number of seconds",
    "date": "a string, as isoformat() makes it",
    "bytes": "a string, in base64",
    "bytearray": "a string, in base64",
}


def require_plain(value: Any, what: str) -> None:
    """Raises InvalidRequest for the first part that is no JSON data, with where it is. `value` has no end in itself."""
    level = [value]
    while level:
        if not set(map(type, level)) <= _PLAIN:
            _look(value, what, "")
        maps = [each for each in level if isinstance(each, dict)]
        if any(not set(map(type, each)) <= {str} for each in maps):
            _look(value, what, "")
        level = [child for each in level if isinstance(each, _LISTS) for child in each]
        level += [child for each in maps for child in each.values()]


def _look(value: Any, what: str, path: str) -> None:
    if not isinstance(value, _KINDS):
        name = type(value).__name__
        instead = f"; send {_INSTEAD[name]}" if name in _INSTEAD else "; send what it is made of"
        raise InvalidRequest(f"cannot send {what}: {_at(path)} {name} is no JSON data{instead}")
    if isinstance(value, dict):
        for key, child in value.items():
            if not isinstance(key, str):
                raise InvalidRequest(
                    f"cannot send {what}: {_at(path)} the name {key!r:.40} is no string; send str(name)"
                )
            _look(child, what, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, _LISTS):
        for index, child in enumerate(value):
            _look(child, what, f"{path}/{index}")


def _at(path: str) -> str:
    return f"at {path[:200]!r}" if path else "the"
