"""Quotas: the counters are what a recount finds, and what is admitted keeps within them, whatever waits meanwhile.

Rule: the oracle counts entries one by one and knows nothing of `Usage`; each seeded fault has to be seen by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from msgspec import structs

from cosession.errors import CosessionError
from cosession.messages.limits import LIMITS
from cosessiond.clock import SystemClock
from cosessiond.metrics import Metrics
from cosessiond.store.engine import Batch, Delete, Entry, Put
from cosessiond.store.index import Index, entry_bytes
from cosessiond.store.memory import MemoryEngine
from cosessiond.store.queued import Queued
from cosessiond.store.revisions import Store
from cosessiond.store.tickets import Slice, Ticket
from cosessiond.store.usage import LOOKED_MAX, Tally, Usage, Used
from store.engines import EPOCH, add, append, batch, delete, expect, id_of, merge, put, raw
from store.generated import SMALL_WINDOW, sequences

#: Below what the configuration may ask for, so that small examples reach them.
TIGHT = structs.replace(
    LIMITS, project_bytes_max=40, project_entries_max=4, session_bytes_max=30, session_entries_max=3
)
SEARCH = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)


class Bench:
    """A store whose queue waits until it is told to commit."""

    def __init__(self, limits: Any = LIMITS, index: type[Index] = Index, queued: type[Queued] = Queued) -> None:
        self.engine = MemoryEngine(EPOCH, SMALL_WINDOW)
        self.metrics = Metrics()
        self.store = Store(
            self.engine,
            clock=SystemClock(),
            limits=limits,
            metrics=self.metrics,
            host="h",
            on_broken=lambda error: pytest.fail(str(error)),
            on_bug=lambda error: pytest.fail(str(error)),
        )
        self.store.index = index()
        self.store._queued = queued()
        self.store.attach(self)  # type: ignore[arg-type]
        self._waiting: list[Ticket] = []

    def submit(self, ticket: Ticket) -> None:
        """See `CommitPath`."""
        self._waiting.append(ticket)

    def run(self, job: Slice) -> None:
        """See `CommitPath`."""
        raise AssertionError(job)

    def commit(self, most: int = 1_000) -> None:
        """Commit the first `most` batches that wait."""
        group, self._waiting = self._waiting[:most], self._waiting[most:]
        self.store.publish(group, self.engine.apply([ticket.batch for ticket in group]))

    def write(self, *made: Batch) -> None:
        """Submit and commit."""
        for each in made:
            self.store.submit(each, lambda _: None)
        self.commit()

    def refused(self, made: Batch) -> CosessionError | None:
        """Submit, and why not."""
        try:
            self.store.submit(made, lambda _: None)
        except CosessionError as error:
            return error
        return None


def recount(entries: Sequence[Entry]) -> dict[str, dict[Any, Used]]:
    """What each has, entry by entry."""
    found: dict[str, dict[Any, Used]] = {"projects": {}, "sessions": {}, "shares": {}}
    for entry in entries:
        space, project, _ = entry.id
        if space != "context":
            continue
        names = {"projects": project, "sessions": entry.session, "shares": (project, entry.session)}
        for kind, name in names.items():
            if name:
                size, count = found[kind].get(name, (0, 0))
                found[kind][name] = Used(size + entry_bytes(entry.id, entry.value), count + 1)
    return found


def counted(usage: Usage) -> dict[str, dict[Any, Used]]:
    """What the counters say, in the form of `recount`."""
    shares = {(project, name): used for project, _ in usage.projects for name, used in usage.largest_in(project, 99)}
    return {"projects": dict(usage.projects), "sessions": dict(usage.sessions), "shares": shares}


def is_counted(batches: Sequence[Batch], index: type[Index] = Index) -> bool:
    """Whether the counters agree with a recount after each batch, and with those of a start from what is left."""
    bench = Bench(index=index)
    for each in batches:
        bench.write(each)
        entries = list(bench.engine.entries())
        if not counted(bench.store.index.usage) == recount(entries) == counted(index(entries).usage):
            return False
    return not len(bench.store._queued.projects) and not len(bench.store._queued.sessions)


@settings(max_examples=60)
@given(sequences)
def test_the_counters_are_what_a_recount_finds(batches: list[Batch]) -> None:
    assert is_counted(batches)


class KeepsWhatWasDeleted(Index):
    """A counter is not lowered when an entry is deleted, or expires."""

    def remove(self, id: Any) -> None:
        before = self.get(id)
        super().remove(id)
        if before is not None and id[0] == "context":
            self.usage.add(id[1], before.session, entry_bytes(id, before.value), 1)


class LeavesItWithTheFirst(Index):
    """Who wrote an entry before goes on paying for it."""

    def put(self, entry: Entry) -> None:
        before = self.get(entry.id)
        super().put(entry if before is None else structs.replace(entry, session=before.session))


class KeepsTheOldSize(Index):
    """What an entry had before it was replaced stays counted."""

    def put(self, entry: Entry) -> None:
        before = self.get(entry.id)
        super().put(entry)
        if before is not None and entry.id[0] == "context":
            self.usage.add(entry.id[1], before.session, entry_bytes(before.id, before.value), 0)


class CountsOurs(Index):
    """Spaces that are not the context count as well."""

    def put(self, entry: Entry) -> None:
        super().put(entry)
        if entry.id[0] != "context":
            self.usage.add(entry.id[1], entry.session, 1, 1)


@pytest.mark.parametrize("fault", [KeepsWhatWasDeleted, LeavesItWithTheFirst, KeepsTheOldSize, CountsOurs])
def test_a_counter_that_is_wrong_is_seen(fault: type[Index]) -> None:
    """Raises hypothesis.errors.NoSuchExample when it is not."""
    find(sequences, lambda batches: not is_counted(batches, fault), settings=SEARCH)


# -- admission -------------------------------------------------------------------------------------------------------

_ids = st.builds(
    id_of, st.sampled_from("abcde"), st.sampled_from(["context", "context", "context", "$ours"]), st.sampled_from("pq")
)
_puts = st.builds(Put, _ids, st.sampled_from([0, 4, 8, 16, 24]).map("x".__mul__).map(raw))
_writes = _puts | _puts | _puts | st.builds(Delete, _ids)
_branches = st.lists(_writes, min_size=1, max_size=2, unique_by=lambda write: write.id).map(tuple)
_batches = st.builds(
    lambda then, otherwise, session, fails: batch(
        *then, otherwise=otherwise, when=(expect("a", "version", 77),) if fails else (), session=session
    ),
    _branches,
    _branches,
    st.sampled_from(["", "s1", "s2"]),
    st.sampled_from([False, False, True]),
)
#: A batch to submit, or how many of those that wait are committed.
steps = st.lists(_batches | _batches | _batches | st.integers(1, 3), min_size=5, max_size=20)


def keeps_within(found: Sequence[Batch | int], queued: type[Queued] = Queued) -> bool:
    """Whether no moment sees anybody above a quota, and no deletion or shrinking is refused."""
    bench = Bench(TIGHT, queued=queued)
    for step in [*found, 1_000]:
        if isinstance(step, int):
            bench.commit(step)
            seen = recount(list(bench.engine.entries()))
            for kind, most in (("projects", Used(40, 4)), ("sessions", Used(30, 3))):
                if any(used.bytes > most.bytes or used.entries > most.entries for used in seen[kind].values()):
                    return False
        else:
            error = bench.refused(step)
            if error is not None and error.code != "quota_exceeded":
                return False
    return True


@settings(max_examples=150)
@given(steps)
def test_what_is_admitted_keeps_within_the_quotas(found: list[Batch | int]) -> None:
    assert keeps_within(found)


class ForgetsWhatWaits(Queued):
    """What is on its way counts for nobody."""

    def _count(self, batch: Batch, size: int, sign: int) -> None:
        super()._count(batch, size, sign)
        self.projects, self.sessions = Tally(), Tally()


def test_an_admission_that_ignores_what_is_queued_is_seen() -> None:
    find(steps, lambda found: not keeps_within(found, ForgetsWhatWaits), settings=SEARCH)


def _entries_of(*numbers: int) -> list[Put]:
    return [put(f"k{number}") for number in numbers]


FULL: dict[str, Callable[[Bench], None]] = {
    "project_entries_max": lambda bench: bench.write(
        batch(put("k1"), session=""), batch(*_entries_of(2, 3, 4), session="s")
    ),
    "session_entries_max": lambda bench: bench.write(batch(*_entries_of(1, 2, 3), session="s")),
    "project_bytes_max": lambda bench: bench.write(
        batch(put("k1", "x" * 31), session="s"), batch(put("k2"), session="")
    ),
    "session_bytes_max": lambda bench: bench.write(batch(put("k1", "x" * 27), session="s")),
}


@pytest.mark.parametrize("quota", FULL)
def test_a_refusal_says_which_quota_and_who_has_most(quota: str) -> None:
    loose = {name: getattr(LIMITS, name) for name in FULL if name != quota}
    bench = Bench(structs.replace(TIGHT, **loose))
    FULL[quota](bench)
    error = bench.refused(batch(put("new", "y"), session="s"))
    assert error is not None
    assert (error.code, error.data["quota"], error.data["limit"]) == ("quota_exceeded", quota, getattr(TIGHT, quota))
    assert error.message.startswith("cannot put: ")
    assert f"raise limits.{quota}" in error.message
    assert bench.metrics.snapshot() == {f"limit.{quota.removesuffix('_max')}": 1}
    usage = bench.store.index.usage
    if quota.startswith("project"):
        assert error.data["project"] == "p"
        assert error.data["used"] == getattr(usage.projects.of("p"), quota.split("_")[1])
        assert {each["session"] for each in error.data["most"]} == {"", "s"}
        assert "most is of session 's'" in error.message
    else:
        assert error.data["session"] == "s"
        assert [each["project"] for each in error.data["most"]] == ["p"]
        assert bench.refused(batch(put("new", "y"), session="other")) is None
    assert bench.refused(batch(delete("k1"), session="s")) is None


def test_what_shrinks_passes_above_a_quota_that_was_lowered() -> None:
    bench = Bench()
    bench.write(batch(put("map", {"a": "x" * 50, "b": 1}), put("list", ["y" * 50]), put("number", 70_000), session="s"))
    bench.store.configure(TIGHT)
    for grows in (put("number", 2**40), add("number", 2**40), append("list", 1), merge("map", {"c": 1}), put("new")):
        error = bench.refused(batch(grows, session="s"))
        assert error is not None, grows
        assert error.code == "quota_exceeded"
    for shrinks in (put("number", 70_001), add("number", -69_999), merge("map", {"b": None}), put("list", [])):
        assert bench.refused(batch(shrinks, session="s")) is None, shrinks
    assert bench.refused(batch(delete("map"), put("new", {"z": 1}), session="s")) is None, "less in all"
    assert bench.refused(batch(put("list", []), session="another")) is None, "the writer pays, and has room"


def test_a_quota_that_is_not_below_the_limit_of_all_says_nothing() -> None:
    bench = Bench(structs.replace(LIMITS, live_entries_max=2, project_entries_max=2))
    bench.write(batch(*_entries_of(1, 2)))
    error = bench.refused(batch(put("k3")))
    assert error is not None
    assert error.code == "store_full"


def test_of_very_many_names_the_first_are_looked_at() -> None:
    tally = Tally()
    for number in range(LOOKED_MAX + 1):
        tally.add(str(number), number, 1)
    assert tally.largest(2) == [
        (str(LOOKED_MAX - 1), Used(LOOKED_MAX - 1, 1)),
        (str(LOOKED_MAX - 2), Used(LOOKED_MAX - 2, 1)),
    ]


def test_a_name_that_has_nothing_is_not_kept() -> None:
    bench = Bench()
    bench.write(batch(put("k"), session="s"))
    assert (len(bench.store.index.usage.projects), len(bench.store.index.usage.sessions)) == (1, 1)
    bench.write(batch(delete("k")))
    assert counted(bench.store.index.usage) == {"projects": {}, "sessions": {}, "shares": {}}
    assert Counter(bench.store.index.usage._shares) == Counter()


def test_letters_count_for_the_project_of_their_box_and_reading_them_is_never_refused() -> None:
    bench = Bench(TIGHT)
    letters = [id_of(f"box/{number}", "$mail") for number in range(4)]
    bench.write(
        *(batch(Put(letter, raw("x")), session="a" if number < 3 else "b") for number, letter in enumerate(letters))
    )
    assert bench.store.index.usage.projects.of("p").entries == 4
    full = bench.refused(batch(Put(id_of("box/5", "$mail"), raw("x")), session="c"))
    assert full is not None
    assert (full.code, full.data["quota"]) == ("quota_exceeded", "project_entries_max")
    assert bench.refused(batch(put("k", 1), session="c")) is not None, "the context and letters count together"
    reading = batch(Put(letters[3], raw("x" * 20)), session="a")
    assert bench.refused(reading) is not None, "as a letter of its reader it is one too many"
    assert (
        bench.refused(structs.replace(reading, origin=structs.replace(reading.origin, operation="mail.read"))) is None
    )
    bench.write(*(batch(Delete(letter)) for letter in letters))
    assert bench.store.index.usage.projects.of("p") == Used(0, 0)
