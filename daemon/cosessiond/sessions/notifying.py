"""What a kernel that tells of ended processes offers to `watching`: the port behind which `pidfd` and `kqueue` stand.

Rule: signatures only; neither of the two knows sessions, instances or verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

AddReader = Callable[[int, Callable[[], None]], object]
RemoveReader = Callable[[int], object]


class Attached(Protocol):
    """The kernel will tell."""

    def close(self) -> None:
        """It will not any more, and nothing is held for it; harmless when repeated."""
        ...


class Notifier(Protocol):
    """Attaches to a process by its pid."""

    def attach(self, pid: int, ended: Callable[[str], None], lost: Callable[[], None]) -> Attached | None:
        """From the return on, `ended` is called once, on the loop, when the process that now has `pid` has ended.

        Its argument says in words what the kernel said. `lost` is called instead, once, from anywhere, when the kernel
        will not tell after all. Nothing is called once the answer is closed. None: the kernel does not tell, whatever
        the reason. Raises ProcessLookupError when no process has that pid, or the one that has it is ending already.
        """
        ...

    def count(self) -> int:
        """How many processes it is attached to."""
        ...
