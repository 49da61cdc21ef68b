"""Protocol scripts as data: what is sent, and the transcript of what comes back.

A script (scripts/*.txt) is a list of blocks, separated by blank lines: lines to send, `----`, and one line for each
frame that the daemon answers. `REWRITE=1 pytest -n 0 tests/server/test_scripts.py` writes the
answers anew; read the diff then. A script may
begin with a block of settings: `set encodings json msgpack` (it is run in each, with one transcript), `set limits
NAME=NUMBER ...`. To send (`NAME:` before any of these speaks on another connection than `a`; each opens at first use,
and again after it was closed):

    call METHOD JSON       a call in the encoding of the run, numbered by itself; in its strings "{k*513}" stands for
                           513 times k, and "{[]*33}" alone for a list inside a list ..., 33 of them
    bytes TOKENS           any bytes: hex digits, 'text', N*(TOKENS), frame(TOKENS) with its length before it, and
                           str(TOKENS) or str'text' with the MessagePack head of a string
    line TOKENS            the same and a newline
    eof                    no more will be sent
    open                   nothing: only connect

Shown are, per connection, answers by call id, events by watch, errors with code and message; `@` is the revision. What
differs from run to run is `~`, and so is the part of a message that comes from a library; members of an entry that say
nothing (`_QUIET`) are left out.

Rule: knows nothing of the daemon but `Channel`, so that one script is run against a real daemon and without sockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rawclient import Answer, Json, Pack, framed, pack

SCRIPTS = Path(__file__).with_name("scripts")
SEPARATOR = "----"
ENDED = "closed"
_MASKED = frozenset({"pid", "version", "epoch", "daemon_id", "socket", "state_directory", "host", "uptime_s", "limits"})
#: Of the machine and the moment, and too often there to be shown as `~`.
_OMITTED = frozenset({"time", "instance"})
_QUIET = {
    "session": "",
    "replaced_session": "",
    "replaced_revision": 0,
    "repeated": False,
    "ttl_s": 0.0,
    "ephemeral": "",
}
_FOREIGN = re.compile(
    r"(?<=cannot read JSON: ).*(?=; send one object per line)"
    r"|(?<=cannot read the call: ).*(?=; send \[0|; strings are)"
    r"|(?<=MessagePack of JSON data \().*(?=\))"
    r"|(?<=cannot read the parameters: ).*(?=; send a map)"
    r"|(?<=the store is in )\w+|(?<=this daemon \()[^)]*",  # the epoch, the version
    re.DOTALL,
)
_LARGE = re.compile(r"\d{5,}\*\(|\*\d{5,}\}")
_MACRO = re.compile(r"\{(.+)\*(\d+)\}")
_TOKEN = re.compile(r"(\d+)\*\(|(frame|str)\(|str'([^']*)'|'([^']*)'|(\))|((?:[0-9a-f]{2})+)|\s+")


class Channel(Protocol):
    """One connection of a script."""

    def send(self, data: bytes) -> None:
        """Send all of it; a daemon that has closed meanwhile is no error."""
        ...

    def half_close(self) -> None:
        """No more will be sent."""
        ...

    def collect(self, count: int | None, *, to_end: bool) -> tuple[list[Answer], bool]:
        """The next `count` frames, fewer when the connection ends before; True when it has ended. With `to_end` all up
        to the end, with None all until it is quiet."""
        ...


Connect = Callable[[str], Channel]


@dataclass
class Block:
    """One exchange: the lines of input (comments too) and the transcript."""

    given: list[str]
    expected: list[str]


@dataclass
class Script:
    """One file."""

    name: str
    blocks: list[Block]
    encodings: list[str] = field(default_factory=lambda: ["json", "msgpack"])
    limits: dict[str, float] = field(default_factory=dict)

    @property
    def is_large(self) -> bool:
        """Whether more is sent than one would send byte by byte."""
        return any(_LARGE.search(line) for block in self.blocks for line in block.given)

    def text(self, transcripts: list[list[str]]) -> str:
        """The file with these transcripts."""
        parts = []
        for block, lines in zip(self.blocks, transcripts, strict=True):
            has_input = any(not line.startswith(("#", "set ")) for line in block.given)
            parts.append("\n".join([*block.given, *([SEPARATOR, *lines] if has_input else [])]))
        return "\n\n".join(parts) + "\n"


def read(path: Path) -> Script:
    """The script of a file."""
    script = Script(path.stem, [])
    for part in path.read_text(encoding="utf-8").strip().split("\n\n"):
        lines = part.strip("\n").split("\n")
        cut = lines.index(SEPARATOR) if SEPARATOR in lines else len(lines)
        block = Block(lines[:cut], lines[cut + 1 :])
        script.blocks.append(block)
        for line in block.given:
            if line.startswith("set encodings "):
                script.encodings = line.split()[2:]
            elif line.startswith("set limits "):
                pairs = (word.split("=") for word in line.split()[2:])
                script.limits = {name: json.loads(number) for name, number in pairs}
    return script


def run(script: Script, encoding: str, connect: Connect, *, rewrite: bool) -> list[list[str]]:
    """The transcript of each block. Without `rewrite` as many frames are awaited as the script expects."""
    channels: dict[str, Channel] = {}
    numbers: dict[str, int] = {}
    transcripts = []
    for block in script.blocks:
        spoken = set()
        for line in block.given:
            if line.startswith(("#", "set ")):
                continue
            name, rest = _parted(line)
            spoken.add(name)
            if name not in channels:
                channels[name], numbers[name] = connect(encoding), 0
            if rest.startswith("call "):
                numbers[name] += 1
            _act(rest, channels[name], encoding, numbers[name])
        expected: dict[str, list[str]] = {name: [] for name in spoken}
        for line in block.expected:
            name, rest = _parted(line)
            expected.setdefault(name, []).append(rest)
        transcript: list[str] = []
        for name in sorted(expected.keys() | (channels.keys() if rewrite else set())):
            to_end = expected.get(name, [])[-1:] == [ENDED]
            answers, ended = channels[name].collect(None if rewrite else len(expected[name]), to_end=to_end)
            shown = [*map(show, answers), *([ENDED] if ended else [])]
            transcript += [line if name == "a" else f"{name}: {line}" for line in shown]
            if ended:
                del channels[name]
        transcripts.append(transcript)
    return transcripts


def _parted(line: str) -> tuple[str, str]:
    """The connection and the rest of a line."""
    found = re.match(r"([a-z]): (.*)", line)
    return (found[1], found[2]) if found else ("a", line)


def _act(line: str, channel: Channel, encoding: str, number: int) -> None:
    verb, _, rest = line.partition(" ")
    if verb == "call":
        method, _, params = rest.partition(" ")
        peer = Json if encoding == "json" else Pack
        channel.send(peer.encode(number, _grown(method), _grown(json.loads(params or "{}"))))
    elif verb in ("bytes", "line"):
        channel.send(tokens(rest) + (b"\n" if verb == "line" else b""))
    elif verb == "eof":
        channel.half_close()
    else:
        assert verb == "open", f"no such word in a script: {line}"


def _grown(value: Any) -> Any:
    if isinstance(value, dict):
        return {_grown(name): _grown(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_grown(each) for each in value]
    if not isinstance(value, str) or not (found := _MACRO.fullmatch(value)):
        return value
    text, count = found[1], int(found[2])
    if text != "[]":
        return text * count
    nested: list[Any] = []
    for _ in range(count - 1):
        nested = [nested]
    return nested


def tokens(text: str) -> bytes:
    """The bytes that a line of tokens stands for."""
    stack: list[tuple[str, bytearray]] = [("", bytearray())]
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        assert found, f"no token: {text[position:]}"
        position = found.end()
        times, function, string, plain, end, digits = found.groups()
        if times or function:
            stack.append((times or function, bytearray()))
            continue
        if end:
            kind, inner = stack.pop()
            made = _framed_as(kind, bytes(inner))
        else:
            made = pack(string) if string is not None else bytes.fromhex(digits) if digits else (plain or "").encode()
        stack[-1][1].extend(made)
    ((_, whole),) = stack
    return bytes(whole)


def _framed_as(kind: str, inner: bytes) -> bytes:
    if kind == "frame":
        return framed(inner)
    if kind == "str":
        return pack("x" * len(inner))[: -len(inner) or None] + inner
    return inner * int(kind)


# -- showing ---------------------------------------------------------------------------------------------------------


def show(answer: Answer) -> str:
    """One line for one frame."""
    body = dict(answer.body)
    revision = body.pop("revision", "-")
    at = f"@{revision}"
    if answer.kind == "reply":
        return f"{_plain(answer.id)} reply {at} {_plain(body)}"
    if answer.kind == "event":
        return f"watch {answer.id} {body.pop('kind')} {at} {_plain(body)}"
    code, message, data = body.pop("code"), body.pop("message"), body.pop("data", {})
    if data.get("revision") == revision:
        del data["revision"]  # in JSON it is that of the error
    again = " retryable" if body.pop("retryable") else ""
    if message.startswith("cannot read a line of"):
        data["size"] = "~"  # what had come of it by then
    assert not body, f"an error has members that are not known: {body}"
    who = "" if answer.kind == "goodbye" else f"{_plain(answer.id)} "
    return f"{who}{answer.kind} {at} {code}{again}: {_FOREIGN.sub('~', message)}" + (f" {_plain(data)}" if data else "")


def _plain(value: Any) -> str:
    return json.dumps(_masked(value), ensure_ascii=True, sort_keys=True)


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        shown = {name: each for name, each in value.items() if name not in _QUIET or each != _QUIET[name]}
        return {
            name: "~" if _differs(name, each) else _masked(each) for name, each in shown.items() if name not in _OMITTED
        }
    if isinstance(value, list):
        return [_masked(each) for each in value]
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:8]}...({len(value)})"
    return value


def _differs(name: str, value: Any) -> bool:
    return name in _MASKED and not (name == "version" and isinstance(value, int))
