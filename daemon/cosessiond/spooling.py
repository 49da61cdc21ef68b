"""The spool of a running daemon: its directory watched, looked into at the start and once a minute, taken in round by
round.

Each look and each settling runs on a thread of its own that ends with it; at rest there are only those of the watch.

Rule: a spool that cannot be used keeps no daemon from serving; `status` and the log say why.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cosession.errors import ConfigError
from cosessiond.process.directories import private_directory
from cosessiond.process.filewatch import EVERYTHING, FileWatch
from cosessiond.server import spooled
from cosessiond.server.core import Core
from cosessiond.server.table import Operation
from cosessiond.spool.directory import Directory
from cosessiond.spool.intake import Failed, Intake

CallSoon = Callable[[Callable[[], None]], object]


class Spooling:
    """The intake and the watch that wakes it."""

    def __init__(self, core: Core, intake: Intake, watch: FileWatch, path: Path) -> None:
        self._core = core
        self._intake = intake
        self._watch = watch
        self._path = path

    def begin(self) -> None:
        """Take in what is there, and then what comes."""
        try:
            os.close(private_directory(self._path))  # made where it is not there, so that it can be watched
        except ConfigError as error:
            self._core.spool.error = error.message
        self._watch.begin()
        self._intake.look()

    def look(self) -> None:
        """Look now; called once a minute."""
        self._watch.look()
        self._intake.look()

    def close(self) -> None:
        """Take in nothing more."""
        self._intake.close()
        self._watch.close()


def taking_in(core: Core, table: Mapping[str, Operation], path: Path, call_soon: CallSoon, log: Any) -> Spooling:
    """What takes in the spool at `path` for this core."""
    intake = Intake(
        Directory(path),
        partial(spooled.take, core, table),
        elsewhere=partial(_elsewhere, call_soon),
        deadlines=core.deadlines,
        wall_s=lambda: core.clock.wall_ms() / 1000.0,
        metrics=core.metrics,
        tell=spooled.tell(core, log),
    )
    core.spool = intake.stands
    watch = FileWatch(
        path / EVERYTHING,
        intake.look,
        clock=core.clock,
        deadlines=core.deadlines,
        call_soon=call_soon,
        log=log,
        name="the spool",
    )
    return Spooling(core, intake, watch, path)


def _elsewhere(call_soon: CallSoon, run: Callable[[], Any], done: Callable[[Any | Failed], None]) -> None:
    def tell(result: Any | Failed) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            call_soon(partial(done, result))

    def work() -> None:
        try:
            result = run()
        except Exception as error:  # noqa: BLE001  # a bug of ours must not leave the spool waiting for this thread
            result = Failed(f"cannot look into the spool: {type(error).__name__}: {error}")
        tell(result)

    try:
        threading.Thread(target=work, name="spool", daemon=True).start()
    except RuntimeError as error:  # no thread to be had
        tell(Failed(f"cannot look into the spool: {error}"))
