"""Child processes of a benchmark: started together, let go together, heard out, and stopped whatever happens.

A child says `ready` when it is set up, waits for a line, does its work, and writes one line of JSON.

Rule: every wait has an end; leaving the block leaves no process, also on Ctrl-C.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

READY_S: Final = 60.0
RESULT_S: Final = 180.0
_SCRIPT: Final = str(Path(__file__).resolve().with_name("worker.py"))


class Child:
    """One process of worker.py."""

    def __init__(self, process: subprocess.Popen[bytes], role: str) -> None:
        self.process = process
        self.role = role
        self._heard = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def line(self, within_s: float) -> str:
        """The next line it writes. Raises AssertionError when it ends or stays silent."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._heard:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"the {self.role} process said nothing within {within_s:g} s")
            data = self.process.stdout.read1(1 << 20)  # type: ignore[attr-defined]  # a pipe is buffered
            if not data:
                raise AssertionError(f"the {self.role} process ended with {self.process.wait(10)}")
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def go(self) -> None:
        """Let it begin."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def result(self, within_s: float = RESULT_S) -> Any:
        """What it found out."""
        return json.loads(self.line(within_s))


class Children:
    """All child processes of one figure."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._children: list[Child] = []

    def start(self, role: str, /, **parameters: Any) -> Child:
        """Start one child in a role of worker.py; it may not be ready yet."""
        process = subprocess.Popen(
            [sys.executable, _SCRIPT, role, json.dumps(parameters)],
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        child = Child(process, role)
        self._children.append(child)
        return child

    def start_all(self, role: str, processes: int, /, **parameters: Any) -> list[Child]:
        """Start so many of them, numbered by `number`, and wait until all are ready."""
        children = [self.start(role, number=number, **parameters) for number in range(processes)]
        for child in children:
            assert child.line(READY_S) == "ready", child.role
        return children

    def stop(self) -> None:
        """Kill what is left and collect it."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.wait()
            for pipe in (child.process.stdin, child.process.stdout):
                if pipe:
                    pipe.close()
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run_all(children: list[Child], within_s: float = RESULT_S) -> list[Any]:
    """Let them begin at once and hear them out."""
    for child in children:
        child.go()
    return [child.result(within_s) for child in children]
