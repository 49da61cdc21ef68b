"""The store as a specification in plain dicts: what each request does at its place in the log, and what stood when.

Rule: shares no code with the daemon's store; these few lines are to be read and believed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import msgpack

from cosession.messages import Request
from cosession.messages.store import (
    Add,
    Append,
    Compare,
    CompareEntry,
    Delete,
    Merge,
    Put,
    Txn,
    TxnAdd,
    TxnAppend,
    TxnDelete,
    TxnPut,
    TxnWrite,
)
from cosession.model import Change, Entry

VERSIONS_KEPT: Final = 50
#: The request id of a version of which it is not certain who wrote it: of several that could have, all were killed.
ANYBODY: Final = "?"
#: create_revision, mod_revision and version of what is not there.
ABSENT: Final = (0, 0, 0)


@dataclass(slots=True)
class Item:
    """An entry of the model."""

    value: Any
    version: int
    create_revision: int
    mod_revision: int
    time: float
    ttl_s: float


@dataclass(slots=True)
class Life:
    """What happened to one key: at which revisions, what stood after each (0: absent), and its newest versions."""

    revisions: list[int] = field(default_factory=list)
    standing: list[tuple[int, int, int]] = field(default_factory=list)  # create_revision, mod_revision, version
    versions: deque[tuple[Any, ...]] = field(default_factory=lambda: deque(maxlen=VERSIONS_KEPT))

    def at(self, revision: int) -> tuple[int, int, int]:
        """What stood at a revision."""
        index = bisect_right(self.revisions, revision)
        return self.standing[index - 1] if index else ABSENT

    def between(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Everything that stood at some revision from `first` to `last`."""
        low, high = bisect_right(self.revisions, first), bisect_right(self.revisions, last)
        return [self.at(first), *self.standing[low:high]]


class Model:
    """The store as a specification: entries of one space and project."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.lives: dict[str, Life] = {}
        self.revision = 0

    def preload(self, entry: Entry) -> None:
        """Take an entry that was there before the log began; its past is not judged."""
        self.items[entry.key] = Item(
            entry.value, entry.version, entry.create_revision, entry.mod_revision, entry.time, entry.ttl_s
        )
        self.revision = max(self.revision, entry.mod_revision)

    def life(self, key: str) -> Life:
        """The life of a key, empty for one never written."""
        return self.lives.get(key) or Life()

    def under(self, prefix: str, revision: int) -> dict[str, tuple[int, int, int]]:
        """What stood under a prefix at a revision, by key."""
        lives = ((key, life.at(revision)) for key, life in self.lives.items() if key.startswith(prefix))
        return {key: standing for key, standing in lives if standing != ABSENT}

    def forget(self) -> None:
        """Drop what stood before now: who reads from here on knows of the newest revision."""
        for life in self.lives.values():
            del life.revisions[:-1]
            del life.standing[:-1]

    def evaluate(self, request: Request[Any]) -> tuple[bool, list[Change]]:
        """Whether the compares hold now, and the changes that the request makes at the next revision."""
        if isinstance(request, Txn):
            succeeded = all(self._holds(compare) for compare in request.compares)
            writes = request.then if succeeded else request.otherwise
            return succeeded, [change for write in writes if (change := self._change(write))]
        assert isinstance(request, Put | Delete | Merge | Add | Append), "only writes take revisions"
        item = self.items.get(request.key)
        expected = request.expect_revision
        if isinstance(expected, int) and expected != (item.mod_revision if item else 0):
            return False, []
        change = self._change(request)
        return True, [change] if change else []

    def apply(self, changes: Iterable[Change], ttls: dict[str, float], request_id: str) -> None:
        """Take changes as the next revision."""
        self.revision += 1
        for change in changes:
            life = self.lives.setdefault(change.key, Life())
            if change.kind == "put":
                ttl_s = ttls.get(change.key, 0.0)
                self.items[change.key] = Item(
                    change.value, change.version, change.create_revision, self.revision, change.time, ttl_s
                )
                life.standing.append((change.create_revision, self.revision, change.version))
            else:
                self.items.pop(change.key, None)
                life.standing.append(ABSENT)
            life.revisions.append(self.revision)
            shown = (change.kind, change.version, change.create_revision, self.revision, request_id, change.value)
            life.versions.append(shown)

    def ttls(self, request: Request[Any]) -> dict[str, float]:
        """The ttl_s that each key the request writes has afterwards: a put sets it, all else leaves it."""
        if isinstance(request, Put):
            return {request.key: request.ttl_s}
        merged = [request.key] if isinstance(request, Merge | Add | Append) else []
        found: dict[str, float] = {}
        if isinstance(request, Txn):
            for write in (*request.then, *request.otherwise):
                if isinstance(write, TxnPut):
                    found[write.key] = write.ttl_s
                elif write.key not in found:
                    merged.append(write.key)
        return {key: item.ttl_s for key in merged if (item := self.items.get(key))} | found

    def _holds(self, compare: Compare) -> bool:
        if isinstance(compare, CompareEntry):
            item = self.items.get(compare.key)
            return (getattr(item, compare.field) if item else 0) == compare.value
        return not any(
            key.startswith(compare.prefix) and item.mod_revision > compare.max_mod_revision
            for key, item in self.items.items()
        )

    def _change(self, write: Put | Delete | Merge | Add | Append | TxnWrite) -> Change | None:
        before = self.items.get(write.key)
        revision = self.revision + 1
        if isinstance(write, Delete | TxnDelete):
            if before is None:
                return None
            created = before.create_revision
            return Change(kind="delete", key=write.key, create_revision=created, mod_revision=revision)
        if isinstance(write, Put | TxnPut):
            value = msgpack.decode(write.value)
        elif isinstance(write, Add | TxnAdd):
            value = (before.value if before else 0) + write.number
        elif isinstance(write, Append | TxnAppend):
            value = [*(before.value if before else []), *msgpack.decode(write.values)]
        else:
            value = merged(before.value if before else {}, msgpack.decode(write.patch))
        return Change(
            kind="put",
            key=write.key,
            value=value,
            version=before.version + 1 if before else 1,
            create_revision=before.create_revision if before else revision,
            mod_revision=revision,
        )


def written_keys(request: Request[Any]) -> set[str]:
    """The keys that a request may write."""
    if isinstance(request, Txn):
        return {write.key for write in (*request.then, *request.otherwise)}
    return {request.key} if isinstance(request, Put | Delete | Merge | Add | Append) else set()


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
