"""`cosession rescue`: stop what hangs, find the newest store that is whole, start again, and look whether it is so.

Rule: each step says what it did or what to do; a process is ended by force only when the kernel says that it is the
daemon that holds the lock of this store, and only after it was asked to end.
"""

from __future__ import annotations

import contextlib
import os
import signal

from cosession import paths
from cosession.cli import asking, child, holder, life, render
from cosession.cli.line import Line
from cosession.cli.options import Given, Verb
from cosession.cli.progress import Progress
from cosession.cli.restore import refuse_socket
from cosession.errors import CosessionError, TimedOut, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How long a daemon may take to say anything, and to end after each way of asking.
ANSWER_S = 3.0
ENDS_S = 5.0


class Found:
    """The daemon as it was found: its pid (0: none), and whether it answers."""

    __slots__ = ("answers", "pid")

    def __init__(self, pid: int, *, answers: bool) -> None:
        self.pid = pid
        self.answers = answers


def run(given: Given) -> int:
    """Rescue, and print where everything lies."""
    refuse_socket(given)
    if not given.flag("--dry-run"):
        life.refuse_no_spawn(given)
    found = _look(given)
    first = ("daemon", _about(found))
    if given.flag("--dry-run"):
        plan = _plan(given, found)
        _show(given, plan, [first, ("would", _would(plan))])
        return 0
    if not given.flag("--json"):
        _rows([first])
    asking.agree(given, "stop it, see that the store is whole, and start it again?")
    with Progress(given, "stopping the daemon") as bar:
        ended = _stop(given, found)
        bar.now("looking at the store")
        try:
            result = child.act(bar, "rescue")
        except CosessionError as error:
            raise _not_rescued(error) from None
        bar.now("starting the daemon")
        status = _started(given, result)
    result.update(started=True, pid=status["pid"], revision=status["revision"], epoch=status["epoch"])
    steps = [("stopped", ended), ("found", _did(result)), ("serves", _serving(status))]
    _show(given, result, [first, *steps] if given.flag("--json") else steps)
    return 0


def _look(given: Given) -> Found:
    """Who serves, or should."""
    line = Line(given, spawn=False, timeout_s=ANSWER_S)
    try:
        return Found(line.ask("ping", {})["pid"], answers=True)
    except (Unreachable, TimedOut) as error:
        mute = holder.living_holder()
        if mute is not None and mute.act:
            raise Unreachable(f"cannot rescue: {holder.mute(mute)}", data={"pid": mute.pid}) from None
        if mute is not None:
            return Found(mute.pid, answers=False)
        if isinstance(error, TimedOut):  # somebody is there that the lock does not name
            raise
        return Found(0, answers=False)
    finally:
        line.close()


def _about(found: Found) -> str:
    if not found.pid:
        return "none is running"
    return f"pid {found.pid}, {'it answers' if found.answers else f'it does not answer within {ANSWER_S:g} s'}"


def _plan(given: Given, found: Found) -> dict[str, Any]:
    """What would be done. Under a daemon the files cannot be looked at: then what it would fall back to."""
    with Progress(given, "looking") as bar:
        if not found.pid:
            return child.act(bar, "rescue", "--dry-run")
        plan: dict[str, Any] = {"action": "look", "from": "", "trouble": "", "backups": ""}
        with contextlib.suppress(CosessionError):  # there is none
            plan["from"] = child.act(bar, "inspect", "--latest")["backup"]["name"]
        return plan


def _would(plan: dict[str, Any]) -> str:
    match plan["action"]:
        case "keep":
            return f"keep the store, which is whole: revision {plan['revision']}"
        case "restore":
            return f"restore {plan['from']}, revision {plan['revision']}: {plan['trouble']}"
        case "salvage":
            return f"salvage {_salvaged(plan)}: {plan['trouble']}; no backup is whole"
        case "begin":
            return "begin a new store: there is none, and no backup"
        case _:
            fallback = (
                f"restore {plan['from']}, the newest backup, which is whole" if plan["from"] else "have no backup"
            )
            return f"stop it and look at the store; where that is not whole, {fallback}"


