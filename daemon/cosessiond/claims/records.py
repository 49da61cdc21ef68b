"""Claim records and how they change: pure functions from records to the writes and compares of one batch.

A record is one entry of `$claims` in its project (`global` for names of the machine), its key the id of the claim, its
value the struct `cosession.model.Claim` as MessagePack, without `token` and `expires_in_s`: the fencing token is the
entry's create_revision, which no later write of the same claim changes, and the time is kept in memory. Adopting a
claim ends its record and begins another, so that the new holder has a larger token. A session may only be granted what
it was alive for, and a grant holds only if no claim of the project is newer than the memory it was decided from.

Rule: no memory, no clock, no store; times come in as seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from cosession.errors import CosessionError
from cosession.messages.limits import BATCH_BYTES_MAX
from cosession.model import Claim
from cosessiond.claims.targets import Targets, read
from cosessiond.store.engine import Compare, Delete, EntryCompare, EntryId, Put, RangeCompare, Write

SPACE: Final = "$claims"
#: More than a record takes beside its targets: worktree, purpose and names have limits of their own.
_RECORD_BYTES: Final = 8_192
_decode = msgspec.msgpack.Decoder(Claim).decode
_encode = msgspec.msgpack.Encoder().encode


class Held(Struct, frozen=True):
    """A record as it is durable: the claim with its token, its targets read, and the revision that wrote it last."""

    claim: Claim
    targets: Targets
    mod_revision: int

    @property
    def id(self) -> str:
        """The id of the claim."""
        return self.claim.id

    @property
    def entry_id(self) -> EntryId:
        """Where it lives."""
        return record_id(self.claim)


class Change(Struct, frozen=True):
    """What one batch writes, and the compares that guard it."""

    compares: tuple[Compare, ...]
    writes: tuple[Write, ...]


def record_id(claim: Claim) -> EntryId:
    """Where the record of a claim lives."""
    return (SPACE, claim.project, claim.id)


def decode(id: EntryId, value: bytes, *, create_revision: int, mod_revision: int) -> Held:
    """The record in an entry. Raises CosessionError(damaged) when it is none."""
    try:
        claim = replace(_decode(value), token=create_revision)
        return Held(claim, read(claim.targets, claim.worktree), mod_revision)
    except (msgspec.DecodeError, CosessionError) as error:
        message = f"cannot read the record of claim {id[2]}: {error}; put back a backup, or run a newer cosessiond"
        raise CosessionError(message, code="damaged") from error


def granted(claim: Claim, revision: int) -> Change:
    """A new claim, decided when nothing in its project was newer than `revision`; the caller adds that its session
    lives. One a batch, so that no two have the same token.
    """
    return Change((RangeCompare(SPACE, claim.project, "", revision),), (_put(claim),))


def released(held: Iterable[Held]) -> Change:
    """The end of claims that their holder, or a user, gives up."""
    held = tuple(held)
    return Change(tuple(map(stands, held)), tuple(Delete(each.entry_id) for each in held))


def expired(held: Held) -> Change:
    """The end of a claim by time, which is another one when the claim is another session's, or nobody's."""
    return Change((unchanged(held),), (Delete(held.entry_id, "expire"),))


def orphaned(held: Iterable[Held], why: str, now_s: float) -> Change:
    """Claims whose session is dead: they stand, for nobody."""
    held = tuple(held)
    return Change(
        tuple(map(unchanged, held)),
        tuple(_put(replace(each.claim, state="orphaned", orphaned_at=now_s, reason=why)) for each in held),
    )


def passed_on(held: Iterable[Held], session: str, why: str) -> Change:
    """Claims whose session goes on under another id: the same claims, with the same tokens."""
    held = tuple(held)
    return Change(
        tuple(map(unchanged, held)), tuple(_put(replace(each.claim, session=session, reason=why)) for each in held)
    )


def adopted(held: Held, id: str, session: str, now_s: float) -> Change:
    """An orphaned claim that `session` takes over under a new `id`: the record begins anew, so its token is larger."""
    claim = replace(
        held.claim,
        id=id,
        session=session,
        state="held",
        granted_at=now_s,
        orphaned_at=0.0,
        adopted_from=held.id,
        reason=f"adopted: session {held.claim.session} left it",
    )
    return Change((unchanged(held),), (Delete(held.entry_id), _put(claim)))


def fitting(held: Iterable[Held], writes_max: int) -> list[Held]:
    """The first of them whose records fit into one batch beside other writes."""
    found: list[Held] = []
    left = BATCH_BYTES_MAX // 2
    for each in islice(held, writes_max):
        left -= _RECORD_BYTES + sum(len(target.encode()) for target in each.claim.targets)
        if left < 0 and found:
            break
        found.append(each)
    return found


def stands(held: Held) -> EntryCompare:
    """The compare that the claim stands with its token, whatever became of it otherwise."""
    return EntryCompare(held.entry_id, "create_revision", held.claim.token)


def unchanged(held: Held) -> EntryCompare:
    """The compare that the record is as it was read."""
    return EntryCompare(held.entry_id, "mod_revision", held.mod_revision)


def _put(claim: Claim) -> Put:
    return Put(record_id(claim), _encode(msgspec.to_builtins(replace(claim, token=0, expires_in_s=0.0))))
