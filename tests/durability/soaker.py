"""One process of the soak: it writes, reads or watches at full speed until its time is over, and says how it went.

    python tests/durability/soaker.py ROLE SOCKET SECONDS

Rule: it ends by itself, and prints one line of JSON: how many calls, and the longest one in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from cosession import aio
from cosession.errors import Compacted, CosessionError

KEYS: Final = 10_000
WIDE: Final = 100
WIDE_KEYS: Final = 2_000
#: Calls that one process has on the way at any time.
AT_ONCE: Final = 16
PACE_S: Final = 0.02

Call = Callable[[aio.Client, random.Random], Awaitable[object]]


async def small(client: aio.Client, rng: random.Random) -> object:
    """200 bytes under one of many keys."""
    return await client.put(f"small/{rng.randrange(KEYS)}", "x" * 200)


async def hot(client: aio.Client, rng: random.Random) -> object:
    """The one key that everybody writes."""
    return await client.put("hot", rng.random())


async def wide(client: aio.Client, rng: random.Random) -> object:
    """A hundred writes at once."""
    first = rng.randrange(WIDE_KEYS)
    keys = [f"wide/{(first + number) % WIDE_KEYS}" for number in range(WIDE)]
    return await client.txn(then=[{"op": "put", "key": key, "value": first} for key in keys])


async def deleting(client: aio.Client, rng: random.Random) -> object:
    """As many deletes as puts."""
    key = f"gone/{rng.randrange(2_000)}"
    if rng.random() < 0.5:
        return await client.put(key, "x" * 100)
    return await client.delete(key)


async def past(client: aio.Client, rng: random.Random) -> object:
    """Histories, and pages at a revision that is about to leave the window."""
    if rng.random() < 0.5:
        return await client.history(f"small/{rng.randrange(KEYS)}")
    revision = (await client.status()).compact_revision + 500
    try:
        return await client.range("gone/", at_revision=max(1, revision), limit=200)
    except (Compacted, CosessionError):
        return None  # it left, or is not there yet


ROLES: Final[dict[str, Call]] = {"small": small, "hot": hot, "wide": wide, "deleting": deleting, "past": past}


async def paced(client: aio.Client, rng: random.Random) -> object:
    """One write every 20 ms: what it waits is what any commit waits."""
    await asyncio.sleep(PACE_S)
    return await client.put("paced", rng.random())


async def _work(role: str, socket: str, seconds: float) -> dict[str, object]:
    rng = random.Random(role)
    end = time.monotonic() + seconds
    waits_ms: list[float] = []
    refused: dict[str, int] = {}
    call = paced if role == "paced" else ROLES[role]
    skipped_s = PACE_S if role == "paced" else 0.0

    async with aio.connect(socket, project="soak", timeout_s=60.0) as client:

        async def one_after_the_other() -> None:
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    await call(client, rng)
                except CosessionError as error:
                    refused[error.code] = refused.get(error.code, 0) + 1
                waits_ms.append((time.monotonic() - began - skipped_s) * 1000)

        many = 1 if role in ("paced", "past") else AT_ONCE
        await asyncio.gather(*(one_after_the_other() for _ in range(many)))
    waits_ms.sort()
    return {
        "role": role,
        "calls": len(waits_ms),
        "p50_ms": round(waits_ms[len(waits_ms) // 2], 2),
        "p99_ms": round(waits_ms[int(len(waits_ms) * 0.99)], 2),
        "longest_ms": round(waits_ms[-1], 2),
        "refused": refused,
    }


async def _watch(socket: str, seconds: float) -> dict[str, object]:
    """A watch whose reader is slow: it lags, catches up, and may be cut off by the window."""
    end = time.monotonic() + seconds
    seen = cut = 0
    async with aio.connect(socket, project="soak", timeout_s=60.0) as client:
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    async for _ in client.watch("small/"):
                        seen += 1
                        if seen % 100 == 0:
                            await asyncio.sleep(0.05)
            except Compacted:
                cut += 1
            except TimeoutError:
                break
    return {
        "role": "watch",
        "calls": seen,
        "p50_ms": 0.0,
        "p99_ms": 0.0,
        "longest_ms": 0.0,
        "refused": {"compacted": cut},
    }


if __name__ == "__main__":
    role, socket, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    found = _watch(socket, seconds) if role == "watch" else _work(role, socket, seconds)
    sys.stdout.write(json.dumps(asyncio.run(found)) + "\n")