def _stop(given: Given, found: Found) -> str:
    """End the daemon, in order where it answers, else by asking and then by force."""
    if not found.pid:
        return "no daemon was running"
    if found.answers:
        with contextlib.suppress(TimedOut, Unreachable):
            life.stop(given)
            return f"pid {found.pid}, in order"
    with contextlib.suppress(CosessionError):  # where it is a unit: else that starts again what is ended here
        life.stop(given)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.closing(life.End(found.pid, Line(given, spawn=False))) as end:
            current = holder.living_holder()
            if current is None or current.pid != found.pid:
                return f"pid {found.pid}, which ended by itself"
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, number)
                os.kill(found.pid, signal.SIGCONT)  # one that is suspended hears nothing before
            if end.wait(ENDS_S):
                return f"pid {found.pid}, by {number.name}: what it had acknowledged is on the disk"
    raise TimedOut(
        f"cannot end the daemon: pid {found.pid} is still there after SIGKILL, it waits for its disk; see to the disk, "
        "then run: cosession rescue",
        data={"pid": found.pid},
    )


def _not_rescued(error: CosessionError) -> CosessionError:
    """What was stopped is not started over a store that is not whole."""
    error.message = f"{error.message} (the daemon is stopped)" if "cosession" not in error.message else error.message
    return error


def _started(given: Given, result: dict[str, Any]) -> dict[str, Any]:
    """Start it, and hold what it says of its store against what was put in place; its status."""
    life.start(given)
    status = Line(given, spawn=False).ask("status", {})
    is_it = result["action"] == "begin" or status["epoch"] == result["epoch"]
    if not is_it or status["revision"] < result["revision"]:
        raise CosessionError(
            f"cannot vouch for the store: epoch {result['epoch']} at revision {result['revision']} was put in place, "
            f"served is {status['epoch']} at {status['revision']}; see: cosession logs",
            code="damaged",
        )
    return status


def _did(result: dict[str, Any]) -> str:
    match result["action"]:
        case "keep":
            return "the store is whole and was kept"
        case "salvage":
            return f"{result['trouble']}; no backup is whole; salvaged {_salvaged(result)}"
        case "begin":
            return "there was no store and no backup: a new one begins"
        case _:
            return f"{result['trouble']}; restored {result['from']} in its place"


def _salvaged(result: dict[str, Any]) -> str:
    """What of the damaged store could be proved, and what not."""
    gaps = ", ".join(f"{first} to {last}" for first, last in result["lost_revisions"]) or "none"
    keys = render.count(len(result["lost_keys"]), "entry")
    return f"{render.count(result['entries'], 'entry')}; lost revisions: {gaps}; {keys} of which the value is lost"


def _serving(status: dict[str, Any]) -> str:
    entries = render.count(status["entries"], "entry")
    return f"pid {status['pid']}: revision {status['revision']}, {entries}, epoch {status['epoch']}"


def _show(given: Given, result: dict[str, Any], steps: list[tuple[str, str]]) -> None:
    if given.flag("--json"):
        render.json_line({**result, "steps": [{"step": name, "said": text} for name, text in steps]})
        return
    steps += [(f"tried {each['name']}", each["wrong"]) for each in result.get("tried", [])]
    steps.append(("state", paths.state_directory()))
    for name in ("backup", "backups", "quarantine"):
        if result.get(name):
            steps.append((name, result[name]))
    _rows(steps)


def _rows(steps: list[tuple[str, str]]) -> None:
    for name, text in steps:
        render.line(f"{render.paint(f'{name:<9}', 'dim')} {render.escape(text)}")


RESCUE = Verb(
    "rescue",
    "",
    run,
    summary="When something is wrong: stop the daemon, get the newest store that is whole into place, start again.",
    text="The store is backed up and read from end to end; when it is not to be trusted, the newest backup that is\n"
    "whole takes its place in a new epoch, without one what can be salvaged; what was there goes to quarantine. A\n"
    "daemon that hangs is asked to end, then ended. Nothing is written over; what cannot be done is said with what to\n"
    "do.",
    options=(asking.YES, asking.DRY_RUN),
    examples=(
        ("cosession rescue --dry-run", "what it would do"),
        ("cosession rescue --yes", "do it without asking"),
    ),
)
