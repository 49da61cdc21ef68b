"""The asyncio client: the same names as the blocking one, awaited.

    async with cosession.aio.connect() as client:
        entry = await client.add("builds")
        entry.value  # -> 1

Any number of calls may be in flight on one client; cancelling one leaves the others alone. `client.watch(...)` is
iterated with `async for`; `client.session(...)` is entered with `async with`, or awaited.

Rule: `io` holds what asyncio does differently from blocking; the rest is written here once and translated into
`cosession.sync` by tests/client/unasync.py.
"""

from .audit import AuditTrail
from .claim import Claim
from .client import Client, connect
from .mail import Letters
from .session import Session
from .watch import Watch

__all__ = ["AuditTrail", "Claim", "Client", "Letters", "Session", "Watch", "connect"]
