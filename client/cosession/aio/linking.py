"""Get a connection that can be used: opened, greeted, and judged fit to talk to.

Rule: the only place that opens connections; it never returns one that has not said hello.
"""

from __future__ import annotations

import os
import random
import time

from cosession.errors import CosessionError, Unreachable
from cosession.exchange.calls import LinkLost, RequestIds
from cosession.exchange.contention import Contention
from cosession.exchange.presence import Attachments, Memory
from cosession.reach import Target, opening
from cosession.retries import LINKS_LOST_MAX, back_off_s

from .io import Link, drive, pause

#: Refusals of `hello` that pass.
_PASSING = frozenset({"overloaded", "shutting_down"})


class Common:
    """What the parts of one client share: where the daemon is, what was seen of it, which sessions are open."""

    def __init__(self, target: Target, *, project: str, timeout_s: float) -> None:
        self.target = target
        self.project = project
        self.timeout_s = timeout_s
        session, session_token = target.env.get("COSESSION_SESSION", ""), target.env.get("COSESSION_TOKEN", "")
        self.memory = Memory(project, session=session, session_token=session_token)
        self.attachments = Attachments()
        self.contention = Contention()
        self.new_id = RequestIds(lambda: time.time_ns() // 1_000_000, os.urandom)
        self.jitter = random.random
        self.pid = os.getpid()

    @property
    def is_foreign(self) -> bool:
        """Whether this is a forked child of the process that made the client: the connections are not ours to use."""
        return os.getpid() != self.pid


async def open_link(common: Common, target: Target, deadline: float, *, again: bool = False) -> Link:
    """A greeted connection. Raises Unreachable, NotAllowed, TimedOut, or what the daemon says against us."""
    attempt = 0
    while True:
        attempt += 1
        link = await Link.over(await drive(opening(target, deadline, again=again)))
        try:
            await _greet(common.memory, link, deadline)
        except LinkLost as lost:
            await link.close()
            if attempt >= LINKS_LOST_MAX:
                raise Unreachable(
                    f"cannot talk to the daemon at {target.socket}: {lost}; run: cosession status"
                ) from None
        except CosessionError as error:
            await link.close()
            if error.code not in _PASSING or attempt >= LINKS_LOST_MAX:
                raise
        except BaseException:
            await link.close()
            raise
        else:
            return link
        await pause(back_off_s(attempt, common.jitter()))


async def _greet(memory: Memory, link: Link, deadline: float) -> None:
    try:
        reply = await link.call(memory.hello(), deadline)
    except LinkLost:
        raise
    except CosessionError as error:
        memory.refused(error)
        reply = await link.call(memory.hello(), deadline)
    memory.learn(reply)
    link.adopt(reply.limits)
    link.epoch = reply.epoch
    link.revision = reply.revision
