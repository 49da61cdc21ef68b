"""The judge: what the writers were told against what the log says, by replaying every request in the log's order.

The watcher's log gives each revision its changes; the journals say which request was answered with which revision. So
every committed revision must be somebody's request (or an expiry), and evaluating that request against a model in plain
dicts must give exactly those changes and exactly that answer: nothing lost, nothing refused is there, whole batches
only. What took no revision (reads, conflicts) must fit a moment between its sending and its answer. What a killed
writer never learned the end of is there once and whole, or not at all. The order in time is judged by order.py.

Rule: each request is looked at a fixed number of times, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import msgpack

from cosession.messages.store import (
    AddReply,
    AppendReply,
    Compare,
    CompareEntry,
    Delete,
    DeleteReply,
    Get,
    GetReply,
    MergeReply,
    PutReply,
    Range,
    RangeReply,
    Txn,
    TxnReply,
)
from cosession.messages.watches import WatchEvent
from cosession.model import Change, Entry, Version, Written
from durability.journal import Deed
from durability.model import ABSENT, ANYBODY, VERSIONS_KEPT, Model, written_keys
from durability.order import judge_order

#: A clock of milliseconds under two that were rounded.
ROUNDING_S: Final = 0.002
SHOWN_MAX: Final = 20
#: Every kind of violation: what breaks a promise by what was seen, and what came to an end that should have gone on.
JUDGED: Final = frozenset(
    {
        "answer",
        "duplicate",
        "early",
        "future",
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
ENDED: Final = frozenset({"backup", "daemon", "end", "epoch", "start", "watch", "writer"})
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


class Judge:
    """Judges one finished run. `before`: the revision the log starts behind; what is there then goes into `model`.

    `compact_revision`: that of the daemon at the end, below which it may refuse to read.
    """

    def __init__(self, model: Model, log: Sequence[bytes], found: Found, *, compact_revision: int = 0) -> None:
        self.model = model
        self.found = found
        self.adopted = 0  # requests of killed writers that were committed
        self._first = model.revision + 1
        self._log = log
        self._compact_revision = compact_revision
        self._unknown: dict[str, dict[str, Deed]] = {}  # by key, by name

    @property
    def last(self) -> int:
        """The newest revision of the log."""
        return self._first - 1 + len(self._log)

    def judge(self, deeds: Sequence[Deed], unknown: Sequence[Deed] = ()) -> None:
        """Everything that can be said from the log and the journals; `unknown`: what never ended for its writer."""
        committed = self._by_revision(deeds)
        for deed in unknown:
            for key in written_keys(deed.request()):
                self._unknown.setdefault(key, {})[deed.name] = deed
        for revision, body in enumerate(self._log, self._first):
            event = _decode_event(body)
            if revision in committed:
                self._replay(committed[revision], revision, event.changes)
            elif adopted := self._adopt(event.changes):
                committed[revision] = adopted
                self.adopted += 1
            else:
                self._expiry(revision, event.changes)
        for deed in deeds:
            if deed.code:
                self._refusal(deed)
            elif deed.method == "get":
                self._reading(deed)
            elif deed.method == "range":
                self._page(deed)
            elif revision_of(deed) == 0:
                self._nothing(deed)
        for kind, words in judge_order(committed, deeds):
            self.found.add(kind, words)

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

    def _adopt(self, changes: list[Change]) -> Deed | None:
        """The request of a killed writer that makes exactly these changes here, taken over; None when there is none."""
        cores = [_core(change) for change in changes]
        candidates = []
        for deed in self._unknown.get(changes[0].key, {}).values():
            succeeded, expected = self.model.evaluate(deed.request())
            if (succeeded or getattr(deed.request(), "otherwise", None)) and [_core(e) for e in expected] == cores:
                candidates.append(deed)
        if not candidates:
            return None
        deed = min(candidates, key=lambda each: each.began_s)
        for key in written_keys(deed.request()):
            del self._unknown[key][deed.name]
        request_id = deed.name if len(candidates) == 1 else ANYBODY
        self.model.apply(changes, self.model.ttls(deed.request()), request_id)
        return deed

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
        request = deed.request()
        if deed.code == "compacted" and isinstance(request, Get) and request.at_revision < self._compact_revision:
            return
        if deed.code != "conflict":
            self.found.add("refusal", f"{deed.name} was refused with {deed.code}")
            return
        data = deed.data()
        current = data.get("current")
        if isinstance(request, Txn):
            compare: Compare = request.compares[data["compare"]]
        else:
            compare = CompareEntry(key=request.key, value=int(request.expect_revision))
        shown = (current["create_revision"], current["mod_revision"], current["version"]) if current else ABSENT
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
        shown = _standing(reply.entry) if reply.entry else ABSENT
        at = request.at_revision or reply.revision
        stood = self.model.life(request.key).at(at)
        if shown[1] > at:
            self.found.add("future", f"{deed.name} read {request.key} as {shown} at {at}, where there stood {stood}")
        elif shown != stood or reply.revision < deed.known:
            what = f"{request.key} as {shown} at {at}"
            self.found.add("stale", f"{deed.name} read {what}, there stood {stood}; it knew revision {deed.known}")

    def _page(self, deed: Deed) -> None:
        request, reply = deed.request(), deed.reply()
        assert isinstance(request, Range)
        assert isinstance(reply, RangeReply)
        at = reply.read_revision
        stood = self.model.under(request.prefix, at)
        shown = {entry.key: _standing(entry) for entry in reply.entries}
        if wrong := sorted(key for key in stood.keys() | shown.keys() if stood.get(key) != shown.get(key)):
            key = wrong[0]
            kind = "future" if any(standing[1] > at for standing in shown.values()) else "stale"
            what = f"{key} as {shown.get(key)} at {at}, there stood {stood.get(key)}"
            self.found.add(kind, f"{deed.name} read in a page {what}")
        elif at < deed.known:
            self.found.add("stale", f"{deed.name} read a page of {at}; it knew revision {deed.known}")

    def _nothing(self, deed: Deed) -> None:
        request = deed.request()
        if isinstance(request, Delete):
            if ABSENT not in self.model.life(request.key).between(deed.known, deed.revision):
                self.found.add("lost", f"{deed.name} found no {request.key} to delete, but it was there all the time")
        elif not isinstance(request, Txn):
            self.found.add("lost", f"{deed.name} ({deed.method}) was answered without a revision")

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
        expected = expected[max(0, len(expected) + newer - VERSIONS_KEPT) :]
        shown = [(*s[:4], ANYBODY, s[5]) if e[4] == ANYBODY else s for e, s in zip(expected, shown, strict=False)] + (
            shown[len(expected) :]
        )
        if shown != expected:
            wrong = next((e[3] for e, s in zip(expected, shown, strict=False) if e != s), "their number")
            self.found.add("history", f"{key}: {len(shown)} versions shown, {len(expected)} expected; wrong: {wrong}")


def revision_of(deed: Deed) -> int:
    """The revision that a write was acknowledged at, 0 when it took none (or is no write)."""
    reply = deed.reply()
    if isinstance(reply, PutReply | MergeReply | AddReply | AppendReply):
        return reply.written.mod_revision
    if isinstance(reply, DeleteReply):
        return reply.written.mod_revision if reply.written else 0
    return reply.txn_revision if isinstance(reply, TxnReply) else 0


def _wrong_reply(deed: Deed, succeeded: bool, expected: list[Change]) -> str:
    """What of an acknowledgement is not as the model has it, "" when all is."""
    reply = deed.reply()
    written: list[Written] = []
    if isinstance(reply, TxnReply):
        if reply.succeeded != succeeded:
            return "branch"
        written = reply.written
    elif isinstance(reply, PutReply | MergeReply | AddReply | AppendReply):
        written = [reply.written]
    elif isinstance(reply, DeleteReply):
        written = [reply.written] if reply.written else []
    heads = [(w.kind, w.key, w.version, w.create_revision, w.mod_revision) for w in written]
    if heads != [_core(change)[:5] for change in expected]:
        return "written"
    if isinstance(reply, MergeReply | AddReply) and not (reply.repeated and reply.value is None):
        return "" if reply.value == expected[0].value else "value"
    if isinstance(reply, AppendReply) and not (reply.repeated and reply.length is None):
        return "" if reply.length == len(expected[0].value) else "length"
    return ""


def _standing(entry: Entry) -> tuple[int, int, int]:
    return (entry.create_revision, entry.mod_revision, entry.version)


def _core(change: Change) -> tuple[Any, ...]:
    return (change.kind, change.key, change.version, change.create_revision, change.mod_revision, change.value)


def _brief(changes: Sequence[Change]) -> str:
    return ", ".join(f"{c.kind} {c.key} v{c.version}" for c in changes) or "nothing"
