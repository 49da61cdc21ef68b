"""A session process of the demo: registers, then does what it is told over standard input, and reports each fact.

    python -m cosession.cli.demo.worker NAME

Told (a line each): `update N`, `write`, `hold`, end of input. Reports (a JSON object per line): `ready`, `updated`,
`acknowledged` (one per write, after the daemon said ok), `unknown`, `held`, `error`.

Rule: it uses the public library as any program would, and reports a write only after it was acknowledged.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from typing import Any

import cosession
from cosession.errors import Conflict, CosessionError, UnknownOutcome

TIMEOUT_S = 30.0
#: Between two writes, on average: short enough to be in the middle of one at any moment, long enough to be followed.
PAUSE_S = 0.003
_LINE_BYTES = 4096


class Worker:
    """One session and its connection."""

    def __init__(self, name: str, client: cosession.Client) -> None:
        self._name = name
        self._client = client
        self._told = b""
        self._written = 0

    def serve(self) -> None:
        """Do what is told until standard input ends."""
        while (word := self._next_word()) is not None:
            if word.startswith("update "):
                self._update(int(word.split()[1]))
            elif word == "write":
                self._write()

    def _update(self, count: int) -> None:
        """Count on the shared plan, `count` times; a conflict that outlasts the library's retries is begun again."""
        attempts = 0

        def step(plan: dict[str, Any] | None) -> dict[str, Any]:
            nonlocal attempts
            attempts += 1
            plan = plan or {"steps": 0, "by": {}}
            by = {**plan["by"], self._name: plan["by"].get(self._name, 0) + 1}
            return {"steps": plan["steps"] + 1, "by": by}

        for _ in range(count):
            while True:
                try:
                    self._client.update("plan", step)
                    break
                except Conflict:
                    continue
            pause()
        report(kind="updated", count=count, attempts=attempts)

    def _write(self) -> None:
        """Write numbered entries until told to hold."""
        while not self._is_told():
            self._written += 1
            key, value = f"log/{self._name}/{self._written:06}", {"step": self._written, "by": self._name}
            try:
                entry = self._client.put(key, value)
            except UnknownOutcome:
                report(kind="unknown", key=key)
            else:
                report(
                    kind="acknowledged", key=key, value=value, revision=entry.mod_revision, monotonic_s=time.monotonic()
                )
            pause()
        report(kind="held", written=self._written)

    def _is_told(self) -> bool:
        return b"\n" in self._told or bool(select.select([0], [], [], 0)[0])

    def _next_word(self) -> str | None:
        while b"\n" not in self._told:
            more = os.read(0, _LINE_BYTES)
            if not more:
                return None
            self._told += more
        word, _, self._told = self._told.partition(b"\n")
        return word.decode()


def pause() -> None:
    """A moment of thought, never the same twice, so that the sessions do not fall into step."""
    time.sleep(random.uniform(0, 2 * PAUSE_S))  # noqa: S311 (no secret)


def report(**fact: Any) -> None:
    """One fact to whoever started this process."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def main() -> int:
    """The session, from its registration to its graceful close."""
    name = sys.argv[1]
    try:
        with (
            cosession.connect(project="demo", timeout_s=TIMEOUT_S) as client,
            client.session(agent="demo", name=name) as session,
        ):
            report(kind="ready", id=session.id, pid=os.getpid())
            Worker(name, client).serve()
    except CosessionError as error:
        report(kind="error", message=error.message)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
