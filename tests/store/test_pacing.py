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
from cosessiond.store.pacing import Load

Share = Callable[[Load], float]
_loads = st.builds(
    Load, *[st.integers(0, 10**7)] * 4, is_asked=st.booleans(), is_unfinished=st.booleans()
)  # fmt: skip


class Model:
    """A store at the end of its window whose writers never pause: each batch that comes in makes one surplus."""

    def __init__(self, share: Share) -> None:
        self.share = share
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
        while spent < slices and (task := pacing.task(self.load(), waiting=True)):
            if task == "move" and spent:
                break
            spent += self._do(task, slices - spent)
        return spent

    def _do(self, task: pacing.Task, left: int) -> int:
        if task == "move":
            self.unmoved = 0
            return pacing.MOVE_SLICES
        self.unmoved += 4096 * 8
        piece = pacing.piece(self.load(), task, left)
        self.unsettled = max(0, self.unsettled - piece.settle_rows)
        rows_left = piece.trim_rows
        while self.surplus and rows_left > 0:
            rows = min(self.surplus[0] * 2, rows_left)  # a look and a version for each write
            rows_left -= rows
            if rows == self.surplus[0] * 2:
                self.surplus.pop(0)
            else:
                self.surplus[0] -= rows // 2
        return sum(piece) // pacing.SLICE_ROWS


def run(share: Share, shapes: list[int]) -> None:
    """Each shape for a while, one after the other."""
    model = Model(share)
    for writes in shapes:
        for _ in range(150):
            spent = model.step(writes)
            assert spent <= pacing.SLICES_MAX
            assert model.gaps_without_group <= 2, "a writer waits for more than two gaps"
            group = max(COMMIT_GROUP_MAX, 128)
            assert len(model.surplus) <= pacing.BACKLOG_TIMES_MAX * pacing.TRIM_DUE_BATCHES + group
            assert model.unsettled <= pacing.BACKLOG_TIMES_MAX * pacing.SETTLE_DUE_ROWS + 3 * COMMIT_GROUP_WRITES_MAX


_shapes = st.lists(st.sampled_from([1, 1, 2, 16, 64, 128]), min_size=1, max_size=4)


@given(_shapes)
@settings(max_examples=60)
def test_backlogs_stay_within_their_bounds_whatever_is_written(shapes: list[int]) -> None:
    run(pacing.share, shapes)


def _deaf(_: Load) -> float:
    return 1.0


def _late(load: Load) -> float:
    return 1.0 if pacing.backlog(load) < 2 else 0.0


@pytest.mark.parametrize("share", [_deaf, _late])
def test_a_policy_that_does_not_make_groups_smaller_is_found(share: Share) -> None:
    @given(_shapes)
    @settings(max_examples=60, derandomize=True, database=None, phases=[Phase.generate])
    def tried(shapes: list[int]) -> None:
        run(share, shapes)

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


@given(_loads, st.integers(1, 2 * pacing.SLICES_MAX), st.sampled_from(["settle", "trim"]))
def test_a_piece_is_of_what_is_due_and_takes_no_more_slices_than_are_left(
    load: Load, left: int, task: pacing.Task
) -> None:
    piece = pacing.piece(load, task, left)
    assert pacing.SLICE_ROWS <= sum(piece) <= min(left, pacing.SLICES_MAX) * pacing.SLICE_ROWS
    assert piece.settle_rows if task == "settle" else piece.trim_rows
    times = (load.unsettled_rows / pacing.SETTLE_DUE_ROWS, load.surplus_batches / pacing.TRIM_DUE_BATCHES)
    if left > 1 and min(times) >= pacing.OVERDUE_TIMES:
        assert all(piece), "one sync for both"
