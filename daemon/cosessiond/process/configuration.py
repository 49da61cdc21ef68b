"""The configuration in force, and how it changes while the daemon runs.

Rule: what cannot be used changes nothing: the old one stays in force, the reason is logged and shown by `status` until
a good file clears it. What is lowered below what is in use cuts nobody off; it holds for what comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from cosession.config import Config, changes, taken
from cosession.errors import ConfigError
from cosession.messages.admin import ConfigChange
from cosessiond.process.logs import Threshold


class Configuration:
    """One daemon's configuration. `load` reads the file again; `listeners` hear of every change that applies now.

    `threshold` is that of `log`, which goes by what is configured.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config] | None = None,
        path: str = "",
        log: Any = None,
        threshold: Threshold | None = None,
    ) -> None:
        self.in_force = config
        self.path = path
        self.error = ""
        #: What the file says and a restart alone brings.
        self.restart_needed: list[ConfigChange] = []
        self.listeners: list[Callable[[Config], None]] = []
        self._load = load or (lambda: config)
        self.threshold = threshold or Threshold(config.log.level)
        self.log = log

    def reload(self) -> list[ConfigChange]:
        """Take what the file says now; what of it changed and is in force. Raises ConfigError: nothing changed."""
        try:
            read = self._load()
        except ConfigError as error:
            if error.message != self.error:
                self.error = error.message
                self._tell("error", "cannot use the configuration; the one in force is kept", reason=error.message)
            raise
        if self.error:
            self.error = ""
            self._tell("info", "the configuration can be used again", file=self.path)
        new = taken(self.in_force, read)
        changed, waiting = changes(self.in_force, new), changes(new, read)
        if changed or waiting != self.restart_needed:
            self.in_force, self.restart_needed = new, waiting
            self.threshold.configured = new.log.level
            for listener in self.listeners:
                listener(new)
            self._tell("info", "configuration changed", changed=_told(changed), restart_needed=_told(waiting))
        return changed

    def look(self) -> None:
        """`reload` for a file that may have changed: what is wrong was logged, and nobody waits for an answer."""
        with contextlib.suppress(ConfigError):
            self.reload()

    def signalled(self) -> None:
        """`reload` for SIGHUP: whoever sent it looks for a line in the log, whatever came of it."""
        before = self.error
        try:
            if not self.reload():
                self._tell("info", "SIGHUP: no change of the configuration takes effect", file=self.path)
        except ConfigError as error:
            if error.message == before:
                self._tell("error", "cannot use the configuration; the one in force is kept", reason=error.message)

    def _tell(self, level: str, event: str, **about: Any) -> None:
        if self.log is not None:
            getattr(self.log, level)(event, **about)


def _told(found: list[ConfigChange]) -> dict[str, str]:
    return {each.key: f"{each.before} -> {each.after}" for each in found}
