"""What a service is, how it is, and what all of them together come to: states, availability, error budget.

Rule: pure; a state always has a reason in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple

State = Literal["HEALTHY", "FAILED", "IDLE", "UNKNOWN"]
Overall = Literal["HEALTHY", "DEGRADED", "FAILED"]
#: The exit code of `cosession services` by the overall state.
EXIT: Final[dict[str, int]] = {"HEALTHY": 0, "DEGRADED": 1, "FAILED": 2}


class Service(NamedTuple):
    """One service. `purpose` is what its unit says of it; `trigger` what starts it, with the next time where that is
    known (`next_s`, in seconds since the Unix epoch, 0: not known); `log` where it says what it does; `commands` by
    what they are for: status, logs, restart.
    """

    name: str
    state: State
    reason: str
    purpose: str = ""
    pid: int = 0
    trigger: str = ""
    next_s: float = 0.0
    since_s: float = 0.0
    log: str = ""
    file: str = ""
    commands: dict[str, str] = {}


class Sum(NamedTuple):
    """All services together, at this moment. `availability` and `budget_left` are percentages, None without services.

    A scheduled service that waits for its time is available, and not running. The error budget is what the target
    leaves for failures: 0.1 % with a target of 99.9 %; `budget_left` is what is left of that, 100 when nothing fails.
    """

    overall: Overall
    total: int
    running: int
    idle: int
    failed: int
    unknown: int
    availability: float | None
    target: float
    budget_left: float | None

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return self._asdict()


def summed(services: Sequence[Service], target: float) -> Sum:
    """What they come to. FAILED: not one is available; DEGRADED: some are not."""
    running, failed, idle, unknown = (
        sum(each.state == state for each in services) for state in ("HEALTHY", "FAILED", "IDLE", "UNKNOWN")
    )
    total = len(services)
    available = running + idle
    overall: Overall = "HEALTHY" if available == total else "DEGRADED" if available else "FAILED"
    if not total:
        return Sum(overall, 0, 0, 0, 0, 0, None, target, None)
    availability = 100.0 * available / total
    allowed, used = 100.0 - target, 100.0 - availability
    left = 100.0 * (1.0 - used / allowed) if allowed else (0.0 if used else 100.0)
    return Sum(overall, total, running, idle, failed, unknown, availability, target, max(left, 0.0))


def is_wanted(service: Service, *, failed_only: bool) -> bool:
    """Whether it is to be shown."""
    return not failed_only or service.state in ("FAILED", "UNKNOWN")
