"""The parts of the kill loop that live beside the writers: the daemon under test and what is preloaded and listed.

Rule: each can be stopped at any moment and leaves nothing behind.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Self

import psutil
from msgspec import Raw, msgpack

import zygote
from cosession.messages.admin import HelloReply
from cosession.messages.limits import BATCH_WRITES_MAX
from cosession.messages.store import Range, Txn, TxnPut
from cosession.messages.watches import Watch, WatchEvent
from cosession.model import Entry
from durability.link import Link, LinkLost, open_when_ready
from harness import Daemon, Started

READY_S: Final = 30.0
PRELOADED_VALUE: Final = "v" * 197  # 200 bytes of MessagePack
PRELOAD_PREFIX: Final = "p/"
_HERE: Final = Path(__file__).resolve().parent
_decode_event = msgpack.Decoder(WatchEvent).decode


class ScriptedDaemon(Daemon):
    """A daemon whose start is timed, and which may be started by another command than `cosessiond`, or `forked` from a
    process that has imported it, where nobody cares for that part of a start.
    """

    def __init__(self, home: Path, *, command: Sequence[str] = (), forked: bool = False) -> None:
        super().__init__(home)
        self.command = tuple(command)
        self._forked = forked and not command and zygote.available()

    def start(self, *, wait: bool = True) -> Self:
        """As the harness does it, with `command` in the place of its own."""
        if not self.command and not self._forked:
            return super().start(wait=wait)
        assert self._process is None, "the daemon has not been stopped"
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = self._begun(log)
        if wait:
            self.wait_ready()
        return self

    def _begun(self, log: IO[bytes]) -> Started:
        if self._forked:
            return zygote.start("cosessiond.__main__", [], env=self.env, out=log)
        return subprocess.Popen(
            self.command,
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def processes(self) -> list[psutil.Process]:
        """The daemon as well when it was forked, whose environment nobody sees."""
        found = super().processes()
        if self._forked and self._process is not None and self.running:
            found.append(psutil.Process(self.pid))
        return found

    def start_timed(self) -> tuple[float, HelloReply]:
        """Start; seconds from before the fork to the answer to a first call, and that answer.

        Raises AssertionError when it ends instead, or says nothing within READY_S.
        """
        began = time.monotonic()
        self.start(wait=False)
        while time.monotonic() < began + READY_S:
            try:
                with Link.open(self.socket, timeout_s=READY_S) as link:
                    reply = link.hello()
            except (OSError, LinkLost):
                if not self.running:
                    code = self.wait()
                    raise AssertionError(f"the daemon ended with {code} while starting:\n{self.stderr()}") from None
                time.sleep(0.002)
            else:
                return time.monotonic() - began, reply
        self.kill()
        raise AssertionError(f"the daemon answered nothing within {READY_S:g} s:\n{self.stderr()}")


def sabotaged(name: str) -> list[str]:
    """The command of a daemon with a seeded bug, see sabotage.py; "" is the real one."""
    return [sys.executable, str(_HERE / "sabotage.py"), name] if name else []


def preload(socket: Path, entries: int) -> int:
    """Write `entries` entries of 200 B in full batches; returns the revision after the last."""
    revision = 0
    value = Raw(msgpack.encode(PRELOADED_VALUE))
    with open_when_ready(socket) as link:
        ids: list[int] = []
        for first in range(0, entries, BATCH_WRITES_MAX):
            keys = range(first, min(first + BATCH_WRITES_MAX, entries))
            puts = [TxnPut(key=f"{PRELOAD_PREFIX}{index:07}", value=value) for index in keys]
            ids += link.send(Txn(then=list(puts), request_id=f"preload-{first}"))
            if len(ids) >= 64:
                revision = _settled(link, ids)
        return max(revision, _settled(link, ids))


def preloaded(entries: int) -> Iterator[Entry]:
    """What `preload` has written."""
    for index in range(entries):
        revision = index // BATCH_WRITES_MAX + 1
        key = f"{PRELOAD_PREFIX}{index:07}"
        yield Entry(key=key, value=PRELOADED_VALUE, version=1, create_revision=revision, mod_revision=revision)


def listed(link: Link, at_revision: int = 0) -> Iterator[Entry]:
    """All entries of the context at one revision, page by page."""
    after = ""
    while True:
        reply = link.call(Range(after=after, at_revision=at_revision))
        yield from reply.entries
        at_revision = reply.read_revision
        if not reply.more:
            return
        after = reply.entries[-1].key


def logged(link: Link, *, start: int, last: int) -> list[bytes]:
    """The log from `start` to `last` as a fresh watch delivers it. Raises LinkLost when it stops short."""
    link.call(Watch(start_revision=start))
    found: list[bytes] = []
    while len(found) < last - start + 1:
        bodies = link.events(READY_S)
        if not bodies:
            raise LinkLost(f"the watch stopped at {start + len(found) - 1} of {last}")
        found += [body for body in bodies if _decode_event(body).kind == "changes"]
    return found[: last - start + 1]


def _settled(link: Link, ids: list[int]) -> int:
    revision = 0
    for id in ids:
        revision = max(revision, link.outcome(id).revision)
    ids.clear()
    return revision
