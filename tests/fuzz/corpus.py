"""What fuzzing begins with: the calls and conversations of the test vectors, and one call of each method at least.

Rule: nothing here asks the daemon to stop: an end that was asked for is no crash.
"""

from __future__ import annotations

import json
from typing import Any, Final

from msgspec import structs

from cosession.messages import REQUESTS
from vectors import CALLS, VECTORS

LEFT_OUT: Final = frozenset({"admin.stop"})
#: What a method asks for at least, by name of the parameter.
STAND_INS: Final[dict[str, Any]] = {
    "key": "k",
    "value": {"a": [1, None, "x"]},
    "patch": {"a": None},
    "number": 1,
    "values": [1],
    "to_revision": 1,
    "revision": 1,
    "time": 1.0,
    "watch": 1,
    "session": "fuzz-0",
    "targets": ["path:src/**", "name:n"],
    "claim": "1",
    "name": "none",
    "text": "a letter",
    "client": "claude",
    "event": "Stop",
    "state": {"task": "t", "decisions": ["x"]},
    "checkpoint": "fuzz-0",
}

Tree = tuple[str, dict[str, Any]]


def trees() -> list[Tree]:
    """Calls as a method and its parameters."""
    found = [call for calls in CALLS.values() for call in calls if call[0] not in LEFT_OUT]
    for method, request in REQUESTS.items():
        if method not in LEFT_OUT:
            required = [field.encode_name for field in structs.fields(request) if field.required]
            found.append((method, {name: STAND_INS[name] for name in required}))
            optional = {f.encode_name: f.default for f in structs.fields(request) if isinstance(f.default, str | int)}
            found.append((method, {name: STAND_INS[name] for name in required} | optional))
    return found


def conversations() -> dict[str, list[bytes]]:
    """What was sent over whole connections, by encoding, the frames of each joined."""
    found: dict[str, list[bytes]] = {}
    for encoding, name, decode in (("json", "lines", str.encode), ("msgpack", "frames", bytes.fromhex)):
        vectors = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
        whole = [b"".join(decode(step["send"]) for step in each["steps"]) for each in vectors["conversations"]]
        found[encoding] = [data for data in whole if data and not any(bytes(m, "ascii") in data for m in LEFT_OUT)]
    return found
