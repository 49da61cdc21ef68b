"""Checkpoints as they are kept: entries of `$checkpoints`, and what can be told of one by looking at its bytes.

A checkpoint is the entry `SESSION/ULID` of project `global`: a map with `checkpoint`, the canonical MessagePack (the
names of members in order) of `model.Checkpoint` without `hash` and `revision`, and `hash` over just those bytes. Beside
them `SESSION/head` names the newest with its hash, so that its loss is noticed as well.

Rule: pure. What is not exactly what was hashed is damaged, and nothing of it is believed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from cosession.model import GLOBAL, Checkpoint, CheckpointSummary
from cosessiond.store.engine import Entry, EntryId

SPACE: Final = "$checkpoints"
#: The project under which damaged ones are kept.
QUARANTINE: Final = "quarantine"
_HEAD: Final = "head"
_TEXT_SHOWN: Final = 200
_HASH_BYTES: Final = 16
_UNHASHED: Final = ("hash", "revision")


class Kept(Struct, frozen=True):
    """The value of the entry of a checkpoint."""

    checkpoint: Raw
    hash: str


class Head(Struct, frozen=True):
    """The value of `SESSION/head`: the newest checkpoint, its hash, and how many there ever were."""

    newest: str
    hash: str
    number: int


class Seen(Struct, frozen=True):
    """What is known of a checkpoint that is kept: `summary.damaged` says what is wrong with it, "" when nothing is."""

    summary: CheckpointSummary
    parent_hash: str
    mod_revision: int

    @property
    def id(self) -> str:
        """Its id."""
        return self.summary.id

    @property
    def is_valid(self) -> bool:
        """Whether it is what was saved."""
        return not self.summary.damaged


_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode
_encode = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode
_decode_summary = msgspec.msgpack.Decoder(CheckpointSummary).decode


class _Link(Struct, frozen=True):
    parent_hash: str = ""


_decode_link = msgspec.msgpack.Decoder(_Link).decode


def entry_id(checkpoint: str) -> EntryId:
    """Where a checkpoint lives."""
    return (SPACE, GLOBAL, checkpoint)


def head_id(session: str) -> EntryId:
    """Where the head of a session's checkpoints lives."""
    return (SPACE, GLOBAL, f"{session}/{_HEAD}")


def prefix_of(session: str) -> str:
    """What the keys of a session begin with; no session id has a slash."""
    return f"{session}/"


def session_in(key: str) -> str:
    """The session that a key belongs to."""
    return key.partition("/")[0]


def is_head(key: str) -> bool:
    """Whether the key is that of a head."""
    return key.endswith(f"/{_HEAD}")


def sealed(checkpoint: Checkpoint) -> tuple[Checkpoint, bytes]:
    """A checkpoint with its hash, and the value of its entry."""
    fields = msgspec.to_builtins(checkpoint)
    for name in _UNHASHED:
        del fields[name]
    body = _encode_sorted(fields)
    hash = hash_of(body)
    return replace(checkpoint, hash=hash), _encode(Kept(Raw(body), hash))


def hash_of(body: bytes) -> str:
    """The hash of a checkpoint's bytes, as it is shown."""
    return blake2b(body, digest_size=_HASH_BYTES).hexdigest()


def head_of(checkpoint: Checkpoint) -> bytes:
    """The value of the head when this is the newest."""
    return _encode(Head(checkpoint.id, checkpoint.hash, checkpoint.number))


def read_head(value: bytes) -> Head | None:
    """The head in an entry, None when it is none."""
    try:
        return _decode_head(value)
    except msgspec.DecodeError:
        return None


def seen(entry: Entry) -> Seen:
    """What can be told of the checkpoint in an entry; damaged ones as well."""
    id = entry.id[2]
    blank = CheckpointSummary(
        id=id,
        session=session_in(id),
        size_bytes=len(entry.value),
        revision=entry.mod_revision,
        time=entry.time_ms / 1000,
    )
    try:
        kept = _decode_kept(entry.value)
        if hash_of(bytes(kept.checkpoint)) != kept.hash:
            return Seen(replace(blank, damaged="its hash does not match"), "", entry.mod_revision)
        found = _decode_summary(kept.checkpoint)
        link = _decode_link(kept.checkpoint)
    except msgspec.DecodeError as error:
        return Seen(replace(blank, damaged=f"it cannot be read: {error}"), "", entry.mod_revision)
    if found.id != id or found.session != blank.session:
        return Seen(replace(blank, damaged=f"it is {found.id}"), "", entry.mod_revision)
    summary = replace(
        found,
        task=found.task[:_TEXT_SHOWN],
        next_step=found.next_step[:_TEXT_SHOWN],
        size_bytes=len(entry.value),
        hash=kept.hash,
        revision=entry.mod_revision,
    )
    return Seen(summary, link.parent_hash, entry.mod_revision)


def read(entry: Entry) -> Checkpoint | None:
    """The checkpoint in an entry, None when it is not what was saved."""
    if not seen(entry).is_valid:
        return None
    kept = _decode_kept(entry.value)
    try:
        checkpoint = _decode_checkpoint(kept.checkpoint)
    except msgspec.DecodeError:
        return None
    return replace(checkpoint, hash=kept.hash, revision=entry.mod_revision)
