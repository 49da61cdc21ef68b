"""SQLite under a random life (groups, repeats, restarts, trimming, reads of the past), the specification beside it.

Rule: every step is taken by both and must be answered alike; a step that only one of them takes (a restart) must not
show. That the machine can fail is shown by the seeded faults.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from cosessiond.store.behind import Behind, Step
from cosessiond.store.engine import Batch, Engine, Entry, EntryId, StoreBroken, Window
from cosessiond.store.memory import MemoryEngine
from store import generated
from store.comparing import answers, apply_both, ids_of, told, unequal
from store.engines import EPOCH, UNBOUNDED, Place, trim_all
from store.seeded import with_fault

#: Enough at once that versions and batches fall out of the window before the machine's steps are used up.
_MANY = st.lists(generated.batches, min_size=8, max_size=12)
_PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault of the store
_REVISIONS_BACK = st.integers(min_value=0, max_value=8)


class EngineMachine(RuleBasedStateMachine):
    """One SQLite store in a directory of its own, and its oracle."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.place = self.place_in(Path(self.directory.name))
        self.engine = self.place.open(generated.SMALL_WINDOW)
        self.oracle = MemoryEngine(EPOCH, generated.SMALL_WINDOW)
        self.ids: list[EntryId] = ids_of([])

    def place_in(self, directory: Path) -> Place:
        return Place("sqlite", directory)

    @rule(target=sent, batches=st.lists(generated.batches, min_size=1, max_size=3) | _MANY)
    def apply_group(self, batches: Sequence[Batch]) -> object:
        self.ids = sorted({*self.ids, *ids_of(batches)})
        assert apply_both(self.engine, self.oracle, batches, groups=[len(batches)]) == []
        return multiple(*[each for each in batches if each.origin.request_id])

    @rule(batch=sent, time_ms=st.sampled_from([0, 100, 300]), others=st.lists(generated.batches, max_size=2))
    def repeat(self, batch: Batch, time_ms: int, others: list[Batch]) -> None:
        self.ids = sorted({*self.ids, *ids_of(others)})
        group = [*others, replace(batch, time_ms=time_ms)]
        assert apply_both(self.engine, self.oracle, group, groups=[len(group)]) == []

    @rule(batch=sent)
    def reuse(self, batch: Batch) -> None:
        other = replace(batch, origin=replace(batch.origin, request_hash=b"three"))
        assert apply_both(self.engine, self.oracle, [other], groups=[1]) == []

    @rule()
    def reopen(self) -> None:
        self.engine = self.place.reopen()

    @rule(rows_max=st.sampled_from([0, 1, 10]))
    def crash(self, rows_max: int) -> None:
        """What is behind the log is derived from it again, also when a part was written just before."""
        if rows_max:
            assert self.engine.settle(rows_max)
        self.engine = self.place.crash()

    @rule(rows_max=st.sampled_from([1, 10, 100]))
    def settle_a_slice(self, rows_max: int) -> None:
        before = self.engine.unsettled_rows
        assert self.engine.settle(rows_max)
        assert self.engine.unsettled_rows < before or not before

    @rule(rows_max=st.sampled_from([1, 2, 100]))
    def trim_a_slice(self, rows_max: int) -> None:
        """A slice is only about as large as asked for, so the oracle follows to where the engine went."""
        dropped = self.engine.trim(rows_max)
        reached = self.engine.position().compact_revision
        while self.oracle.position().compact_revision < reached:
            assert self.oracle.trim(1), "trimmed more than the window allows"
        while not dropped and self.oracle.trim(1):
            assert self.oracle.position().compact_revision == reached, "stopped trimming too early"

    @precondition(lambda self: self.oracle.position().revision)
    @rule(id=generated.ids, back=_REVISIONS_BACK, limit=st.integers(min_value=1, max_value=3), after=generated.ids)
    def read_at(self, id: EntryId, back: int, limit: int, after: EntryId) -> None:
        position = self.oracle.position()
        revision = max(position.compact_revision, position.revision - back)
        both = (self.engine, self.oracle)
        mine, theirs = (told(lambda each=each: each.entry_at(id, revision)) for each in both)
        assert mine == theirs
        space, project, prefix = id
        for start in ("", after[2]):
            asked = {"prefix": prefix[:1], "after": start, "limit": limit, "revision": revision}
            mine, theirs = (told(partial(each.range_at, space, project, **asked)) for each in both)
            assert mine == theirs

    @rule(id=generated.ids, limit=st.integers(min_value=1, max_value=4), back=_REVISIONS_BACK)
    def history(self, id: EntryId, limit: int, back: int) -> None:
        before = max(0, self.oracle.position().revision - back)
        assert self.engine.history(id, limit, before) == self.oracle.history(id, limit, before)

    @rule(id=generated.ids, back=_REVISIONS_BACK, rows_max=st.integers(min_value=1, max_value=3), twice=st.booleans())
    def purge(self, id: EntryId, back: int, rows_max: int, twice: bool) -> None:
        """All of it, in slices; doing it again does nothing. How many versions that are may differ: one engine may have
        trimmed more of what nobody can ask for.
        """
        before = max(0, self.oracle.position().revision + 1 - back)
        for each in (self.engine, self.oracle):
            for again in range(1 + twice):
                after, more = 0, True
                while more:
                    done = each.purge(id, before=before, after=after, rows_max=rows_max)
                    assert done is not None
                    assert not (again and done.values), "purged twice"
                    after, more = done.reached, done.more

    @rule(rows_max=st.integers(min_value=1, max_value=4), bytes_max=st.sampled_from([1, 300, 2_000, UNBOUNDED]))
    def catch_up(self, rows_max: int, bytes_max: int) -> None:
        """Page through the changes as a lagging watcher does."""
        after = self.oracle.position().compact_revision - 1
        while page := self.engine.changes(after, rows_max, bytes_max):
            assert page == self.oracle.changes(after, rows_max, bytes_max)
            after = page[-1].revision
        assert after == self.oracle.position().revision

    @invariant()
    def stands_where_the_oracle_stands(self) -> None:
        assert self.engine.position() == self.oracle.position()

    def teardown(self) -> None:
        try:
            for rest in ("before the last trimming", "after it"):
                assert unequal(rest, answers(self.engine, self.ids), answers(self.oracle, self.ids)) == []
                for each in (self.engine, self.oracle):
                    trim_all(each)
        finally:
            self.place.close()
            self.directory.cleanup()


