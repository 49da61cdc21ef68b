"""The child processes of the benchmarks, by role: `python worker.py ROLE PARAMETERS_AS_JSON`; see children.py.

What users do is done with the client library as users have it: connect, update, watch, session, get, put.

Rule: nothing is written to standard output but `ready` and the one line of the result.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import cosession

SILENCE_S: Final = 30.0
FRAME: Final = 256


def wait_for_go() -> None:
    """Say that all is set up, and wait."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def update(*, number: int, key: str, count: int) -> dict[str, Any]:
    """Increment one entry `count` times with `update`; when it gives up with Conflict, call it again."""
    attempts = gave_up = 0

    def increment(value: Any) -> int:
        nonlocal attempts
        attempts += 1
        return int(value or 0) + 1

    with cosession.connect(project="global", spawn=False) as client:
        wait_for_go()
        began = time.monotonic()
        done = 0
        while done < count:
            try:
                client.update(key, increment)
            except cosession.Conflict:
                gave_up += 1
            else:
                done += 1
        return {"number": number, "attempts": attempts, "gave_up": gave_up, "seconds": time.monotonic() - began}


def update_until(*, number: int, key: str, total: int) -> dict[str, Any]:
    """Increment one entry with `update`, as others do, until all together have made it `total`."""
    attempts = done = gave_up = reached = 0

    def increment(value: Any) -> int:
        nonlocal attempts
        attempts += 1
        return int(value or 0) + 1

    with cosession.connect(project="global", spawn=False) as client:
        wait_for_go()
        began = time.monotonic()
        while reached < total:
            try:
                reached = client.update(key, increment).value
            except cosession.Conflict:
                gave_up += 1
            else:
                done += 1
        took = time.monotonic() - began
    return {"number": number, "attempts": attempts, "done": done, "gave_up": gave_up, "seconds": took}


def merge(*, number: int, key: str, count: int) -> dict[str, Any]:
    """Merge into one entry `count` times: the same contention, decided in the daemon."""
    with cosession.connect(project="global", spawn=False) as client:
        wait_for_go()
        began = time.monotonic()
        for index in range(count):
            client.merge(key, {f"n{number}": index})
        return {"number": number, "seconds": time.monotonic() - began}


def watch_values(*, number: int, key: str, count: int) -> dict[str, Any]:
    """Watch one entry from the first revision on and collect `count` of its values."""
    values: list[Any] = []
    revisions: list[int] = []
    with (
        cosession.connect(project="global", spawn=False) as client,
        client.watch(key=key, start_revision=1, timeout_s=SILENCE_S) as watch,
    ):
        wait_for_go()
        for change in watch:
            values.append(change.value)
            revisions.append(change.mod_revision)
            if len(values) == count:
                break
    return {"number": number, "values": values, "ascending": revisions == sorted(set(revisions))}


def watch_delays(*, number: int, prefix: str, count: int) -> list[float]:
    """Watch a prefix; microseconds from the time in each value to now, `count` times."""
    delays: list[float] = []
    with (
        cosession.connect(project="global", spawn=False) as client,
        client.watch(prefix, timeout_s=SILENCE_S) as watch,
    ):
        wait_for_go()
        for change in watch:
            now = time.monotonic_ns()
            value: Any = change.value
            delays.append((now - value["at_ns"]) / 1e3)
            if len(delays) == count:
                break
    assert number >= 0
    return delays


def write_paced(*, number: int, prefix: str, count: int, pace_s: float) -> list[float]:
    """Put `count` entries of 200 B with the time in them; microseconds that each put took."""
    chance = random.Random(number)
    took: list[float] = []
    with cosession.connect(project="global", spawn=False) as client:
        wait_for_go()
        for index in range(count):
            time.sleep(chance.uniform(0.5, 1.5) * pace_s)
            began = time.monotonic_ns()
            client.put(f"{prefix}{index % 50}", {"at_ns": began, "pad": "x" * 170})
            took.append((time.monotonic_ns() - began) / 1e3)
    return took


def rate_get(*, number: int, seconds: float) -> dict[str, Any]:
    """Get one entry again and again."""
    return _rate(number, seconds, get=True)


def rate_cas(*, number: int, seconds: float) -> dict[str, Any]:
    """Compare-and-swap an entry of its own again and again, each durable."""
    return _rate(number, seconds, get=False)


def _rate(number: int, seconds: float, *, get: bool) -> dict[str, Any]:
    took: list[float] = []
    value = "x" * 197
    key = f"rate/{number}"
    with cosession.connect(project="global", spawn=False) as client:
        entry = client.put(key, value)
        wait_for_go()
        began = time.perf_counter()
        until = began + seconds
        while (before := time.perf_counter()) < until:
            if get:
                client.get(key)
            else:
                entry = client.put(key, value, expect_revision=entry.mod_revision)
            took.append((time.perf_counter() - before) * 1e6)
        return {"seconds": time.perf_counter() - began, "took_us": took}


def session(*, number: int, heartbeat_s: float) -> str:
    """Be a session until killed."""
    with (
        cosession.connect(project="global", spawn=False) as client,
        client.session(agent="bench", id=f"bench-{number}-{time.monotonic_ns()}", heartbeat_s=heartbeat_s) as mine,
    ):
        wait_for_go()
        sys.stdout.write(json.dumps(mine.id) + "\n")
        sys.stdout.flush()
        sys.stdin.readline()
        return mine.id


def watch_crashes(*, number: int, count: int) -> list[tuple[str, int, float]]:
    """Watch `$sessions`; id, monotonic nanoseconds and the daemon's own measure of `count` crashes."""
    found: list[tuple[str, int, float]] = []
    with (
        cosession.connect(project="global", spawn=False) as client,
        client.watch(space="$sessions", project="global", snapshot=False, timeout_s=2 * SILENCE_S) as watch,
    ):
        wait_for_go()
        for change in watch:
            now = time.monotonic_ns()
            if change.kind == "put" and change.value["state"] == "crashed":
                found.append((change.key, now, change.value["detected_ms"]))
                if len(found) == count:
                    break
    assert number >= 0
    return found


def receive(*, path: str, count: int) -> list[float]:
    """The floor: microseconds from the time in each frame of a raw socket to its receipt."""
    took: list[float] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(SILENCE_S)
        sock.connect(path)
        while len(took) < count:
            data = sock.recv(FRAME)
            now = time.monotonic_ns()
            assert len(data) == FRAME, "frames are paced, so each comes alone"
            took.append((now - int.from_bytes(data[:8], sys.byteorder)) / 1e3)
    return took


ROLES: Final[dict[str, Callable[..., Any]]] = {
    role.__name__: role
    for role in (
        update,
        update_until,
        merge,
        watch_values,
        watch_delays,
        write_paced,
        rate_get,
        rate_cas,
        session,
        watch_crashes,
        receive,
    )
}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle, which then kills us
    outcome = ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
    sys.stdout.write(json.dumps(outcome) + "\n")
