"""The daemon's own look at itself, and the word to the service watchdog that follows from it.

Twice in the time that the service watchdog waits, on the loop: that the loop came to it is most of what is to be
known. The rest is the store's thread, which is given a slice that does nothing: it must have come back.

Rule: whoever is well says so, whoever is not says why and no more than that: what to do about it is the service
manager's affair. Without one nothing runs here, and an idle daemon does not wake.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from cosessiond.process.sd_notify import Notices
from cosessiond.server.core import Core

#: How long the store's thread may say nothing. It never works as long at a time; a disk that answers no sync for so
#: long is better recovered from by a start, which verifies, than waited for by everybody.
STORE_SILENT_S: Final = 120.0
#: The shares of the time that the service watchdog waits after which it is told again.
_SHARE: Final = 0.5


class Listening(Protocol):
    """The listener, as far as it is looked at here."""

    @property
    def is_open(self) -> bool:
        """Whether its socket is."""
        ...


class SelfCheck:
    """The looks of one daemon."""

    def __init__(self, core: Core, notices: Notices, listener: Listening, log: Any) -> None:
        self._core = core
        self._notices = notices
        self._listener = listener
        self._log = log
        self._asked_s: float | None = None
        self._told = ""
        self._said = ""

    def begin(self) -> None:
        """Look now, and again and again, where there is a service watchdog."""
        if self._notices.watchdog_s > 0:
            self._look()

    def wrong(self) -> str:
        """What is wrong with this daemon, "" when all is well."""
        if not self._listener.is_open:
            return "its socket is closed"
        silent_s = 0.0 if self._asked_s is None else self._core.clock.monotonic() - self._asked_s
        if silent_s > STORE_SILENT_S and not self._core.running:
            return f"the store has said nothing for over {STORE_SILENT_S:g} s"
        return ""

    def _look(self) -> None:
        self._core.deadlines.after("self-check", self._notices.watchdog_s * _SHARE, self._look)
        wrong = self.wrong()
        if not wrong:
            self._notices.alive()
        elif wrong != self._told:
            self._log.error("not well; the service watchdog will end this", reason=wrong)
        self._told = wrong
        self._say(wrong)
        if self._asked_s is None:
            self._ask()

    def _ask(self) -> None:
        """Have the store's thread do nothing, and come back; one slice at a time, so there is always a place for it."""
        self._asked_s = self._core.clock.monotonic()
        self._core.store.run(lambda _: None, self._answered, has_place=True)

    def _answered(self, _: object) -> None:
        self._asked_s = None

    def _say(self, wrong: str) -> None:
        """The line that `systemctl status` shows, when it has become another."""
        text = f"not well: {wrong}" if wrong else serving(self._core)
        if text != self._said:
            self._said = text
            self._notices.status(text)


def serving(core: Core) -> str:
    """What this daemon is doing, in a line for people."""
    read_only = "read-only, " if core.read_only else ""
    count = len(core.conversations)
    return (
        f"{core.identity.version}: {read_only}revision {core.store.revision}, "
        f"{count} {'connection' if count == 1 else 'connections'}"
    )
