"""The blocking client, which `cosession` itself names: `cosession.connect`, `cosession.Client` and so on.

One socket and no thread, until a session promises heartbeats. Several threads may share a client; they are served one
call at a time.

Rule: `io` is what blocks, written by hand; the other modules are made from `cosession.aio` by tests/client/unasync.py.
"""

from .audit import AuditTrail
from .claim import Claim
from .client import Client, connect
from .mail import Letters
from .session import Session
from .watch import Watch

__all__ = ["AuditTrail", "Claim", "Client", "Letters", "Session", "Watch", "connect"]
