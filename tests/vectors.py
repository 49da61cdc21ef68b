"""Test vectors for clients in other languages: bytes to send and the bytes that come back, made from a live daemon.

`python tests/vectors.py` rewrites `tests/data/vectors/lines.json` (JSON-RPC) and `frames.json` (MessagePack, in hex,
what comes back without its length). Both begin with an empty store under LIMITS and hold conversations, a connection
each, to be run in their order. What differs from run to run stands as `<name>`: the value of a member of that name,
unless it is 0 or empty (and of `version` only where it is a string).

Rule: every method and every error that a frame can cause appears; `tests/test_vectors.py` holds it to that.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from harness import Daemon, private_home
from source_tree import ROOT

VECTORS: Final = ROOT / "tests" / "data" / "vectors"
PLACEHOLDERS: Final = (
    *("pid", "version", "daemon_id", "epoch", "state_directory", "time", "host", "boot_id", "start_time", "message"),
    *("registered_at", "changed_at", "closed_at", "session_token", "uptime_s", "database_bytes", "counters", "limits"),
    *(
        "cost_ms",
        "evidence",
        "instance",
        "oldest",
        "silent_s",
        "detected_ms",
        "socket",
        "config_file",
        "config",
        "backup",
        "disk_free_bytes",
        "reserve_bytes",
        "backups",
        "directory",
        "done_bytes",
        "total_bytes",
        "connections",
        "rows",
        "disk_free_bytes",
        "reserve_bytes",
        "reserve_bytes_max",
    ),
)
#: So low that a frame can reach them.
LIMITS: Final = """[limits]
watches_max = 1
live_entries_max = 8
session_entries_max = 1
frame_bytes_max = 4_096
key_bytes_max = 64
value_bytes_max = 256
frame_finish_s = 0.5
"""
QUIET_S: Final = 0.15

Call = tuple[str, dict[str, Any]]
_ASK: Final = {"project": "p"}

#: What is called, by conversation; the same in both encodings.
CALLS: Final[dict[str, list[Call]]] = {
    "hello": [
        ("hello", {"client": "vectors", "protocol_min": 1, "protocol_max": 1}),
        ("hello", {"client": "vectors", "protocol_min": 9, "protocol_max": 9}),
        ("ping", {}),
        ("delete", {"key": "nothing"}),  # behind the first record of the audit, which `status` counts
        ("status", {}),
    ],
    "entries": [
        ("put", {"key": "k", "value": {"a": [1, -1, 1.5, True, None, "ü\n\U0001f600"]}, **_ASK}),
        ("get", {"key": "k", **_ASK}),
        ("get", {"key": "nothing", **_ASK}),
        ("put", {"key": "k", "value": 2, "expect_revision": 9, **_ASK}),
        ("put", {"key": "k", "value": 200, "expect_revision": 1, "request_id": "r1", **_ASK}),
        ("put", {"key": "k", "value": 200, "expect_revision": 1, "request_id": "r1", **_ASK}),
        ("put", {"key": "k", "value": 3, "request_id": "r1", **_ASK}),
        ("merge", {"key": "m", "patch": {"a": 1}, **_ASK}),
        ("add", {"key": "n", "number": -70000, **_ASK}),
        ("add", {"key": "m", "number": 1, **_ASK}),
        ("append", {"key": "l", "values": ["a", 300]}),
        ("range", {"prefix": "", "limit": 2, **_ASK}),
        ("txn", {"compares": [{"kind": "entry", "key": "k", "value": 7}], "then": [], **_ASK}),
        (
            "txn",
            {
                "compares": [{"kind": "range", "prefix": "m", "max_mod_revision": 99}],
                "then": [{"op": "put", "key": "t", "value": []}, {"op": "merge", "key": "m", "patch": {"b": 2}}],
                **_ASK,
            },
        ),
        ("delete", {"key": "t", **_ASK}),
        ("get", {"key": "t", "at_revision": 6, **_ASK}),
        ("history", {"key": "k", **_ASK}),
        ("turn", {"key": "k", "wait_s": 0.5, **_ASK}),
        ("get", {"key": "k", "at_revision": 99, **_ASK}),
    ],
    "refusals": [
        ("nothing", {}),
        ("get", {}),
        ("get", {"key": 1}),
        ("put", {"key": "x" * 65, "value": 1}),
        ("put", {"key": "k", "value": 1, "space": "$sessions"}),
        ("unwatch", {"watch": 7}),
        ("session.explain", {"session": "nobody"}),
        ("watch", {"start_revision": 1, "epoch": "another"}),
        ("watch", {"start_revision": 9999}),
        *(("put", {"key": f"f{index}", "value": 1}) for index in range(6)),
        ("delete", {"key": "f0"}),
        ("delete", {"key": "f1"}),
        ("delete", {"key": "f2"}),
        ("delete", {"key": "f3"}),
    ],
    "watches": [
        ("watch", {"prefix": "k", **_ASK}),
        ("watch", {"prefix": "m", **_ASK}),
        ("put", {"key": "k", "value": {"b": 1}, **_ASK}),
        ("delete", {"key": "k", **_ASK}),
        ("unwatch", {"watch": 1}),
        ("put", {"key": "k", "value": 5, **_ASK}),
        ("watch", {"key": "k", "start_revision": 2, **_ASK}),
        ("unwatch", {"watch": 2}),
    ],
    "sessions": [
        ("session.register", {"id": "s1", "name": "otter", "agent": "vectors", "heartbeat_s": 0}),
        ("put", {"key": "e", "value": "held", "ephemeral": True}),
        ("put", {"key": "over", "value": 1, "session": "s1"}),
        ("session.list", {}),
        ("session.heartbeat", {"session": "s1"}),
        ("session.explain", {"session": "s1"}),
        ("claim.acquire", {"targets": ["path:../x"], "worktree": "/w", **_ASK}),
        ("claim.check", {"targets": ["path:src/a.py"], "worktree": "/w", **_ASK}),
        ("session.why_not", {"targets": ["path:src/a.py"], "worktree": "/w", **_ASK}),
        ("session.simulate_crash", {"session": "s1"}),
        ("claim.list", _ASK),
        ("claim.explain", {"claim": "no such claim"}),
        ("claim.renew", {"ids": ["no such claim"], "session": "s1"}),
        ("put", {"key": "f", "value": 1, "fence": 9999, "session": "s1"}),
        ("claim.release", {"all": True, "session": "s1"}),
        ("mail.send", {"to": "s1", "text": "a letter over the quota"}),
        ("mail.send", {"to": "s2", "text": "a letter to nobody"}),
        ("mail.inbox", {}),
        ("mail.read", {"ids": ["no such letter"]}),
        ("hook", {"client": "claude", "event": "Stop", "payload": "[1]"}),
        ("hook", {"client": "claude", "event": "Stop", "payload": '{"session_id": "nobody"}'}),
        ("checkpoint.save", {"state": {"task": 5}, "session": "s1"}),
        ("checkpoint.list", {"session": "s1"}),
        ("checkpoint.get", {"checkpoint": "s1/none"}),
        ("session.recover", {"session": "s1", "plan": True}),
        ("session.close", {"session": "s1"}),
        ("session.heartbeat", {"session": "s1"}),
    ],
    "looking inside": [  # most of what a daemon says of itself differs from run to run
        ("debug.clients", {"of": "nobody"}),
        ("debug.watches", {"client": 9_999}),
        ("debug.tasks", {"of": "nobody"}),
        ("debug.queues", {"of": "nobody"}),
        ("debug.locks", {"of": "nobody"}),
        ("debug.metrics", {"of": "nobody"}),
        ("debug.loglevel", {}),
        ("debug.loglevel", {"level": "loud"}),
        ("debug.trace", {}),
        ("debug.tail", {}),
        ("debug.tail", {"limit": 0}),
    ],
    "the end": [
        ("audit", {"kind": "denial", "limit": 2}),
        ("backup.now", {}),
        ("backup.list", {}),
        ("backup.verify", {"name": "never"}),
        ("revert", {"key": "k", "to_revision": 1, "dry_run": True}),
        ("revert", {"key": "k", "to_revision": 0}),
        ("purge", {"key": "never"}),
        ("revision_at", {"time": 1.5}),
        ("admin.scrub", {}),
        ("compact", {"revision": 3}),
        ("get", {"key": "k", "at_revision": 2, **_ASK}),
        ("admin.reload", {}),
        ("admin.stop", {}),
    ],
}
#: What no call is, by conversation and framing. A frame that loses the framing ends its connection.
BYTES: Final[dict[str, dict[str, list[bytes]]]] = {
    "no calls": {
        "lines": [
            b"{]\n",
            b'{"jsonrpc":"2.0","id":1}\n',
            b'{"jsonrpc":"2.0","id":{},"method":"ping"}\n',
            b"[]\n",
            b'{"jsonrpc":"2.0","id":"two","method":"ping","params":[]}\n',
            b'{"jsonrpc":"2.0","id":1,"method":"put","params":{"key":"k","value":1e999}}\n',
            b'\r\n\n{"jsonrpc":"2.0","id":"last","method":"ping"}\r\n',
        ],
        "frames": [
            b"\0\0\0\1\xc1",
            b"\0\0\0\3\x92\1\2",
            b"\0\0\0\x08\x94\0\1\xa4ping",
            b"\0\0\0\1\x90",
            b"\0\0\0\x09\x94\0\2\xa4ping\x90",
            b"\0\0\0\x0a\x94\0\3\xa4ping\x81\xa1",
            b"\0\0\0\x09\x94\0\4\xa4ping\x80",
        ],
    },
    "too long a frame": {"lines": [b'{"' + b"x" * 4_100 + b'"}\n'], "frames": [b"\0\0\x20\0"]},
    "an unfinished frame": {"lines": [b'{"jsonrpc":'], "frames": [b"\0\0\0\x09\x94\0"]},
    "an empty frame": {"frames": [b"\0\0\0\0"], "lines": [b"\n" + b'{"jsonrpc":"2.0","method":"ping"}\n']},
}


def made(framing: str, kept: dict[str, Any] | None = None) -> dict[str, Any]:
    """The vectors of a framing, from a daemon of its own; sooner with those `kept`, which say what to wait for."""
    known = {
        each["name"]: [len(step["receive"]) for step in each["steps"]] for each in (kept or {}).get("conversations", ())
    }
    last = "the end"
    with private_home() as home:
        (home / "config").mkdir(mode=0o700)
        (home / "config" / "config.toml").write_text(LIMITS)
        with Daemon(home) as daemon:
            for_all: list[tuple[str, list[dict[str, Any]]]] = [
                *((name, _called(framing, calls)) for name, calls in CALLS.items() if name != last),
                *((name, [{"send": _text(framing, raw)} for raw in each[framing]]) for name, each in BYTES.items()),
                (last, _called(framing, CALLS[last])),
            ]
            conversations = [
                _converse(daemon.socket, framing, name, steps, known.get(name, [])) for name, steps in for_all
            ]
            assert daemon.wait() == 0
    return {"framing": framing, "placeholders": list(PLACEHOLDERS), "limits": LIMITS, "conversations": conversations}


def _called(framing: str, calls: list[Call]) -> list[dict[str, Any]]:
    return [
        {"call": [id, method, params], "send": _text(framing, _encoded(framing, id, method, params))}
        for id, (method, params) in enumerate(calls, start=1)
    ]


def _converse(path: Path, framing: str, name: str, steps: list[dict[str, Any]], known: list[int]) -> dict[str, Any]:
    peer = _Peer(path, framing)
    done = []
    for index, step in enumerate(steps):
        message = step["send"].encode() if framing == "lines" else bytes.fromhex(step["send"])
        done.append({**step, "receive": peer.step(message, known[index] if index < len(known) else None)})
    peer.close()
    return {"name": name, "steps": done}


def _encoded(framing: str, id: int, method: str, params: dict[str, Any]) -> bytes:
    if framing == "frames":
        body = msgspec.msgpack.encode([0, id, method, params])
        return len(body).to_bytes(4) + body
    call = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
    return json.dumps(call, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _text(framing: str, message: bytes) -> str:
    return message.decode() if framing == "lines" else message.hex()


class _Peer:
    """A connection that says what came back within a moment of quiet."""

    def __init__(self, path: Path, framing: str) -> None:
        self._lines = framing == "lines"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._in = b""

    def step(self, message: bytes, known: int | None) -> list[str]:
        """Send, and what comes: so many frames as are `known` to, else until it is quiet."""
        self._socket.sendall(message)
        found: list[str] = []
        is_notification = b'"method"' in message and b'"id"' not in message
        deadline = time.monotonic() + (QUIET_S if is_notification else 5.0)
        while known is None or len(found) < known:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                return found
            if not more:
                return [*found, "the end"]
            self._in += more
            found += self._frames()
            if known is None:
                deadline = time.monotonic() + QUIET_S
        return found

    def _frames(self) -> list[str]:
        found: list[str] = []
        while True:
            if self._lines:
                line, end, rest = self._in.partition(b"\n")
                if not end:
                    return found
                found.append(masked_line(line.decode()))
            else:
                size = int.from_bytes(self._in[:4])
                if len(self._in) < 4 or len(self._in) < 4 + size:
                    return found
                found.append(masked_frame(self._in[4 : 4 + size]))
                rest = self._in[4 + size :]
            self._in = rest

    def close(self) -> None:
        self._socket.close()


_MEMBER: Final = re.compile(rf'"({"|".join(PLACEHOLDERS)})":("(?:[^"\\]|\\.)+"|-?[\d.eE+-]+|\{{[^{{}}]+\}}|\[[^\]]+\])')


def masked_line(line: str) -> str:
    """A line with its placeholders."""

    def mask(member: re.Match[str]) -> str:
        name, value = member.groups()
        is_kept = re.fullmatch(r"-?0(\.0)?", value) or (name == "version" and value[0] != '"')
        return member.group() if is_kept else f'"{name}":<{name}>'

    return _MEMBER.sub(mask, line)


def masked_frame(body: bytes) -> str:
    """A frame without its length, in hex, with its placeholders."""
    out: list[str] = []

    def write(value: Any) -> None:
        if isinstance(value, dict):
            out.append(
                msgspec.msgpack.encode(dict.fromkeys(map(str, range(len(value))), 0))[
                    : 1 if len(value) < 16 else 3
                ].hex()
            )
            for name, each in value.items():
                out.append(msgspec.msgpack.encode(name).hex())
                if name in PLACEHOLDERS and each and (name != "version" or isinstance(each, str)):
                    out.append(f"<{name}>")
                else:
                    write(each)
        elif isinstance(value, list):
            out.append(msgspec.msgpack.encode([0] * len(value))[: 1 if len(value) < 16 else 3].hex())
            for each in value:
                write(each)
        else:
            out.append(msgspec.msgpack.encode(value).hex())

    write(msgspec.msgpack.decode(body))
    return "".join(out)


def main() -> int:
    """Rewrite the files."""
    for framing in ("lines", "frames"):
        text = json.dumps(made(framing), ensure_ascii=False, indent=1)
        (VECTORS / f"{framing}.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
