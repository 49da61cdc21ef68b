"""How the store's thread divides itself between commits and upkeep: what to do next, how much of it, and how large the
next group may be.

Three kinds of upkeep follow the commits: `settle` writes the tables behind the log, `move` is the checkpoint of the
WAL, `trim` drops what the retentions no longer ask for. What each is behind is counted in the work that it takes and
never in time: a slice is work for about 5 ms whatever it consists of. Between two groups there are at most SLICES_MAX
slices, in one transaction with one sync, or a checkpoint, so that a commit waits about 10 ms for upkeep. When that is
not enough to keep up, the next groups become smaller, down to one batch, and where even one batch adds more than the
slices take, none is committed until there is room again. So no backlog grows beyond its bound by more than one group,
and no write is ever refused for it.

Rule: pure; numbers in, what to do next out. The constants were measured, see each.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Task = Literal["settle", "move", "trim"]

#: Rows of one slice of settling or trimming: 3 to 5 ms where a checkpoint of 4 MiB takes 10.
SLICE_ROWS: Final = 512
#: Slices that may follow one group, and as how many of them a checkpoint counts.
SLICES_MAX: Final = 2
MOVE_SLICES: Final = 2
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


class Piece(NamedTuple):
    """Rows that one transaction settles and trims."""

    settle_rows: int = 0
    trim_rows: int = 0


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


def piece(load: Load, task: Task, left: int) -> Piece:
    """What of the slices that are `left` is done of a task that is due: as much as it is behind, or where the other is
    overdue as well one of each, in one transaction, since each has its sync.
    """
    times = _times_due(load)
    left = min(left, SLICES_MAX)
    if left > 1 and min(times["settle"], times["trim"]) >= OVERDUE_TIMES:
        return Piece(SLICE_ROWS, SLICE_ROWS)
    if task == "settle":
        return Piece(settle_rows=SLICE_ROWS * max(1, min(left, load.unsettled_rows // SLICE_ROWS)))
    return Piece(trim_rows=SLICE_ROWS * max(1, min(left, int(times["trim"]))))


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
