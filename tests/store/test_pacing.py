"""The policy alone, against any shape of work: backlogs stay within their bounds, nobody starves, no gap is too long.

Rule: no engine and no clock. A model adds and takes away work as the store does, in the units of the policy; that it
can fail is shown by the policies that forget something.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cosession.messages.limits import COMMIT_GROUP_MAX, COMMIT_GROUP_WRITES_MAX
from cosessiond.store import pacing
from cosessiond.store.pacing import Load, Pace

Share = Callable[[Load], float]
_loads = st.builds(
    Load, *[st.integers(0, 10**7)] * 4, is_asked=st.booleans(), is_unfinished=st.booleans()
)  # fmt: skip


class Model:
    """A store at the end of its window whose writers never pause: each batch that comes in makes one surplus."""

    def __init__(self, share: Share, pace: Pace) -> None:
        self.share = share
        self.pace = pace
        self.unsettled = 0
        self.unmoved = 0
        self.surplus: list[int] = []  # writes of each batch that is to go
        self.window = [1] * 64
        self.gaps_without_group = 0

    def load(self) -> Load:
        return Load(self.unsettled, self.unmoved, len(self.surplus))

    def step(self, writes: int) -> int:
        """One group of batches of `writes` writes, then slices; returns what these count as."""
        load = self.load()
        share = self.share(load)
        if share:
            group = max(1, int(min(share * COMMIT_GROUP_MAX, share * COMMIT_GROUP_WRITES_MAX / writes)))
            self.gaps_without_group = 0
            self.unsettled += group * (2 * writes + 1)
            self.unmoved += 4096 * group * writes
            self.window += [writes] * group
            self.surplus += self.window[:group]
            del self.window[:group]
        else:
            self.gaps_without_group += 1
        spent = 0
        slices = pacing.slices(self.load())
        left_s = pacing.GAP_S
        while spent < slices and (task := pacing.task(self.load(), waiting=True)):
            if task == "move" and spent:
                break
            rows = pacing.rows(self.load(), task, slices - spent, self.pace, left_s, is_first=not spent)
            if not rows:
                break
            left_s -= rows * pacing.GAP_S / max(rows, self.pace.rows(task, pacing.GAP_S))
            spent += self._do(task, rows)
        return spent

    def _do(self, task: pacing.Task, rows: int) -> int:
        if task == "move":
            self.unmoved = 0
            return pacing.MOVE_SLICES
        self.unmoved += 4096 * 8
        if task == "settle":
            self.unsettled = max(0, self.unsettled - rows)
            return -(-rows // pacing.SLICE_ROWS)
        left = rows
        while self.surplus and left > 0:
            rows = min(self.surplus[0] * 2, left)  # a look and a version for each write
            left -= rows
            if rows == self.surplus[0] * 2:
                self.surplus.pop(0)
            else:
                self.surplus[0] -= rows // 2
        return -(-rows // pacing.SLICE_ROWS)


def pace_of(rows_in_gap: float) -> Pace:
    """Of a machine that does so many rows of either kind in a whole gap."""
    pace = Pace()
    for task in ("settle", "trim"):
        pace.took(task, 1, pacing.GAP_S / rows_in_gap)
    return pace


def run(share: Share, shapes: list[int], pace: Pace, gaps_max: int = 2) -> None:
    """Each shape for a while, one after the other."""
    model = Model(share, pace)
    for writes in shapes:
        for _ in range(150):
            spent = model.step(writes)
            assert spent <= pacing.SLICES_MAX
            assert model.gaps_without_group <= gaps_max, "a writer waits for more than that"
            group = max(COMMIT_GROUP_MAX, 128)
            assert len(model.surplus) <= pacing.BACKLOG_TIMES_MAX * pacing.TRIM_DUE_BATCHES + group
            assert model.unsettled <= pacing.BACKLOG_TIMES_MAX * pacing.SETTLE_DUE_ROWS + 3 * COMMIT_GROUP_WRITES_MAX


_shapes = st.lists(st.sampled_from([1, 1, 2, 16, 64, 128]), min_size=1, max_size=4)


@given(_shapes)
@settings(max_examples=60)
def test_backlogs_stay_within_their_bounds_whatever_is_written(shapes: list[int]) -> None:
    run(pacing.share, shapes, Pace())


@pytest.mark.parametrize("rows_in_gap", [1, 300, 1_000, 4_000])
@given(_shapes)
@settings(max_examples=15)
def test_nor_do_they_on_a_machine_however_slow(rows_in_gap: int, shapes: list[int]) -> None:
    run(pacing.share, shapes, pace_of(rows_in_gap), gaps_max=4)


def _deaf(_: Load) -> float:
    return 1.0


def _late(load: Load) -> float:
    return 1.0 if pacing.backlog(load) < 2 else 0.0


@pytest.mark.parametrize("share", [_deaf, _late])
def test_a_policy_that_does_not_make_groups_smaller_is_found(share: Share) -> None:
    @given(_shapes)
    @settings(max_examples=60, derandomize=True, database=None, phases=[Phase.generate])
    def tried(shapes: list[int]) -> None:
        run(share, shapes, Pace())

    with pytest.raises(AssertionError):
        tried()


@given(_loads)
def test_what_is_overdue_is_done_and_the_rest_waits_for_a_pause(load: Load) -> None:
    busy, idle = pacing.task(load, waiting=True), pacing.task(load, waiting=False)
    assert busy is None or idle in (busy, "move") or load.is_asked, "who waits changes only what is put off"
    if pacing.backlog(load) >= 1 / 2:
        assert busy is not None
    assert 1 <= pacing.slices(load) <= pacing.SLICES_MAX
    assert 0.0 <= pacing.share(load) <= 1.0
    assert (pacing.share(load) == 1.0) == (pacing.backlog(load) <= 1 / 2)


@given(_loads)
def test_who_asked_for_trimming_gets_it_also_while_others_write(load: Load) -> None:
    assert pacing.task(load._replace(is_asked=True), waiting=True) is not None


@given(_loads, st.integers(1, pacing.SLICES_MAX), st.sampled_from(["settle", "trim"]))
def test_slices_are_joined_within_what_is_left_and_without_taking_all_from_the_other(
    load: Load, left: int, task: pacing.Task
) -> None:
    rows = pacing.rows(load, task, left, Pace(), pacing.GAP_S, is_first=True)
    assert pacing.SLICE_ROWS <= rows <= left * pacing.SLICE_ROWS
    other: pacing.Task = "trim" if task == "settle" else "settle"
    if left > 1 and pacing.rows(load, other, left, Pace(), pacing.GAP_S, is_first=True) > pacing.SLICE_ROWS:
        assert rows < left * pacing.SLICE_ROWS, "each is a whole slice behind"


@given(_loads, st.integers(1, 10_000), st.floats(-1.0, 1.0), st.sampled_from(["settle", "trim"]))
def test_a_piece_ends_in_time_by_the_pace_that_is_known(
    load: Load, rows_in_gap: int, part: float, task: pacing.Task
) -> None:
    pace, left_s = pace_of(rows_in_gap), part * pacing.GAP_S
    rows = pacing.rows(load, task, pacing.SLICES_MAX, pace, left_s, is_first=False)
    assert rows <= max(0, part * rows_in_gap) + 1
    first = pacing.rows(load, task, pacing.SLICES_MAX, pace, left_s, is_first=True)
    assert first == (rows or pacing.SLICE_ROWS * pacing.PART_MIN), "something is done in each gap"


def test_the_pace_follows_the_machine_within_a_few_pieces() -> None:
    pace = pace_of(1_000)
    for _ in range(16):
        pace.took("settle", 100, pacing.GAP_S)
    assert 100 <= pace.rows("settle", pacing.GAP_S) < 110
    assert round(pace.rows("trim", pacing.GAP_S)) == 1_000
    pace.took("trim", 0, 1.0)
    pace.took("trim", 7, 0.0)
    assert round(pace.rows("trim", pacing.GAP_S)) == 1_000, "from nothing nothing is learned"
