"""Damage with a sense for structure: calls with other values, names and types, then their bytes, then their frames.

Rule: everything comes from the generator of random numbers that is given; the same seed sends the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fuzz.corpus import LEFT_OUT, Tree
from rawclient import CALL, Ext, Pairs, framed, pack

#: One in so many frames has its bytes damaged as well.
BYTES_IN: Final = 4
#: The last frame of one connection in so many never ends, or ends wrongly.
TORN_IN: Final = 4
FRAMES_MAX: Final = 24
_KEYS: Final = ("k", "m", "n", "l", "f/0", "f/1", "f/ü", "", "x" * 600, "a\x00b", "\x1b[2J", "../../etc/passwd")
_WIRE: Final = (
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xc1",
    b"{",
    b"}",
    b"\n",
    b"\r\n",
    b'"',
    b"\\u0000",
    b"\xed\xa0",
)


class Literal(str):
    """Text that goes into a line as it is, whatever JSON thinks of it."""

    __slots__ = ()


class Sent(NamedTuple):
    """The bytes of one connection and how many frames they are. `torn`: the last one is not whole."""

    data: bytes
    frames: int
    torn: bool


class Mutator:
    """An endless source of bad connections."""

    def __init__(self, seed: int, trees: Sequence[Tree], recorded: dict[str, list[bytes]]) -> None:
        self._random = random.Random(seed)
        self._trees = trees
        self._recorded = recorded

    def connection(self, encoding: str) -> Sent:
        """What to send over one connection."""
        rng = self._random
        if rng.random() < 0.1:
            data = self.damaged(rng.choice(self._recorded[encoding]))
            return Sent(data, 1, torn=True)
        count = rng.randint(1, FRAMES_MAX)
        frames = [self.frame(encoding) for _ in range(count)]
        torn = rng.randrange(TORN_IN) == 0
        if torn:
            last = frames[-1]
            frames[-1] = rng.choice(
                (last[: rng.randrange(len(last))], self.damaged(last), rng.randbytes(rng.randint(1, 9)))
            )
        return Sent(b"".join(frames), count, torn)

    def frame(self, encoding: str) -> bytes:
        """One whole frame, whatever is in it."""
        method, params = self.call()
        damage = self._random.randrange(BYTES_IN) == 0
        if encoding == "json":
            message: Any = {"jsonrpc": "2.0", "id": self._id(), "method": method, "params": params}
            if self._random.random() < 0.1:
                message = self._other(message, 0)
            line = line_of(message).encode("utf-8", "surrogatepass")
            line = self.damaged(line) if damage else line
            # A line is what ends with a newline; one that does not begin with a brace would be another encoding.
            return b"{" + line.replace(b"\n", b" ")[1:] + b"\n"
        body: Any = [CALL, self._id(), method, params]
        if self._random.random() < 0.1:
            body = self._other(body, 0)
        packed = packed_of(body)
        return framed(self.damaged(packed) if damage else packed)

    def call(self) -> Tree:
        """A call with zero to three things other than they should be."""
        rng = self._random
        while True:
            method, params = rng.choice(self._trees)
            changed: Any = dict(params)
            for _ in range(rng.choice((0, 1, 1, 2, 3))):
                changed = self._other(changed, 0)
            if rng.random() < 0.05:
                method = rng.choice((method.upper(), method + "x", "", "x" * 70, "\x00"))
            if method == "purge" and rng.random() < 0.98:
                continue  # each writes the whole database anew
            if method == "session.register" and rng.random() < 0.98:  # or there would soon be ten thousand
                changed = {**(changed if isinstance(changed, dict) else {}), "id": f"fuzz-{rng.randrange(8)}"}
            if method not in LEFT_OUT:
                return method, changed

    def damaged(self, data: bytes) -> bytes:
        """Some bytes replaced, removed, repeated or put in."""
        rng = self._random
        found = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(found) + 1)
            kind = rng.randrange(5)
            if kind == 0 and found:
                found[at - 1] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del found[at : at + rng.randint(1, 8)]
            elif kind == 2:
                found[at:at] = rng.choice(_WIRE)
            elif kind == 3:
                found[at:at] = found[at : at + rng.randint(1, 40)]
            else:
                found[at : at + 2] = rng.randbytes(2)
        return bytes(found)

    # -- trees -----------------------------------------------------------------------------------------------------

    def _other(self, node: Any, depth: int) -> Any:
        """The same with one thing changed somewhere in it."""
        rng = self._random
        if isinstance(node, dict) and node and rng.random() < 0.85:
            key = rng.choice(list(node))
            kind = rng.random()
            if kind < 0.1:
                return {name: value for name, value in node.items() if name != key}
            if kind < 0.15:
                return Pairs((*node.items(), (key, node[key])))
            if kind < 0.2:
                return {**node, rng.choice(_KEYS): self._any(depth + 1)}
            return {**node, key: self._other(node[key], depth + 1)}
        if isinstance(node, list | tuple) and node and rng.random() < 0.8:
            items = list(node)
            index = rng.randrange(len(items))
            items[index] = self._other(items[index], depth + 1)
            return items if rng.random() < 0.9 else items * rng.randint(2, 20)
        return self._any(depth)

    def _any(self, depth: int) -> Any:
        rng = self._random
        kind = rng.randrange(12)
        if kind < 3:
            return rng.choice((0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 0.5, -0.0, 1e308))
        if kind < 5:
            return rng.choice(_KEYS)
        if kind == 5:
            return rng.choice(
                (float("nan"), float("inf"), b"\x00\xff", Ext(rng.randrange(256), b"x"), Literal("1e999"))
            )
        if kind == 6:
            return "y" * rng.choice((10, 300, 5_000, 70_000 if depth == 0 else 700))
        if kind == 7:
            return self._nested(rng.choice((3, 31, 33, 200)))
        if kind == 8:
            return {f"n{index}": index for index in range(rng.randint(0, 40))}
        if kind == 9:
            return [rng.randrange(300)] * rng.randint(0, 300)
        return rng.choice(
            (None, True, False, "\ud800", "\ud800\udc00\ud800", "x\udfff", "", [], {}, "fuzz-1", "$sessions")
        )

    def _nested(self, levels: int) -> Any:
        node: Any = 1
        for _ in range(levels):
            node = [node] if self._random.random() < 0.5 else {"n": node}
        return node

    def _id(self) -> Any:
        rng = self._random
        return (
            rng.randrange(1, 1000)
            if rng.random() < 0.9
            else rng.choice((0, -1, 2**63, "s", "x" * 200, None, 1.5, [], {}))
        )


def packed_of(value: Any) -> bytes:
    """MessagePack; a number that has no form there becomes text."""
    try:
        return pack(value)
    except OverflowError:
        return pack(str(value))


def line_of(value: Any) -> str:
    """JSON, also of what is none: names twice, bytes as numbers, literals as they are."""
    if isinstance(value, Literal):
        return value
    if isinstance(value, Pairs | dict):
        pairs = value.pairs if isinstance(value, Pairs) else value.items()
        return "{" + ",".join(f"{json.dumps(str(name))}:{line_of(each)}" for name, each in pairs) + "}"
    if isinstance(value, list | tuple) and not isinstance(value, Ext):
        return "[" + ",".join(map(line_of, value)) + "]"
    if isinstance(value, bytes | Ext):
        return line_of(list(value if isinstance(value, bytes) else value.data))
    return json.dumps(value, ensure_ascii=isinstance(value, str) and len(value) % 2 == 1)
