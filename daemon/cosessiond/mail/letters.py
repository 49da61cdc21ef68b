"""Letters as records, and how they change: pure functions to the writes and compares of one batch.

A letter is one entry of `$mail` in the project of the session it is for, its key `BOX/ID` (the box is that session's
id), its value the struct `cosession.model.Letter` as MessagePack. To all of a project it is one copy in the box of
each, under one id: then state, retention and succession are those of any other letter, nobody's unread copy fills the
box of another, and one batch holds as many copies as a letter may have recipients. The other way, one letter with a
mark for each reader, would need a rule for who is still to read it whenever a session comes, dies or is replaced.

It may only go from queued to delivered to read. Passing on ends the record in one box and begins it in another, with
the same id; `first_revision` keeps its place among the others there. In a box that has that id already it only ends.

Rule: no memory, no clock, no store; times come in as seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.model import Letter, LetterState
from cosessiond.store.engine import Compare, Delete, Entry, EntryCompare, EntryId, Put, Write

SPACE: Final = "$mail"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Letter).decode


class _Cover(Struct, frozen=True):
    """What memory keeps of a letter: all but its text."""

    id: str
    to: str
    state: LetterState
    first_revision: int


_decode_cover = msgspec.msgpack.Decoder(_Cover).decode


class Held(Struct, frozen=True):
    """A letter as it is durable, without its text: where it is, the revision that wrote it last, and its size."""

    entry_id: EntryId
    id: str
    box: str
    state: LetterState
    order: tuple[int, str]
    mod_revision: int
    size_bytes: int

    @property
    def is_unread(self) -> bool:
        """Whether it still counts against its box."""
        return self.state != "read"


class Change(Struct, frozen=True):
    """What one batch writes, and the compares that guard it."""

    compares: tuple[Compare, ...] = ()
    writes: tuple[Write, ...] = ()


def letter_id(project: str, box: str, id: str) -> EntryId:
    """Where a letter lives."""
    return (SPACE, project, f"{box}/{id}")


def held(id: EntryId, value: bytes, *, create_revision: int, mod_revision: int) -> Held:
    """What memory keeps of the letter in an entry. Raises CosessionError(damaged) when it is none."""
    try:
        cover = _decode_cover(value)
    except msgspec.DecodeError as error:
        raise _damaged(id, error) from error
    order = (cover.first_revision or create_revision, cover.id)
    return Held(id, cover.id, cover.to, cover.state, order, mod_revision, len(value))


def opened(entry: Entry) -> Letter:
    """The letter in an entry, with its text. Raises CosessionError(damaged)."""
    try:
        return _decode(entry.value)
    except msgspec.DecodeError as error:
        raise _damaged(entry.id, error) from error


def put(project: str, letter: Letter) -> Put:
    """The write that keeps a letter."""
    return Put(letter_id(project, letter.to, letter.id), _encode(msgspec.to_builtins(letter)))


def handed_over(standing: Iterable[tuple[Held, Letter]], now_s: float) -> Change:
    """Queued letters that their session has been given."""
    found = [(each, letter) for each, letter in standing if letter.state == "queued"]
    return Change(
        tuple(unchanged(each) for each, _ in found),
        tuple(put(each.entry_id[1], replace(letter, state="delivered", delivered_at=now_s)) for each, letter in found),
    )


def read(standing: Iterable[tuple[Held, Letter]], surplus: Iterable[Held], now_s: float) -> Change:
    """Letters that their session has read; the `surplus`, which may be some of them, goes for it."""
    found = {each.entry_id: (each, letter) for each, letter in standing if letter.state != "read"}
    gone = {each.entry_id for each in surplus}
    kept = (
        put(
            each.entry_id[1],
            replace(letter, state="read", read_at=now_s, delivered_at=letter.delivered_at or now_s),
        )
        for each, letter in found.values()
        if each.entry_id not in gone
    )
    return Change(
        tuple(unchanged(each) for each, _ in found.values()),
        (*kept, *(Delete(id, "expire") for id in sorted(gone))),
    )


def dropped(standing: Iterable[Held]) -> Change:
    """Letters that nobody will read any more: nothing is known of their session."""
    return Change((), tuple(Delete(each.entry_id, "expire") for each in standing))


def passed_on(
    unread: Sequence[Held],
    open_: Callable[[Held], Letter | None],
    *,
    box: str,
    project: str,
    has: Callable[[str], bool],
    writes_max: int,
    bytes_max: int,
) -> Change:
    """The first of the `unread` letters of a session that has ended, moved to the `box` of its successor in `project`:
    as many as fit into `writes_max` writes and `bytes_max` bytes of values. Of one that the box `has` (a letter to all
    of a project) the copy goes.

    Two writes and one compare each. Letters that were handed over and not read are queued again: to their new reader
    they are new.
    """
    compares: list[Compare] = []
    writes: list[Write] = []
    for each in unread:
        letter = open_(each)
        if letter is None:
            continue
        moved = replace(
            letter,
            to=box,
            state="queued",
            delivered_at=0.0,
            first_revision=each.order[0],
            passed_from=letter.passed_from or letter.to,
        )
        writing: list[Write] = [Delete(each.entry_id)]
        if not has(each.id):
            writing.append(put(project, moved))
            bytes_max -= len(writing[-1].value) if isinstance(writing[-1], Put) else 0
        if len(writes) + len(writing) > writes_max or bytes_max < 0:
            break
        compares.append(unchanged(each))
        writes += writing
    return Change(tuple(compares), tuple(writes))


def unchanged(each: Held) -> EntryCompare:
    """The compare that a letter is as it was read."""
    return EntryCompare(each.entry_id, "mod_revision", each.mod_revision)


def _damaged(id: EntryId, error: Exception) -> CosessionError:
    message = f"cannot read letter {id[2]}: {error}; put back a backup, or run a newer cosessiond"
    return CosessionError(message, code="damaged")