TestEngineMachine = EngineMachine.TestCase
# Every seeded fault below shows within far fewer; the runs without CI look at other examples each time.
TestEngineMachine.settings = settings(_PATIENT, max_examples=40, stateful_step_count=25)


class _FaultyPlace(Place):
    """A store in memory with a seeded fault."""

    def crash(self) -> Engine:
        return self.reopen()

    def open(self, window: Window = generated.SMALL_WINDOW) -> Engine:
        self._engine = with_fault(self.name, EPOCH, window)
        return self._engine

    def reopen(self) -> Engine:
        assert self._engine is not None
        return self._engine


def _blind(_: Behind, *__: object) -> dict[str, Entry | None]:
    return {}


def _forgetful(_: Behind, __: str) -> None:
    return None


def _one_ahead(behind: Behind, rows_max: int) -> list[Step]:
    """The position of the next batch is recorded with the rows of those before it."""
    steps = list(behind._steps)[: max(1, rows_max // 3)]
    return [*steps[:-1], steps[-1]._replace(meta=behind._steps[-1].meta)]


def _lax(behind: Behind, steps: list[Step]) -> None:
    for step in steps:
        behind._steps.popleft()
        behind.rows -= step.rows


# With a seed whose ten lives meet the fault. When the rules of the machine change, the next ones are tried: that takes
# longer, until the number here is the one that meets it again.
_BEHIND = {
    "a read of the past does not see what is behind": ("standing", _blind, 0),
    "a history ends where the table does": ("history", lambda _, __: [], 1),
    "a request that is behind is not known": ("kept", _forgetful, 2),
    "the position is recorded ahead of the rows": ("first", _one_ahead, 0),
}


@pytest.mark.parametrize("name", _BEHIND)
def test_the_machine_finds_a_fault_in_what_is_written_behind(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, fault, number = _BEHIND[name]

    class Machine(EngineMachine):
        pass  # a seed is set on the class

    monkeypatch.setattr(Behind, attribute, fault)
    if attribute == "first":
        monkeypatch.setattr(Behind, "written", _lax)
    _find_a_fault(Machine, number, steps=15)


# One of each kind; the rest are tried on the driver that the machine shares with the replay.
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("BlindCompare", 0),
        ("StaleRead", 0),
        ("ForgottenRequest", 15),
        ("TrimsOneBatchTooMany", 4),
        ("HistoryOffByOne", 0),
        ("ChainSkip", 0),
        ("PurgesOneTooFew", 6),
    ],
)
def test_the_machine_finds_a_seeded_fault(name: str, number: int) -> None:
    class Faulty(EngineMachine):
        def place_in(self, directory: Path) -> Place:
            return _FaultyPlace(name, directory)

    _find_a_fault(Faulty, number, steps=12)


def _find_a_fault(machine: type[EngineMachine], number: int, *, steps: int) -> None:
    """Lives, ten of each seed from `number` on, until one meets the fault."""
    settled = settings(
        _PATIENT,
        max_examples=10,
        stateful_step_count=steps,
        derandomize=False,
        database=None,
        phases=[Phase.generate],
    )
    for each in range(number, number + 40):
        try:
            run_state_machine_as_test(seed(each)(machine), settings=settled)
        except (AssertionError, StoreBroken):
            return
    pytest.fail("no life met the fault")
