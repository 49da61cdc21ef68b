"""What the threads and tasks of this process are doing at this moment.

Rule: places in the source and names, never a value; bounded, however deep a stack or many the tasks.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterable
from pathlib import PurePath
from types import FrameType
from typing import Final, Literal, NamedTuple

#: Frames of one stack; the innermost are kept.
DEPTH_MAX: Final = 32


class Stack(NamedTuple):
    """One thread or task: its name, and where it is, innermost last."""

    kind: Literal["task", "thread"]
    name: str
    places: list[str]


def stacks(count_max: int) -> list[Stack]:
    """The threads, then the tasks of the running loop; at most so many."""
    frames = sys._current_frames()  # noqa: SLF001 (the one way to see another thread)
    found = [
        Stack("thread", thread.name, _places(_outward(frames.get(thread.ident or 0))))
        for thread in threading.enumerate()
    ]
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:  # without a loop, in a simulation, there are none
        tasks = set()
    for task in sorted(tasks, key=lambda each: each.get_name()):
        if len(found) >= count_max:
            break
        found.append(Stack("task", task.get_name(), _places(reversed(task.get_stack(limit=DEPTH_MAX)))))
    return found[:count_max]


def _outward(frame: FrameType | None) -> Iterable[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _places(frames: Iterable[FrameType]) -> list[str]:
    """From the innermost outward, turned around."""
    found: list[str] = []
    for frame in frames:
        if len(found) == DEPTH_MAX:
            break
        code = frame.f_code
        found.append(f"{code.co_qualname} ({'/'.join(PurePath(code.co_filename).parts[-2:])}:{frame.f_lineno})")
    return found[::-1]
