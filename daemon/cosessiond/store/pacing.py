"""How the store's thread divides itself between commits and upkeep: what to do next, how much of it, and how large the
next group may be.

Three kinds of upkeep follow the commits: `settle` writes the tables behind the log, `move` is the checkpoint of the
WAL, `trim` drops what the retentions no longer ask for. What each is behind is counted in the work that it takes, in
rows and bytes: a slice is work for about 5 ms on a quiet machine whatever it consists of. Between two groups there are
at most SLICES_MAX slices, and no more than fits into GAP_S by the pace of the last ones: on a slow or a busy machine
slices become smaller, so that a commit does not wait longer. When that is not enough to keep up, the next groups become
smaller, down to one batch, and where even one batch adds more than the slices take, none is committed until there is
room again. So no backlog grows beyond its bound by more than one group, and no write is ever refused for it.

Rule: pure; numbers in, what to do next out. The constants were measured, see each.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Task = Literal["settle", "move", "trim"]

#: Rows of one slice of settling or trimming: 3 to 5 ms where a checkpoint of 4 MiB takes 10.
SLICE_ROWS: Final = 512
#: Slices that may follow one group, and as how many of them a checkpoint counts.
SLICES_MAX: Final = 4
MOVE_SLICES: Final = 2
#: How long all of them may take together where somebody waits to commit, by what the last ones took; and what part of a
#: slice is begun at least, since a smaller one would be mostly its sync.
GAP_S: Final = 0.014
PART_MIN: Final = 1 / 2
#: How much of what is known of the pace is of the newest piece.
NEWEST_PART: Final = 1 / 4
#: Backlogs that are worth a slice while nobody waits to commit.
SETTLE_DUE_ROWS: Final = 256
TRIM_DUE_BATCHES: Final = 256
TRIM_DUE_BYTES: Final = 1024 * 1024
#: A checkpoint costs 1.5 ms and 2.5 ms for each MiB: less often it would cost hardly less in all, and hold up more.
MOVE_DUE_BYTES: Final = 2560 * 1024
#: How many times due a backlog is when writers no longer have to pause for it.
OVERDUE_TIMES: Final = 1.5
#: How many times due a backlog may become: with half of that, groups begin to shrink.
BACKLOG_TIMES_MAX: Final = 16


class Load(NamedTuple):
    """How far upkeep is behind what was committed; without what cannot be done for want of room on the disk."""

    unsettled_rows: int = 0
    unmoved_bytes: int = 0
    surplus_batches: int = 0
    surplus_bytes: int = 0
    is_asked: bool = False  # to trim more than that: an older backlog, or what a user wants to go
    is_unfinished: bool = False  # trimming has begun and is not done


class Pace:
    """How long a row of upkeep takes here and now, its part of the sync included."""

    def __init__(self) -> None:
        self._row_s: dict[Task, float] = {}

    def took(self, task: Task, rows: int, spent_s: float) -> None:
        """One piece of upkeep."""
        if rows > 0 and spent_s > 0:
            row_s = spent_s / rows
            known_s = self._row_s.get(task, row_s)
            self._row_s[task] = known_s + NEWEST_PART * (row_s - known_s)

    def rows(self, task: Task, left_s: float) -> float:
        """How many are done in so long; without end as long as nothing is known."""
        row_s = self._row_s.get(task)
        return left_s / row_s if row_s else float("inf")


def backlog(load: Load) -> float:
    """The largest of the backlogs that grow with each batch, where 1.0 is its bound."""
    return max(_times_due(load)[task] for task in ("settle", "trim")) / BACKLOG_TIMES_MAX


def task(load: Load, *, waiting: bool) -> Task | None:
    """What to do next; `waiting`: somebody waits to commit, so only what is overdue. A checkpoint goes first, since the
    others make the next one dearer, then what is most overdue.
    """
    times = _times_due(load)
    due = OVERDUE_TIMES if waiting else 1.0
    if times["move"] >= due:
        return "move"
    worst = max(times, key=times.__getitem__)
    if times[worst] >= due:
        return worst
    return "trim" if load.is_asked or (load.is_unfinished and not waiting) else None


def rows(load: Load, task: Task, left: int, pace: Pace, left_s: float, *, is_first: bool) -> int:
    """How many rows the next piece of settling or trimming has, 0 when there is no time for it in this gap. As many of
    the slices that are `left` as it is behind are one transaction, since each has its sync; what else is overdue keeps
    one of them, and half of the time. The first piece of a gap is done in any case.
    """
    times = _times_due(load)
    others = times["trim" if task == "settle" else "settle"] >= OVERDUE_TIMES
    whole = load.unsettled_rows // SLICE_ROWS if task == "settle" else int(times["trim"])
    wanted = SLICE_ROWS * max(1, min(left - others, whole))
    least = int(SLICE_ROWS * PART_MIN)
    fits = pace.rows(task, left_s / (1 + others))
    if fits < least:
        return least if is_first else 0
    return int(min(wanted, fits))


def slices(load: Load) -> int:
    """How many may follow one group: the fewer the better, as long as upkeep keeps up."""
    return min(SLICES_MAX, 1 + int(8 * backlog(load)))


def share(load: Load) -> float:
    """How much of a full group the next one may be; 0.0: none before there was more upkeep."""
    return max(0.0, min(1.0, 2.0 - 2.0 * backlog(load)))


def _times_due(load: Load) -> dict[Task, float]:
    return {
        "settle": load.unsettled_rows / SETTLE_DUE_ROWS,
        "move": load.unmoved_bytes / MOVE_DUE_BYTES,
        "trim": max(load.surplus_batches / TRIM_DUE_BATCHES, load.surplus_bytes / TRIM_DUE_BYTES),
    }
