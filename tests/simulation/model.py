"""The store as the rows say it was, at any revision; and what a request must do to it. For the oracles only.

Rule: computed from the committed changes and from the requests, with nothing of the daemon's code in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import UNSET, msgpack

from cosession.messages.past import Purge, Revert
from cosession.messages.store import (
    Add,
    Append,
    CompareEntry,
    Delete,
    Merge,
    Put,
    Txn,
    TxnAdd,
    TxnAppend,
    TxnDelete,
    TxnMerge,
    TxnPut,
)
from cosession.model import Entry
from cosessiond.store.engine import EntryId
from simulation.history import Call, Row
from simulation.purges import Purges

WriteRequest = Put | Delete | Merge | Add | Append | Txn | Revert | Purge
_decode = msgpack.Decoder().decode
#: In the place of a value: the write is refused for what it meets.
WRONG_TYPE = object()


class Standing(NamedTuple):
    """An entry as one revision left it; `kind` other than put: it is gone."""

    kind: str
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    time_ms: int
    session: str
    ttl_ms: int
    owner: str

    def public(self, key: str) -> Entry:
        """As clients see it."""
        return Entry(
            key=key,
            value=_decode(self.value),
            version=self.version,
            create_revision=self.create_revision,
            mod_revision=self.mod_revision,
            session=self.session,
            time=self.time_ms / 1000,
            ttl_s=self.ttl_ms / 1000,
            ephemeral=self.owner,
        )


class Model:
    """All versions of all entries."""

    def __init__(self, rows: Iterable[Row], calls: Iterable[Call] = ()) -> None:
        self.rows = list(rows)
        self.purges = Purges(calls)
        self.versions: dict[EntryId, list[Standing]] = {}
        self._revisions: dict[EntryId, list[int]] = {}
        for row in self.rows:
            outcome = row.outcome
            for change in outcome.changes:
                standing = Standing(
                    change.kind,
                    change.value,
                    change.version,
                    change.create_revision,
                    row.revision,
                    outcome.time_ms,
                    outcome.origin.session,
                    change.ttl_ms,
                    change.owner,
                )
                self.versions.setdefault(change.id, []).append(standing)
                self._revisions.setdefault(change.id, []).append(row.revision)

    def last(self, id: EntryId, revision: int) -> Standing | None:
        """The newest version up to `revision`, also when that is a deletion."""
        revisions = self._revisions.get(id)
        if not revisions:
            return None
        index = bisect_right(revisions, revision)
        return self.versions[id][index - 1] if index else None

    def at(self, id: EntryId, revision: int) -> Standing | None:
        """The entry that stood at `revision`."""
        found = self.last(id, revision)
        return found if found is not None and found.kind == "put" else None

    def scan(self, space: str, project: str, prefix: str, revision: int) -> Iterator[tuple[EntryId, Standing]]:
        """The entries under a prefix at `revision`, in key order."""
        for id in sorted(self.versions):
            if id[:2] == (space, project) and id[2].startswith(prefix):
                standing = self.at(id, revision)
                if standing is not None:
                    yield id, standing


@dataclass
class Expected:
    """What a write must do: nothing but fail at compare `conflict`, or `writes` by key (None: gone)."""

    succeeded: bool = True
    conflict: int = -1
    current: Standing | None = None
    current_key: str = ""
    writes: dict[str, Any] | None = None
    leases: dict[str, tuple[int, bool]] | None = None
    unchanged: int = 0  # of a revert


def expected(request: WriteRequest, model: Model, revision: int) -> Expected:
    """What `request` must do to the state at `revision`."""
    if isinstance(request, Purge):
        return Expected(writes=_purged(request, model, revision), leases={})
    failed = _first_failing(request, model, revision)
    if failed is not None and not (isinstance(request, Txn) and request.otherwise):
        index, key, current = failed
        return Expected(succeeded=False, conflict=index, current=current, current_key=key)
    if isinstance(request, Revert):
        return _reverted(request, model, revision)
    writes: dict[str, Any] = {}
    leases: dict[str, tuple[int, bool]] = {}
    parts: Iterable[Any] = [request]
    if isinstance(request, Txn):
        parts = request.then if failed is None else request.otherwise
    for part in parts:
        before = model.at((request.space, request.project, part.key), revision)
        if isinstance(part, Delete | TxnDelete):
            if before is not None:
                writes[part.key] = UNSET
        elif not isinstance(part, Put | TxnPut):
            writes[part.key] = _changed(part, _decode(before.value) if before else None)
            leases[part.key] = (before.ttl_ms, bool(before.owner)) if before else (0, False)
        else:
            writes[part.key] = _decode(part.value)
            leases[part.key] = (round(part.ttl_s * 1000), part.ephemeral)
    return Expected(succeeded=failed is None, writes=writes, leases=leases)


def _purged(request: Purge, model: Model, revision: int) -> dict[str, Any]:
    stands = model.at((request.space, request.project, request.key), revision)
    if stands is None or 0 < request.before_revision <= stands.mod_revision:
        return {}
    return {request.key: UNSET}


def _reverted(request: Revert, model: Model, revision: int) -> Expected:
    place = (request.space, request.project)
    if request.prefix is UNSET:
        ids = [(*place, request.key)]
    else:
        ids = [id for at in (request.to_revision, revision) for id, _ in model.scan(*place, str(request.prefix), at)]
    wanted = Expected(writes={}, leases={})
    assert wanted.writes is not None
    assert wanted.leases is not None
    for id in dict.fromkeys(ids):
        stood, stands = model.at(id, request.to_revision), model.at(id, revision)
        if (stood and stood.value) == (stands and stands.value):
            wanted.unchanged += 1
        elif stood is None:
            wanted.writes[id[2]] = UNSET
        else:
            wanted.writes[id[2]] = _decode(stood.value)
            wanted.leases[id[2]] = (stands.ttl_ms, bool(stands.owner)) if stands else (0, False)
    return wanted


def _first_failing(request: WriteRequest, model: Model, revision: int) -> tuple[int, str, Standing | None] | None:
    assert not isinstance(request, Purge)
    if not isinstance(request, Txn):
        current = model.at((request.space, request.project, request.key), revision)
        wanted = request.expect_revision
        stands = current.mod_revision if current else 0
        return None if wanted is UNSET or wanted == stands else (0, request.key, current)
    for index, compare in enumerate(request.compares):
        if isinstance(compare, CompareEntry):
            current = model.at((request.space, request.project, compare.key), revision)
            if compare.value != (getattr(current, compare.field) if current else 0):
                return index, compare.key, current
        else:
            for id, standing in model.scan(request.space, request.project, compare.prefix, revision):
                if standing.mod_revision > compare.max_mod_revision:
                    return index, id[2], standing
    return None


def _changed(part: Merge | TxnMerge | Add | TxnAdd | Append | TxnAppend, value: Any) -> Any:
    """What `part` makes of the value that stands (None: nothing does); WRONG_TYPE when it cannot."""
    if isinstance(part, Merge | TxnMerge):
        return _merged({} if value is None else value, _decode(part.patch))
    if isinstance(part, Add | TxnAdd):
        value = 0 if value is None else value
        return value + part.number if type(value) in (int, float) else WRONG_TYPE
    value = [] if value is None else value
    return value + _decode(part.values) if isinstance(value, list) else WRONG_TYPE


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result
