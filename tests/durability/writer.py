"""One writer of the kill loop, as a process: random writes, and after each lost connection the same ones again.

`python writer.py SOCKET DIRECTORY NUMBER WRITERS SEED BURST` writes until SIGTERM, then finishes what is in doubt and
ends. Its journal is DIRECTORY/NUMBER.journal; it ends with 1 and a line on standard error when the daemon says
something that no killed daemon may say. It may be killed itself: its successor has a NUMBER greater by WRITERS, so the
same place among them (`slot`) and the same keys.

Rule: nothing is repeated but what was sent and not answered, in the same order, under the same request ids.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec import Raw, msgpack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cosession.errors import CosessionError
from cosession.messages import Request
from cosession.messages.store import (
    Add,
    Append,
    Compare,
    CompareEntry,
    CompareField,
    CompareRange,
    Delete,
    Get,
    Merge,
    Put,
    PutReply,
    Range,
    Txn,
    TxnAdd,
    TxnDelete,
    TxnMerge,
    TxnPut,
    TxnWrite,
)
from cosession.protocol import Failed
from durability.journal import Board, Deed, Journal
from durability.link import Link, LinkLost, Outcome, open_when_ready

BURST_MAX: Final = 8
PAUSE_S: Final = 0.001
RECONNECT_S: Final = 30.0
TTLS_S: Final = (0.15, 0.4, 60.0)
_encode = msgpack.Encoder().encode
_FIELDS: Final[tuple[CompareField, ...]] = ("create_revision", "mod_revision", "version")


class Workload:
    """Random requests of one writer over keys that it shares with the others and keys of its own."""

    def __init__(self, number: int, *, writers: int, seed: int, burst: int = BURST_MAX) -> None:
        self.number = number
        self.slot = number % writers
        self.serial = 0
        self.known = 0
        self._first_known = 0
        self._burst = burst
        self._random = random.Random(f"{seed}/{number}")
        #: What this writer believes of some keys: mod_revision, 0 for absent.
        self._believed: dict[str, int] = {}
        self._kinds: tuple[tuple[int, Callable[[str], Request[Any]]], ...] = (
            (30, self._put),
            (20, self._chain),
            (15, self._merge),
            (8, self._add),
            (8, self._append),
            (20, self._txn),
            (8, self._delete),
            (5, self._lease),
            (10, self._get),
            (3, self._past),
            (5, self._range),
        )

    def burst(self) -> list[Deed]:
        """What to send next, as one piece."""
        count = 1 if self._random.random() < 0.5 else self._random.randint(2, self._burst)
        now = time.monotonic()
        return [self._deed(now) for _ in range(count)]

    def begin(self, revision: int) -> None:
        """A daemon says that the store is at this revision."""
        self.known = max(self.known, revision)
        self._first_known = self._first_known or self.known

    def learn(self, request: Request[Any], outcome: Outcome) -> None:
        """Believe what an answer says."""
        if isinstance(outcome, Failed):
            self.known = max(self.known, outcome.revision)
            current = outcome.error.data.get("current")
            if isinstance(request, Put | Delete):
                self._believed[request.key] = current["mod_revision"] if current else 0
            elif current:
                self._believed[current["key"]] = current["mod_revision"]
            return
        self.known = max(self.known, outcome.revision)
        if isinstance(outcome, PutReply):
            self._believed[outcome.written.key] = outcome.written.mod_revision

    def _deed(self, now: float) -> Deed:
        self.serial += 1
        weights, kinds = zip(*self._kinds, strict=True)
        request = self._random.choices(kinds, weights)[0](f"{self.number}-{self.serial}")
        return Deed(self.number, self.serial, request.method, Raw(_encode(request)), self.known, now)

    def _value(self) -> Raw:
        size = 3000 if self._random.random() < 0.02 else self._random.randint(0, 150)
        return Raw(_encode({"w": self.number, "s": self.serial, "pad": "x" * size}))

    def _key(self) -> str:
        if self._random.random() < 0.5:
            return f"s/{self._random.randrange(12)}"
        return f"w{self.slot}/{self._random.randrange(6)}"

    def _put(self, request_id: str) -> Put:
        return Put(key=self._key(), value=self._value(), request_id=request_id)

    def _chain(self, request_id: str) -> Put:
        key = f"chain/{self.slot if self._random.random() < 0.6 else 'shared'}"
        expected = self._believed.get(key, 0)
        return Put(key=key, value=self._value(), expect_revision=expected, request_id=request_id)

    def _merge(self, request_id: str) -> Merge:
        return Merge(key=f"m/{self._random.randrange(4)}", patch=self._patch(), request_id=request_id)

    def _patch(self) -> Raw:
        field = f"f{self._random.randrange(6)}"
        patch: dict[str, Any] = {f"w{self.slot}": {field: self.serial}}
        if self._random.random() < 0.2:
            patch[f"w{self.slot}"] = {field: None, "last": self.serial}
        return Raw(_encode(patch))

    def _add(self, request_id: str) -> Add:
        return Add(key=f"n/{self._random.randrange(4)}", number=self._random.randint(-9, 99), request_id=request_id)

    def _append(self, request_id: str) -> Append | Put:
        key = f"a/{self._random.randrange(4)}"
        if self._random.random() < 0.1:  # or the lists would grow for ever
            return Put(key=key, value=Raw(_encode([])), request_id=request_id)
        values = [f"{request_id}.{index}" for index in range(self._random.randint(1, 3))]
        return Append(key=key, values=Raw(_encode(values)), request_id=request_id)

    def _delete(self, request_id: str) -> Delete:
        key = self._key()
        if self._random.random() < 0.3 and self._believed.get(key):
            return Delete(key=key, expect_revision=self._believed[key], request_id=request_id)
        return Delete(key=key, request_id=request_id)

    def _lease(self, request_id: str) -> Put:
        key = f"l/{self.slot}/{self._random.randrange(4)}"
        return Put(key=key, value=self._value(), ttl_s=self._random.choice(TTLS_S), request_id=request_id)

    def _get(self, _request_id: str) -> Get:
        return Get(key=self._key() if self._random.random() < 0.7 else "chain/shared")

    def _past(self, _request_id: str) -> Get:
        revision = max(self._first_known, self.known - self._random.randrange(40))  # 0 is now
        return Get(key=self._key(), at_revision=revision)

    def _range(self, _request_id: str) -> Range:
        return Range(prefix=self._random.choice(("s/", "t/", "n/", "chain/")))

    def _txn(self, request_id: str) -> Txn:
        compares: list[Compare] = []
        if self._random.random() < 0.6:
            key = f"t/{self._random.randrange(6)}"
            guess = self._random.choice((0, 1, self._believed.get(key, 0)))
            compares.append(CompareEntry(key=key, field=self._random.choice(_FIELDS), value=guess))
        if self._random.random() < 0.2:
            compares.append(CompareRange(prefix="t/", max_mod_revision=self.known))
        otherwise = self._writes() if compares and self._random.random() < 0.5 else []
        return Txn(compares=compares, then=self._writes(), otherwise=otherwise, request_id=request_id)

    def _writes(self) -> list[TxnWrite]:
        keys = [*(f"t/{index}" for index in range(6)), *(f"s/{index}" for index in range(12))]
        writes: list[TxnWrite] = []
        for key in self._random.sample(keys, self._random.randint(2, 5)):
            if self._random.random() < 0.25:
                writes.append(TxnDelete(key=key))
            else:
                writes.append(TxnPut(key=key, value=self._value()))
        if self._random.random() < 0.3:
            writes.append(TxnMerge(key=f"m/{self._random.randrange(4)}", patch=self._patch()))
        if self._random.random() < 0.2:
            writes.append(TxnAdd(key=f"n/{self._random.randrange(4)}", number=self._random.randint(1, 9)))
        return writes


class Writer:
    """Sends a workload through kills."""

    def __init__(self, socket: Path, directory: Path, workload: Workload, writers: int) -> None:
        self._socket = socket
        self._workload = workload
        self._journal = Journal(directory / f"{workload.number}.journal")
        self._board = Board(directory / "board", writers)
        self._epoch = ""
        self._pending: list[Deed] = []
        self.stopping = False

    def run(self) -> None:
        """Until `stopping`, and until nothing is in doubt. Raises CosessionError, LinkLost when nobody answers."""
        try:
            while self._pending or not self.stopping:
                with open_when_ready(self._socket, within_s=RECONNECT_S) as link, contextlib.suppress(LinkLost):
                    self._write(link)
        finally:
            self._journal.close()
            self._board.close()

    def _write(self, link: Link) -> None:
        hello = link.hello(epoch=self._epoch, seen_revision=self._workload.known)
        self._epoch = hello.epoch
        self._workload.begin(hello.revision)
        while self._pending or not self.stopping:
            if not self._pending:
                self._pending = self._workload.burst()
                self._journal.add(*self._pending)
            for deed in self._pending:
                deed.attempts += 1
            ids = link.send(*(deed.request() for deed in self._pending))
            for id in ids:
                self._settle(link.outcome(id))
            time.sleep(PAUSE_S)

    def _settle(self, outcome: Outcome) -> None:
        """The oldest pending deed ended so. It is on the board before the next one is sent."""
        deed = self._pending.pop(0)
        deed.ended_s = time.monotonic()
        self._workload.learn(deed.request(), outcome)
        if isinstance(outcome, Failed):
            deed.code, deed.revision, deed.body = outcome.error.code, outcome.revision, Raw(_encode(outcome.error.data))
        else:
            deed.revision, deed.body = outcome.revision, Raw(_encode(outcome))
            self._board.post(self._workload.slot, self._workload.known)
        self._journal.add(deed)


def main(arguments: list[str]) -> int:
    """Run; see the head of this file."""
    socket, directory, number, writers, seed, burst = arguments
    workload = Workload(int(number), writers=int(writers), seed=int(seed), burst=int(burst))
    writer = Writer(Path(socket), Path(directory), workload, int(writers))

    def stop(_number: int, _frame: object) -> None:
        writer.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loop's to handle
    try:
        writer.run()
    except (CosessionError, LinkLost) as error:
        print(f"writer {number}: {getattr(error, 'code', 'unreachable')}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
