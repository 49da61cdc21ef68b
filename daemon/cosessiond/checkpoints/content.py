"""What a session says of its work, made into the fields of a checkpoint.

Agents write these by hand, so a list of texts may be one text, a decision may be just its choice, and members that
nobody asked for are kept as `extra`. What cannot be read that way is refused with its name.

Rule: pure; from JSON data to typed fields, and nothing is dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from cosession.errors import InvalidRequest, TooLarge
from cosession.messages.limits import CHECKPOINT_FILES_MAX
from cosession.model import Decision, FileFact

_SHOWN_MAX: Final = 64
_SHA256_CHARS: Final = 64


class Content(Struct, frozen=True, kw_only=True):
    """The part of a checkpoint that its session said; see `model.Checkpoint`."""

    task: str = ""
    done: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    next_step: str = ""
    decisions: tuple[Decision, ...] = ()
    failed: tuple[str, ...] = ()
    files: tuple[FileFact, ...] = ()
    extra: dict[str, Any] = {}


def content_of(state: Any) -> Content:
    """The content in `state`, JSON data. Raises InvalidRequest and TooLarge."""
    if not isinstance(state, dict):
        raise _wrong("state", "an object", state)
    if not state:
        raise InvalidRequest("cannot save a checkpoint: it says nothing; give a task or a next_step at least")
    extra: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for name, value in state.items():
        read = _READERS.get(name)
        if read is not None:
            fields[name] = read(name, value)
        elif name == "extra" and isinstance(value, dict):
            extra |= value
        else:
            extra[name] = value
    return Content(**fields, extra=extra)


def check_files(files: tuple[FileFact, ...], where: str) -> None:
    """Raises TooLarge and InvalidRequest unless these can be facts about files."""
    if len(files) > CHECKPOINT_FILES_MAX:
        raise TooLarge(
            f"cannot save a checkpoint: {where} has {len(files)} files, the limit is {CHECKPOINT_FILES_MAX}; "
            "name the ones that matter",
            data={"size": len(files), "limit": CHECKPOINT_FILES_MAX},
        )
    for file in files:
        if not file.path:
            raise InvalidRequest(f"cannot save a checkpoint: a file in {where} has no path; name it")
        if file.sha256 and (len(file.sha256) != _SHA256_CHARS or not set(file.sha256) <= set("0123456789abcdef")):
            raise InvalidRequest(
                f"cannot save a checkpoint: sha256 of {file.path[:_SHOWN_MAX]!r} is no SHA-256; "
                "give 64 hexadecimal digits, or leave it out"
            )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a text", value)
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _wrong(name, "a list of texts", value)
    return tuple(value)


def _decisions(name: str, value: Any) -> tuple[Decision, ...]:
    if isinstance(value, str | dict):
        value = [value]
    if not isinstance(value, list):
        raise _wrong(name, "a list of decisions", value)
    return tuple(_decision(f"{name}[{index}]", each) for index, each in enumerate(value))


def _decision(name: str, value: Any) -> Decision:
    if isinstance(value, str):
        return Decision(choice=value)
    if not isinstance(value, dict) or not isinstance(value.get("choice"), str):
        raise _wrong(name, "a text, or an object with a `choice`", value)
    known = {
        member: read(f"{name}.{member}", value[member]) for member, read in _DECISION_READERS.items() if member in value
    }
    extra = {member: each for member, each in value.items() if member not in _DECISION_READERS}
    nested = extra.pop("extra", {})
    extra |= nested if isinstance(nested, dict) else {"extra": nested}
    return Decision(**known, extra=extra)


def _files(name: str, value: Any) -> tuple[FileFact, ...]:
    if not isinstance(value, list):
        raise _wrong(name, "a list of files", value)
    files = tuple(_file(f"{name}[{index}]", each) for index, each in enumerate(value))
    check_files(files, name)
    return files


def _file(name: str, value: Any) -> FileFact:
    if isinstance(value, str):
        return FileFact(path=value)
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        raise _wrong(name, "a path, or an object with a `path`", value)
    size = value.get("size_bytes", 0)
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _wrong(f"{name}.size_bytes", "a number of bytes", size)
    texts = {member: _text(f"{name}.{member}", value.get(member, "")) for member in ("path", "sha256", "note")}
    return FileFact(**texts, size_bytes=size)


_DECISION_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "choice": _text,
    "rationale": _text,
    "alternatives": _texts,
    "trade_offs": _text,
    "validation": _text,
}
_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "task": _text,
    "done": _texts,
    "pending": _texts,
    "next_step": _text,
    "decisions": _decisions,
    "failed": _texts,
    "files": _files,
}


def _wrong(name: str, wanted: str, value: Any) -> InvalidRequest:
    kind = (
        "null"
        if value is None
        else {bool: "true or false", dict: "an object", list: "a list", str: "a text"}.get(type(value), "a number")
    )
    return InvalidRequest(f"cannot save a checkpoint: `{name[:_SHOWN_MAX]}` is {kind}; it takes {wanted}")
