"""The worked exchanges of client/PROTOCOL.md: read from the document, replayed against a daemon, written back.

A block after `<!-- exchange: NAME -->` holds what is sent (`-->`) and received (`<--`); in MessagePack a line is the
array as JSON, and under it its bytes. What differs from run to run (pids, times, epochs) is replaced by a sample on
both sides; everything else is compared byte for byte. `python tests/exchanges.py` rewrites what is received.

Rule: what is sent is read from the document, so the document is what is tested.
"""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from cosession.messages import REQUESTS
from cosession.wire import MsgpackCodec
from harness import Daemon, private_home
from source_tree import ROOT

DOCUMENT: Final = ROOT / "client" / "PROTOCOL.md"
ANSWER_S: Final = 5.0
HEX_PER_LINE: Final = 32
_BLOCK: Final = re.compile(r"<!-- exchange: ([a-z-]+) -->\n```text\n(.*?)```\n", re.DOTALL)
_FENCE: Final = 999_999

#: What differs from run to run, by the name of the member, and what the document shows instead.
SAMPLES: Final[dict[str, Any]] = {
    "pid": 4711,
    "version": "0.1.0",
    "daemon_id": "01KAJ6Q5T7W8Y9ZABCDEFGHJKM",
    "epoch": "01KAJ6Q5T7MNPQRSTVWXYZ0123",
    "state_directory": "/home/ada/.local/state/cosession",
    "time": 1767225600.125,
    "host": "engine",
    "boot_id": "0c8c1d4e-9a52-4f0b-8a6d-2f1de5b1a7c3",
    "start_time": 306346,
    "registered_at": 1767225600.125,
    "changed_at": 1767225600.125,
    "closed_at": 1767225600.125,
    "session_token": "00112233445566778899aabbccddeeff",
}


@dataclass
class Step:
    """One frame sent, and the frames that came before the next one was."""

    sent: str
    received: list[str] = field(default_factory=list)


@dataclass
class Exchange:
    """One block of the document."""

    name: str
    steps: list[Step]

    @property
    def encoding(self) -> str:
        return self.name.rpartition("-")[2]


def exchanges(text: str) -> list[Exchange]:
    """The blocks of the document, in order."""
    return [Exchange(name, list(_steps(block))) for name, block in _BLOCK.findall(text)]


def _steps(block: str) -> Iterator[Step]:
    step: Step | None = None
    frames: list[str] = []
    for line in block.splitlines():
        if line.startswith("    "):
            frames[-1] += f"\n{line}"
        else:
            frames.append(line)
    for frame in frames:
        mark, content = frame[:4], frame[4:]
        if mark == "--> ":
            if step:
                yield step
            step = Step(content)
        elif mark == "<-- " and step:
            step.received.append(content)
        else:
            raise ValueError(f"neither sent nor received: {frame!r}")
    if step:
        yield step


def render(exchange: Exchange) -> str:
    """The block as it stands in the document."""
    lines = [line for step in exchange.steps for line in [f"--> {step.sent}", *(f"<-- {r}" for r in step.received)]]
    return f"<!-- exchange: {exchange.name} -->\n```text\n" + "\n".join(lines) + "\n```\n"


def replayed(exchange: Exchange, path: Path) -> Exchange:
    """The exchange as it goes with the daemon on socket `path`, whose store must be empty."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(ANSWER_S)
        sock.connect(str(path))
        line = _Json(sock) if exchange.encoding == "json" else _Msgpack(sock)
        return Exchange(exchange.name, [line.step(step.sent) for step in exchange.steps])


def sampled(value: Any, name: str = "") -> Any:
    """`value` with everything that differs from run to run replaced by its sample; 0 and "" are kept."""
    if isinstance(value, dict):
        return {key: sampled(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [sampled(each) for each in value]
    # `version` is also the number of an entry's version, which is the same in every run.
    return SAMPLES[name] if name in SAMPLES and value and type(value) is type(SAMPLES[name]) else value


class _Json:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")

    def step(self, sent: str) -> Step:
        """Send, and collect until the answer and whatever came with it are here."""
        try:
            wanted = json.loads(sent).get("id")
        except ValueError:
            wanted = None
        self._sock.sendall(sent.encode() + b"\n")
        received = self._until(wanted)
        self._sock.sendall(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % _FENCE)
        return Step(sent, [*received, *self._until(_FENCE)[:-1]])

    def _until(self, id: object) -> list[str]:
        found: list[str] = []
        while True:
            line = self._lines.readline().decode().removesuffix("\n")
            assert line, "the daemon hung up"
            body = json.loads(line)
            same = _compact(body) == line
            found.append(_compact(sampled(body)) if same else f"not compact: {line}")
            if "id" in body and body["id"] == id:
                return found


class _Msgpack:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def step(self, sent: str) -> Step:
        """Send what the array says, in the bytes that the client's codec makes of it."""
        kind, id, method, params = json.loads(sent.partition("\n")[0])
        request = msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=REQUESTS[method])
        frame = MsgpackCodec().encode_call(id, method, request)
        self._sock.sendall(frame)
        received = self._until(id)
        self._sock.sendall(MsgpackCodec().encode_call(_FENCE, "ping", REQUESTS["ping"]()))
        assert kind == 0
        return Step(_with_bytes(frame), [*received, *self._until(_FENCE)[:-1]])

    def _until(self, id: int) -> list[str]:
        found: list[str] = []
        while True:
            frame = self._read(int.from_bytes(self._read(4)))
            body = msgspec.msgpack.decode(frame)
            same = msgspec.msgpack.encode(body) == frame
            canonical = msgspec.msgpack.encode(sampled(body)) if same else frame
            found.append(_with_bytes(len(canonical).to_bytes(4) + canonical))
            if body[0] in (1, 2) and body[1] == id:
                return found

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._sock.recv(count - len(data))
            assert more, "the daemon hung up"
            data += more
        return data


def _with_bytes(frame: bytes) -> str:
    """A frame as the array it holds, and under it its bytes."""
    array = json.dumps(msgspec.msgpack.decode(frame[4:]), ensure_ascii=False)
    rows = [frame[i : i + HEX_PER_LINE].hex(" ") for i in range(0, len(frame), HEX_PER_LINE)]
    return "\n".join([array, *(f"    {row}" for row in rows)])


def _compact(body: object) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def replay_fresh(exchange: Exchange) -> Exchange:
    """`replayed` against a daemon of its own."""
    with private_home() as home, Daemon(home) as daemon:
        return replayed(exchange, daemon.socket)


def main() -> int:
    """Rewrite the blocks of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    fresh = {exchange.name: render(replay_fresh(exchange)) for exchange in exchanges(text)}
    DOCUMENT.write_text(_BLOCK.sub(lambda block: fresh[block[1]], text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
