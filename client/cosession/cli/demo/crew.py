"""The grip on the demo's session processes: start them, tell them, hear them, kill them.

Rule: every wait has an end, and a process that fails is reported with what it said.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from types import TracebackType
from typing import Any, Self

from cosession.errors import CosessionError, TimedOut

WAIT_S = 40.0
_END: dict[str, Any] = {"kind": "end"}


class Member:
    """One session process. `acknowledged` grows while it writes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = ""
        self.acknowledged: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self._facts: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-P", "-m", "cosession.cli.demo.worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us to pass on
        )
        self._listener = threading.Thread(target=self._listen, name=f"hearing {name}", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def tell(self, word: str) -> None:
        """Say what to do next."""
        assert self._process.stdin is not None, "opened as a pipe"
        with contextlib.suppress(BrokenPipeError):  # it has ended, which the next `hear` reports
            self._process.stdin.write(word.encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, kind: str) -> dict[str, Any]:
        """Wait for a fact of this kind; raises when the process ends or nothing comes."""
        try:
            fact = self._facts.get(timeout=WAIT_S)
        except queue.Empty:
            raise TimedOut(f"cannot go on: session process {self.name} said nothing for {WAIT_S:g} s") from None
        if fact["kind"] == kind:
            return fact
        raise self._ended_early(fact)

    def check(self) -> None:
        """Raise when the process ended or failed instead of doing what it was told."""
        with contextlib.suppress(queue.Empty):
            raise self._ended_early(self._facts.get_nowait())

    def kill(self) -> None:
        """SIGKILL: no last word, no cleaning up."""
        self._process.send_signal(signal.SIGKILL)

    def close(self, wait_s: float) -> None:
        """Let it end by itself within `wait_s` seconds, else kill it; nothing of it remains."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None, "opened as a pipe"
        for line in self._process.stdout:
            fact = json.loads(line)
            if fact["kind"] == "acknowledged":
                self.acknowledged.append(fact)
            elif fact["kind"] == "unknown":
                self.unknown.append(fact["key"])
            else:
                self._facts.put(fact)
        self._facts.put(_END)

    def _ended_early(self, fact: dict[str, Any]) -> CosessionError:
        if fact["kind"] == "error":
            words = str(fact["message"])
        else:
            assert self._process.stderr is not None, "opened as a pipe"
            words = self._process.stderr.read().decode(errors="replace").strip()[-400:] or f"it said {fact['kind']}"
        return CosessionError(f"cannot go on: session process {self.name} ended early: {words}")


class Crew:
    """All session processes; at the end of the block none is left."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        try:
            for name in self._names:
                self.members.append(Member(name))
            for member in self.members:
                member.id = member.hear("ready")["id"]
        except BaseException:
            self._close(0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(5.0 if kind is None else 0.0)

    def _close(self, wait_s: float) -> None:
        for member in self.members:
            member.close(wait_s)
