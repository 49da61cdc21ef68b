"""The writes that rest on a read: `update`, and a put that is merged. `Contended` of the library, over `line`.

Rule: what comes after a conflict is decided in `cosession.rounds`, here it is done; nothing is written but by
compare-and-swap on what was read.
"""

from __future__ import annotations

from time import sleep

from cosession.cli.line import jitter, request_id
from cosession.errors import Conflict, CosessionError
from cosession.retries import ASIDE
from cosession.rounds import GIVE_UP, READ, TURN, Rounds, goes_without, turn_wait_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cosession.cli.line import Line
    from cosession.cli.options import Given

    Changed = Callable[[dict[str, Any] | None], Any]


def write_in_rounds(
    given: Given, line: Line, params: dict[str, Any], changed: Changed, met: Conflict | None = None
) -> tuple[Any, dict[str, Any]]:
    """The value that `changed` made of the entry, and the reply to the put that wrote it; raises Conflict in the end.

    `met`: the conflict that has been met already.
    """
    at = {"key": params["key"], "project": params["project"]}
    rounds = Rounds(jitter)
    step, wait_s = rounds.conflict() if met else rounds.begin()
    entry = met.current if met else None
    while True:
        if met and step == GIVE_UP:
            raise met
        if wait_s:
            sleep(wait_s)
        turn = None
        if step == TURN:
            turn = _turn(given, line, at)
            if turn is None:
                step, wait_s = rounds.refused()
                continue
            entry = turn["entry"]
        if step == READ or (turn and not turn["granted"]):
            entry = line.ask("get", at)["entry"]
        value = changed(entry)
        line.again()  # that may have taken long
        expect = {"expect_revision": entry["mod_revision"] if entry else 0, "request_id": request_id()}
        try:
            return value, line.ask("put", {**params, **expect, "value": value})
        except Conflict as conflict:
            met = conflict
        entry = met.current
        step, wait_s = rounds.conflict()


def _turn(given: Given, line: Line, at: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to the question for a turn, None when it was refused."""
    line.again()  # it may take long, and brings us nearer
    try:
        return line.ask("turn", {**at, "wait_s": turn_wait_s(given.timeout_s())}, kind=ASIDE)
    except CosessionError as error:
        if not goes_without(error):
            raise
        return None
