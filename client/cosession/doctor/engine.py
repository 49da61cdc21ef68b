"""Runs checks one after another, each with a deadline, and adds up what they came to.

A check is a row with the place of its function, which is imported when its turn comes, so that one that cannot even be
loaded is a warning like any other. It runs in a thread of its own: a disk that hangs holds up that thread, and not the
rest.

Rule: nothing that a check does or fails to do ends the others.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from cosession import paths
from cosession.config import Config
from cosession.configfile import load
from cosession.errors import ConfigError, CosessionError

OK, WARNING, FAILURE, CRITICAL = "ok", "warning", "failure", "critical"
#: The exit code of `doctor` by the worst of all.
EXIT: Final = {OK: 0, WARNING: 1, FAILURE: 2, CRITICAL: 2}
#: How long a check may take that asks and looks, and one that reads or runs something large.
QUICK_S: Final = 6.0
LONG_S: Final = 900.0
#: Errors of the catalogue that say that something is wrong, and not that it could not be seen.
_WRONG: Final = frozenset(("damaged", "config"))


class Seen(NamedTuple):
    """What one check came to."""

    status: str
    evidence: str
    remedy: str = ""


class Check(NamedTuple):
    """One row of a table: its function as `module:name`."""

    id: str
    target: str
    deadline_s: float = QUICK_S


class Holder(Protocol):
    """The living process that `daemon.lock` names."""

    pid: int
    socket: str
    act: str


class Ground:
    """Where to look, and whom to ask.

    `status` is that of the daemon, None when none answers; `silence` is why one that is there does not answer. `ask`
    puts a question to the daemon, `act` has the files looked at by a child, `living` says who holds the lock; the first
    two raise CosessionError. `deep`: read everything, however long it takes. `directory`: where the user stands.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] = os.environ,
        status: dict[str, Any] | None = None,
        silence: str = "",
        ask: Callable[[str, dict[str, Any]], dict[str, Any]],
        act: Callable[..., dict[str, Any]],
        living: Callable[[], Holder | None],
        deep: bool = False,
        directory: str = ".",
        project: str = "",
        session: str = "",
    ) -> None:
        self.env = env
        self.status = status
        self.silence = silence
        self.ask = ask
        self.act = act
        self.living = living
        self.deep = deep
        self.directory = directory
        self.project = project
        self.session = session

    @property
    def state(self) -> Path:
        """The state directory. Raises ConfigError."""
        return Path(paths.state_directory(self.env))

    def config(self) -> Config:
        """What the configuration file says, the defaults where it cannot be used: that is one check's to tell."""
        try:
            return load(Path(paths.config_file(self.env)))
        except ConfigError:
            return Config()


def examine(
    ground: Ground, checks: Iterable[Check], *, tell: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Every check with its id, status, evidence, remedy and duration. `tell` is called with the id of each before."""
    found: list[dict[str, Any]] = []
    for check in checks:
        if tell:
            tell(check.id)
        began = time.monotonic()
        seen = _within(check, ground)
        found.append({"id": check.id, **seen._asdict(), "duration_s": round(time.monotonic() - began, 3)})
    return found


def _within(check: Check, ground: Ground) -> Seen:
    """What it came to, or that its time was over."""
    came: list[Seen] = []
    thread = threading.Thread(target=lambda: came.append(_run(check, ground)), name=check.id, daemon=True)
    thread.start()
    thread.join(check.deadline_s)
    if came:
        return came[0]
    return Seen(
        WARNING,
        f"it was not over within {check.deadline_s:g} s, which is all it is given",
        "see whether the disk and what it asks answer at all, then run it again",
    )


def _run(check: Check, ground: Ground) -> Seen:
    try:
        module, _, name = check.target.partition(":")
        run: Callable[[Ground], Seen] = getattr(importlib.import_module(module), name)
        return run(ground)
    except CosessionError as error:
        return of_error(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Seen(WARNING, f"{where}{error.strerror or error}", "see to its owner, its mode and its disk")
    except Exception as error:  # noqa: BLE001 - a fault of one check is told like what it should have found
        return Seen(WARNING, f"the check itself failed: {type(error).__name__}: {error}", "look by hand; tell us")


def of_error(error: CosessionError) -> Seen:
    """An error of the catalogue as what a check came to; its message ends with what to do."""
    cause, _, remedy = error.message.rpartition("; ")
    return Seen(FAILURE if error.code in _WRONG else WARNING, cause or error.message, remedy)


def worst(found: Iterable[Mapping[str, Any]]) -> str:
    """The worst status of all."""
    order = (OK, WARNING, FAILURE, CRITICAL)
    return max((str(each["status"]) for each in found), key=order.index, default=OK)


def totals(found: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many passed, failed, warn and are critical."""
    statuses = [each["status"] for each in found]
    names = {"passed": OK, "failed": FAILURE, "warnings": WARNING, "critical": CRITICAL}
    return {name: statuses.count(status) for name, status in names.items()}
