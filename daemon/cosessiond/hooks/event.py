"""One event of an AI client, whichever client: what happened, in which session, about which files.

Clients drop, null and add fields as they like, so a field counts when it has the type it should have, and is absent
otherwise. What is told here is a client's word: it names a session and paths, and proves nothing.

Rule: pure; nothing that a payload holds raises anything but InvalidRequest, for what is no JSON object.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import DecodeError, Struct, json

from cosession.errors import InvalidRequest

Kind = Literal["begin", "prompt", "before", "after", "compacting", "turn_over", "end", "other"]

#: Files that one event may be about: a patch may touch many, and each is a target of a claim.
PATHS_MAX: Final = 64
TEXT_CHARS_MAX: Final = 4_096

_decode = json.Decoder(dict[str, Any]).decode


class Event(Struct, frozen=True, kw_only=True):
    """`name` is the client's own word for it, `kind` ours. `paths` are the files that a tool is to change or changed,
    as the client names them, absolute or relative to `cwd`; `more_paths` says that not all of them are here. `source`
    is why a session begins, `why` why it ends.
    """

    name: str
    kind: Kind
    session: str = ""
    cwd: str = ""
    transcript: str = ""
    model: str = ""
    source: str = ""
    why: str = ""
    tool: str = ""
    paths: tuple[str, ...] = ()
    more_paths: bool = False


class Advice(Struct, frozen=True, kw_only=True):
    """What the daemon has to say about an event: `context` is for the model, `denial` refuses the tool and says why,
    `note` is for the user.
    """

    context: str = ""
    denial: str = ""
    note: str = ""


NOTHING: Final = Advice()


def payload_of(data: str) -> dict[str, Any]:
    """The object that a client sent. Raises InvalidRequest."""
    try:
        return _decode(data) if data else {}
    except (DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidRequest(f"cannot read the event: {str(error)[:200]}; it is one JSON object") from None


def text(payload: dict[str, Any], name: str) -> str:
    """A text field, "" when it is absent, of another type, or longer than any of these should be."""
    value = payload.get(name)
    return value if isinstance(value, str) and len(value) <= TEXT_CHARS_MAX else ""


def inner(payload: dict[str, Any], name: str) -> dict[str, Any]:
    """A field that is an object, empty when it is absent or of another type."""
    value = payload.get(name)
    return value if isinstance(value, dict) else {}


def bounded(paths: list[str]) -> tuple[tuple[str, ...], bool]:
    """The first of `paths`, each once, and whether there are more."""
    each = tuple(dict.fromkeys(path for path in paths if path))
    return each[:PATHS_MAX], len(each) > PATHS_MAX
