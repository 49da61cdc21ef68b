"""The judge: what the writers were told against what the log says, by replaying every request in the log's order.

The watcher's log gives each revision its changes; the journals say which request was answered with which revision. So
every committed revision must be somebody's request (or an expiry), and evaluating that request against a model in plain
dicts must give exactly those changes and exactly that answer: nothing lost, nothing refused is there, whole batches
only. What took no revision (reads, conflicts) must fit a moment between its sending and its answer.

Rule: shares no code with the daemon's store; the model is these few lines, to be read and believed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import msgpack

from cosession.messages import Request
from cosession.messages.store import (
    Compare,
    CompareEntry,
    Delete,
    DeleteReply,
    Get,
    GetReply,
    Merge,
    MergeReply,
    Put,
    PutReply,
    Txn,
    TxnDelete,
    TxnPut,
    TxnReply,
    TxnWrite,
)
from cosession.messages.watches import WatchEvent
from cosession.model import Change, Entry, Version, Written
from durability.journal import Deed

VERSIONS_KEPT: Final = 50
#: A clock of milliseconds under two that were rounded.
ROUNDING_S: Final = 0.002
SHOWN_MAX: Final = 20
#: Every kind of violation: what breaks a promise by what was seen, and what came to an end that should have gone on.
JUDGED: Final = frozenset(
    {
        "answer",
        "duplicate",
        "early",
        "gap",
        "history",
        "log",
        "lost",
        "order",
        "refusal",
        "stale",
        "stranger",
        "unguarded",
    }
)
ENDED: Final = frozenset({"daemon", "end", "epoch", "start", "watch", "writer"})
_decode_event = msgpack.Decoder(WatchEvent).decode


class Found:
    """What was found wrong: counted by kind, the first of each kind in words."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.words: list[str] = []

    def add(self, kind: str, what: str) -> None:
        """One violation."""
        assert kind in JUDGED | ENDED, f"{kind} is no kind of violation; add it to those above"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= 3 and len(self.words) < SHOWN_MAX:
            self.words.append(f"{kind}: {what}")

    def __bool__(self) -> bool:
        return bool(self.counts)


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
        return self.standing[index - 1] if index else (0, 0, 0)

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

    def evaluate(self, request: Request[Any]) -> tuple[bool, list[Change]]:
        """Whether the compares hold now, and the changes that the request makes at the next revision."""
        if isinstance(request, Txn):
            succeeded = all(self._holds(compare) for compare in request.compares)
            writes = request.then if succeeded else request.otherwise
            return succeeded, [change for write in writes if (change := self._change(write))]
        assert isinstance(request, Put | Delete | Merge), "only writes take revisions"
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
                life.standing.append((0, 0, 0))
            life.revisions.append(self.revision)
            shown = (change.kind, change.version, change.create_revision, self.revision, request_id, change.value)
            life.versions.append(shown)

    def ttls(self, request: Request[Any]) -> dict[str, float]:
        """The ttl_s that each key the request writes has afterwards: a put sets it, a merge leaves it."""
        if isinstance(request, Put):
            return {request.key: request.ttl_s}
        merged = [request.key] if isinstance(request, Merge) else []
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

    def _change(self, write: Put | Delete | Merge | TxnWrite) -> Change | None:
        before = self.items.get(write.key)
        revision = self.revision + 1
        if isinstance(write, Delete | TxnDelete):
            if before is None:
                return None
            created = before.create_revision
            return Change(kind="delete", key=write.key, create_revision=created, mod_revision=revision)
        if isinstance(write, Put | TxnPut):
            value = msgpack.decode(write.value)
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


