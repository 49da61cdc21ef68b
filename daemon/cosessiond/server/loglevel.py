"""What is logged: what the configuration says, or for a bounded time something else.

Rule: another level ends by itself; whoever forgets that they asked for `debug` fills no disk.
"""

from __future__ import annotations

from cosession.messages.debug import Trace
from cosessiond.clock import Clock
from cosessiond.process.configuration import Configuration
from cosessiond.server.tracing import Tracer
from cosessiond.store.leases import Deadlines


class LogLevel:
    """The level in force; at `debug` the log hears of every request."""

    def __init__(self, configuration: Configuration, tracer: Tracer, clock: Clock, deadlines: Deadlines) -> None:
        self._threshold = configuration.threshold
        self._log = configuration.log
        self._tracer = tracer
        self._clock = clock
        self._deadlines = deadlines
        configuration.listeners.append(lambda _: self._look())
        self._look()

    @property
    def level(self) -> str:
        """The one in force."""
        return self._threshold.level

    @property
    def configured(self) -> str:
        """The one that the configuration names."""
        return self._threshold.configured

    @property
    def left_s(self) -> float:
        """When that one is back; 0: it is."""
        until_s = self._deadlines.when("loglevel")
        return max(0.0, until_s - self._clock.monotonic()) if until_s is not None else 0.0

    def set(self, level: str, for_s: float) -> None:
        """Log from `level` on, for so long."""
        self._threshold.override = level
        self._deadlines.after("loglevel", for_s, self.reset)
        self._tell(level, for_s)
        self._look()

    def reset(self) -> None:
        """Go by the configuration again."""
        if self._threshold.override:
            self._threshold.override = ""
            self._tell(self._threshold.level, 0.0)
        self._deadlines.cancel("loglevel")
        self._look()

    def _look(self) -> None:
        self._tracer.tell(self._say if self._log is not None and self.level == "debug" else None)

    def _tell(self, level: str, for_s: float) -> None:
        if self._log is not None:
            self._log.warning("another log level", level=level, **({"for_s": for_s} if for_s else {}))

    def _say(self, trace: Trace) -> None:
        about: dict[str, object] = {"method": trace.method, "client": trace.client, "total_ms": trace.total_ms}
        if trace.code:
            about["code"] = trace.code
        self._log.debug("request", **about)
