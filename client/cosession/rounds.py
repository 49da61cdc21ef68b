"""The rounds of one update: what comes before the first try, and after each that met a conflict.

The first try is made without asking anyone: mostly nobody else is there. When it meets a conflict, the second comes at
once, from the entry that the conflict brought. Who meets another takes turns with the others from then on: the daemon
says when, and brings the entry. Where it gives no turns, the tries come after random waits, and not many of them.

Rule: one policy for the library and the command line, which cannot load the library. So: standard library only and
light, and nothing here waits, sends or looks at a clock.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final, Literal

    from cosession.errors import CosessionError

    Step = Literal["read", "turn", "standing", "give up"]

READ: Final = "read"  # ask for the entry
TURN: Final = "turn"  # ask for a turn, with which the entry comes
STANDING: Final = "standing"  # go on from the entry that the conflict brought
GIVE_UP: Final = "give up"

#: Longest random waits between tries, in seconds: one for each try without turns; with turns, see SPARED.
CEILINGS_S: Final = (0.1, 0.2, 0.4)
#: Turns that may meet a conflict before there is a wait before the next: others that began just now take none yet.
SPARED: Final = 2
#: Turns in which somebody else wrote all the same; then whoever that is will not stop.
TURNS_IN_VAIN_MAX: Final = 16
#: Waiting for a turn leaves so much of the time for a try without one, or half of it.
RESERVE_S: Final = 1.0
#: `messages.limits.TURN_WAIT_S_MAX`, which is not light.
WAIT_S_MAX: Final = 60.0
#: Refusals of a turn: who asked goes on without one.
_WITHOUT: Final = frozenset({"overloaded", "shutting_down", "unknown_method"})


class Rounds:
    """One update. `jitter` gives random numbers in [0, 1); `contended`: others were met at this key before.

    `begin()` says what to do first, `conflict()` what after a conflict, `refused()` what when there is no turn: a step
    and the seconds to wait before it.
    """

    def __init__(self, jitter: Callable[[], float], *, contended: bool = False) -> None:
        self._jitter = jitter
        self._takes_turns = True
        self._contended = contended
        self._conflicts = 0
        self._in_vain = 0
        self._waits = 0

    def begin(self) -> tuple[Step, float]:
        """The first step."""
        return (TURN if self._contended else READ), 0.0

    def conflict(self) -> tuple[Step, float]:
        """The next step after somebody else wrote first."""
        self._conflicts += 1
        if self._conflicts == 1 and not self._contended:
            return STANDING, 0.0
        if not self._takes_turns:
            return self._back_off()
        if not self._contended:
            self._contended = True
            return TURN, 0.0
        self._in_vain += 1
        if self._in_vain >= TURNS_IN_VAIN_MAX:
            return GIVE_UP, 0.0
        late = self._in_vain - SPARED
        return TURN, CEILINGS_S[min(late, len(CEILINGS_S)) - 1] * self._jitter() if late > 0 else 0.0

    def refused(self) -> tuple[Step, float]:
        """The next step when a turn was refused: from now on it goes without."""
        self._takes_turns = False
        return self._back_off() if self._conflicts else (READ, 0.0)

    def _back_off(self) -> tuple[Step, float]:
        if self._waits == len(CEILINGS_S):
            return GIVE_UP, 0.0
        self._waits += 1
        return READ, CEILINGS_S[self._waits - 1] * self._jitter()


def goes_without(error: CosessionError) -> bool:
    """Whether this refusal of a turn means: do without."""
    return error.code in _WITHOUT


def turn_wait_s(left_s: float) -> float:
    """How long to wait for a turn when so many seconds are left in all."""
    return min(max(left_s - RESERVE_S, left_s / 2), WAIT_S_MAX)
