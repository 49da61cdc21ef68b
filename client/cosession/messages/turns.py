"""turn: a place in the queue of one key, for `update`.

Rule: names and meaning are those of `client/PROTOCOL.md`. A turn is advisory: it delays and refuses no write.
"""

from __future__ import annotations

from typing import ClassVar

from cosession.messages.base import Reply, Request
from cosession.model import GLOBAL, Entry


class TurnReply(Reply, frozen=True, kw_only=True):
    """`granted`: the caller has the turn, and `entry` is what stands now (None when absent); it stands in for a `get`.

    `waited`: somebody else had it when the caller asked. `behind`: how many wait for it still. Without the turn `entry`
    is None whatever stands.
    """

    granted: bool
    waited: bool = False
    behind: int = 0
    entry: Entry | None = None


class Turn(Request[TurnReply], frozen=True, kw_only=True):
    """Wait for the turn of a key, at most `wait_s` seconds; answered when the caller heads the queue.

    It ends with the next write of this connection to that key, whatever its outcome, with the connection, or 1 s after
    it was given. `give_back` ends the turns that this connection has of that key, and asks for none.
    Errors: overloaded, shutting_down; do without a turn then.
    """

    method: ClassVar[str] = "turn"
    key: str
    wait_s: float = 10.0
    give_back: bool = False
    project: str = GLOBAL
    space: str = "context"