class Judge:
    """Judges one finished run. `before`: the revision the log starts behind; what is there then goes into `model`."""

    def __init__(self, model: Model, log: Sequence[bytes], found: Found) -> None:
        self.model = model
        self.found = found
        self._first = model.revision + 1
        self._log = log

    @property
    def last(self) -> int:
        """The newest revision of the log."""
        return self._first - 1 + len(self._log)

    def judge(self, deeds: Sequence[Deed]) -> None:
        """Everything that can be said from the log and the journals."""
        committed = self._by_revision(deeds)
        for revision, body in enumerate(self._log, self._first):
            event = _decode_event(body)
            deed = committed.get(revision)
            if deed is None:
                self._expiry(revision, event.changes)
            else:
                self._replay(deed, revision, event.changes)
        for deed in deeds:
            if deed.code:
                self._refusal(deed)
            elif deed.method == "get":
                self._reading(deed)
            elif revision_of(deed) == 0:
                self._nothing(deed)
        self._order(list(committed.items()), deeds)

    # -- what took a revision --------------------------------------------------------------------------------------

    def _by_revision(self, deeds: Sequence[Deed]) -> dict[int, Deed]:
        found: dict[int, Deed] = {}
        for deed in deeds:
            revision = 0 if deed.code else revision_of(deed)
            if revision == 0:
                continue
            if not self._first <= revision <= self.last:
                self.found.add("lost", f"{deed.name} was acknowledged at {revision}, the log ends at {self.last}")
            elif revision in found:
                other = found[revision].name
                self.found.add("lost", f"{deed.name} and {other} were both acknowledged at {revision}")
            else:
                found[revision] = deed
        return found

    def _replay(self, deed: Deed, revision: int, changes: list[Change]) -> None:
        request = deed.request()
        succeeded, expected = self.model.evaluate(request)
        if not succeeded and not getattr(request, "otherwise", None):
            self.found.add("unguarded", f"{deed.name} was committed at {revision} although its compare fails there")
        elif [_core(change) for change in expected] != [_core(change) for change in changes]:
            self.found.add("lost", f"{deed.name} at {revision} should be {_brief(expected)}, is {_brief(changes)}")
        elif wrong := _wrong_reply(deed, succeeded, expected):
            self.found.add("answer", f"{deed.name} at {revision} was answered with another {wrong}")
        self.model.apply(changes, self.model.ttls(request), deed.name)

    def _expiry(self, revision: int, changes: list[Change]) -> None:
        for change in changes:
            item = self.model.items.get(change.key)
            if change.kind != "expire" or item is None or not item.ttl_s:
                self.found.add("stranger", f"revision {revision} was nobody's to write: {_brief(changes)}")
                break
            if change.time - item.time < item.ttl_s - ROUNDING_S:
                lived = change.time - item.time
                self.found.add("early", f"{change.key} expired at {revision} after {lived:.3f} s of {item.ttl_s:g} s")
        self.model.apply(changes, {}, "")

    # -- what took none --------------------------------------------------------------------------------------------

    def _refusal(self, deed: Deed) -> None:
        if deed.code != "conflict":
            self.found.add("refusal", f"{deed.name} was refused with {deed.code}")
            return
        request, data = deed.request(), deed.data()
        current = data.get("current")
        if isinstance(request, Txn):
            compare: Compare = request.compares[data["compare"]]
        else:
            assert isinstance(request, Put), "only puts and transactions of this workload compare"
            compare = CompareEntry(key=request.key, value=int(request.expect_revision))  # type: ignore[arg-type]
        shown = (current["create_revision"], current["mod_revision"], current["version"]) if current else (0, 0, 0)
        if isinstance(compare, CompareEntry):
            key = compare.key
            index = ("create_revision", "mod_revision", "version").index(compare.field)
            fails = shown[index] != compare.value
        else:
            key = current["key"] if current else ""
            fails = key.startswith(compare.prefix) and shown[1] > compare.max_mod_revision
        if not fails:
            self.found.add("refusal", f"{deed.name} was a conflict with {current}, but that is what it expected")
        elif shown not in self.model.life(key).between(deed.known, deed.revision):
            where = f"from {deed.known} to {deed.revision}"
            self.found.add("stale", f"{deed.name} was a conflict with {shown} of {key}, which did not stand {where}")

    def _reading(self, deed: Deed) -> None:
        request, reply = deed.request(), deed.reply()
        assert isinstance(request, Get)
        assert isinstance(reply, GetReply)
        entry = reply.entry
        shown = (entry.create_revision, entry.mod_revision, entry.version) if entry else (0, 0, 0)
        stood = self.model.life(request.key).at(reply.revision)
        if shown != stood or reply.revision < deed.known:
            what = f"{request.key} as {shown} at {reply.revision}"
            self.found.add("stale", f"{deed.name} read {what}, there stood {stood}; it knew revision {deed.known}")

    def _nothing(self, deed: Deed) -> None:
        request = deed.request()
        if isinstance(request, Delete):
            if (0, 0, 0) not in self.model.life(request.key).between(deed.known, deed.revision):
                self.found.add("lost", f"{deed.name} found no {request.key} to delete, but it was there all the time")
        elif not isinstance(request, Txn):
            self.found.add("lost", f"{deed.name} ({deed.method}) was answered without a revision")

    # -- order -----------------------------------------------------------------------------------------------------

    def _order(self, committed: list[tuple[int, Deed]], deeds: Sequence[Deed]) -> None:
        """Whoever began after another had ended comes after it (P3); one connection's writes stay in order."""
        committed.sort()
        ended = float("inf")
        for revision, deed in reversed(committed):
            if ended < deed.began_s:
                self.found.add("order", f"{deed.name} at {revision} began after a later revision had been acknowledged")
            ended = min(ended, deed.ended_s)
        newest: dict[int, tuple[int, int]] = {}
        for revision, deed in committed:
            serial, before = newest.get(deed.writer, (0, 0))
            if serial > deed.serial and not _may_come_late(deed):
                self.found.add("order", f"{deed.name} at {revision} was sent before what is at {before}")
            newest[deed.writer] = (deed.serial, revision)
        self._reads_in_order(committed, deeds)

    def _reads_in_order(self, committed: list[tuple[int, Deed]], deeds: Sequence[Deed]) -> None:
        ends = sorted((deed.ended_s, revision) for revision, deed in committed)
        moments = [moment for moment, _ in ends]
        highest: list[int] = []
        for _, revision in ends:
            highest.append(max(revision, highest[-1] if highest else 0))
        for deed in deeds:
            if deed.method == "get" and not deed.code:
                index = bisect_left(moments, deed.began_s)
                if index and highest[index - 1] > deed.revision:
                    known = highest[index - 1]
                    self.found.add("stale", f"{deed.name} read at {deed.revision} when {known} was acknowledged")

    # -- what the store shows at the end ---------------------------------------------------------------------------

    def judge_entries(self, entries: Iterable[Entry]) -> None:
        """The entries as listed at the last revision."""
        items = dict(self.model.items)
        for entry in entries:
            item = items.pop(entry.key, None)
            head = (entry.version, entry.create_revision, entry.mod_revision)
            if item is None or (item.version, item.create_revision, item.mod_revision) != head:
                self.found.add("lost", f"{entry.key} is listed as {head}, should be {item and item.mod_revision}")
            elif item.value != entry.value:
                self.found.add("lost", f"{entry.key} is listed with another value than written at {item.mod_revision}")
        for key, item in items.items():
            self.found.add("lost", f"{key} of revision {item.mod_revision} is not listed")

    def judge_history(self, key: str, versions: Sequence[Version]) -> None:
        """The history of one key, newest first, as shown at the last revision or later."""
        known = [version for version in versions if version.mod_revision <= self.last]
        shown = [(v.kind, v.version, v.create_revision, v.mod_revision, v.request_id, v.value) for v in reversed(known)]
        expected = list(self.model.life(key).versions)
        newer = len(versions) - len(known)  # each has pushed out an older one, where the history was full
        if shown != expected[max(0, len(expected) + newer - VERSIONS_KEPT) :]:
            wrong = next((e[3] for e, s in zip(expected, shown, strict=False) if e != s), "their number")
            self.found.add("history", f"{key}: {len(shown)} versions shown, {len(expected)} expected; wrong: {wrong}")


