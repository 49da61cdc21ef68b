"""What clients do with claims: few targets that overlap in every way, so that they meet; fenced writes on one key.

Rule: what a target names is written down here as the paths it stands for, which is how the oracles know what overlaps.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from msgspec import Raw, msgpack

from cosession.messages.claims import Acquire, Check, List, Release, Renew
from cosession.messages.store import Put
from simulation.client import Client
from simulation.history import Call

WORKTREE: Final = "/w"
#: Each target with the things it names.
NAMED: Final[dict[str, frozenset[str]]] = {
    "path:src/**": frozenset({"src/a", "src/b", "src/lib/c"}),
    "path:src/*": frozenset({"src/a", "src/b"}),
    "path:**/c": frozenset({"src/lib/c"}),
    "path:src/a": frozenset({"src/a"}),
    "path:src/[b-d]": frozenset({"src/b"}),
    "name:x": frozenset({"name x"}),
    "name:y": frozenset({"name y"}),
}
FENCED: Final = "f/0"
#: As short as the daemon allows, so that a run meets its end.
TTL_S: Final = 1.0


def act(client: Client) -> None:
    """One step of one client."""
    live = [held for held in client.sessions if not held.over]
    if not live or client.link is None:
        return
    held = client.random.choice(live)
    point = client.random.random()
    if point < 0.6:
        _acquire(client, held.id)
    elif point < 0.7:
        client.call(Release(all=True, session=held.id))
    elif point < 0.85:
        client.call(Renew(session=held.id))
    elif point < 0.95:
        client.call(Check(targets=_targets(client), worktree=WORKTREE, session=held.id))
    else:
        client.call(List())


def _targets(client: Client) -> list[str]:
    return client.random.sample(list(NAMED), client.random.choice((1, 1, 2)))


def _acquire(client: Client, session: str) -> None:
    random = client.random
    request = Acquire(
        targets=_targets(client),
        worktree=WORKTREE,
        shared=random.random() < 0.3,
        hold="process" if random.random() < 0.1 else "activity",
        automatic=random.random() < 0.2,
        ttl_s=TTL_S,
        idle_hold_s=0.0,
        wait_s=random.choice((0.0, 0.5, 3.0)),
        session=session,
    )
    client.call(request, partial(_follow, client, session))


def _follow(client: Client, session: str, call: Call) -> None:
    """What a holder does: write, renew close to the end, release, write although it has released."""
    reply: Any = call.reply
    if reply is None:
        return
    id, token = reply.claim.id, reply.claim.token
    for _ in range(client.random.randint(0, 2)):
        _write(client, session, token)
    point = client.random.random()
    later_s = TTL_S * client.random.uniform(0.9, 1.1)
    if point < 0.5:
        client.call(Release(ids=[id], session=session))
        if point < 0.25:
            _write(client, session, token)
    elif point < 0.75:
        client.world.call_after(later_s, lambda: client.call(Renew(ids=[id], session=session)))
    client.world.call_after(later_s, partial(_write, client, session, token))


def _write(client: Client, session: str, token: int) -> None:
    number = len(client.history.calls) + 1
    value = Raw(msgpack.encode({"w": number, "by": client.name}))
    request = Put(key=FENCED, value=value, fence=token, session=session, request_id=f"{client.name}-{number}")
    client.write(request)