def revision_of(deed: Deed) -> int:
    """The revision that a write was acknowledged at, 0 when it took none (or is no write)."""
    reply = deed.reply()
    if isinstance(reply, PutReply | MergeReply):
        return reply.written.mod_revision
    if isinstance(reply, DeleteReply):
        return reply.written.mod_revision if reply.written else 0
    return reply.txn_revision if isinstance(reply, TxnReply) else 0


def _may_come_late(deed: Deed) -> bool:
    """Whether a write may have had no effect when first sent, and one when repeated behind those sent after it."""
    request = deed.request()
    conditional = isinstance(request, Delete | Txn) or isinstance(getattr(request, "expect_revision", None), int)
    return deed.attempts > 1 and conditional


def _wrong_reply(deed: Deed, succeeded: bool, expected: list[Change]) -> str:
    """What of an acknowledgement is not as the model has it, "" when all is."""
    reply = deed.reply()
    written: list[Written] = []
    if isinstance(reply, TxnReply):
        if reply.succeeded != succeeded:
            return "branch"
        written = reply.written
    elif isinstance(reply, PutReply | MergeReply):
        written = [reply.written]
    elif isinstance(reply, DeleteReply):
        written = [reply.written] if reply.written else []
    heads = [(w.kind, w.key, w.version, w.create_revision, w.mod_revision) for w in written]
    if heads != [_core(change)[:5] for change in expected]:
        return "written"
    if isinstance(reply, MergeReply) and not (reply.repeated and reply.value is None):
        return "" if reply.value == expected[0].value else "value"
    return ""


def _core(change: Change) -> tuple[Any, ...]:
    return (change.kind, change.key, change.version, change.create_revision, change.mod_revision, change.value)


def _brief(changes: Sequence[Change]) -> str:
    return ", ".join(f"{c.kind} {c.key} v{c.version}" for c in changes) or "nothing"
