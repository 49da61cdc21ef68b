"""What clients do: one random step at a time, over few keys, so that they meet.

Rule: every write carries a number of its own (`w`), by which it is known again wherever it turns up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec import UNSET, Raw, msgpack
from msgspec.structs import replace

from cosession.messages import sessions
from cosession.messages.past import History, Purge, Revert
from cosession.messages.store import (
    Add,
    Append,
    Compare,
    CompareEntry,
    CompareRange,
    Delete,
    Get,
    Merge,
    Put,
    Range,
    Txn,
    TxnAdd,
    TxnAppend,
    TxnDelete,
    TxnMerge,
    TxnPut,
    TxnWrite,
)
from cosession.messages.turns import Turn
from cosession.messages.watches import Unwatch, Watch
from cosession.model import GLOBAL
from simulation import claiming, mailing
from simulation.client import Client
from simulation.history import Call, Watching

KEYS: Final = ("a/0", "a/1", "a/2", "b/0", "b/1", "c")
#: Mostly added and appended to: what one of the others writes there is met as the wrong kind.
COUNTED: Final = "n/0"
LISTED: Final = "l/0"
#: Written by those alone who have its turn.
TURNED: Final = "u/0"
#: Written as leases only, and seldom: what becomes of a lease shows when nobody else touches it.
LEASED: Final = tuple(f"t/{number}" for number in range(8))
PREFIXES: Final = ("", "a/", "b/", "t/", "nothing/")
PROJECTS: Final = (GLOBAL, GLOBAL, GLOBAL, "other")
TTLS: Final = (0.05, 0.3, 0.3, 1.0)
#: How much of what clients do is about claims, in the runs that have them.
CLAIMING: Final = 0.3
#: And about mail.
MAILING: Final = 0.3
HEARTBEATS: Final = (0.0, 0.1, 0.3)

_encode = msgpack.Encoder().encode


def act(client: Client) -> None:
    """One step of one client."""
    if client.link is None:
        return
    for _ in range(1 if client.random.random() < 0.8 else client.random.randint(2, 12)):
        if client.history.knobs.claims and client.random.random() < CLAIMING:
            claiming.act(client)
        elif client.history.knobs.mail and client.random.random() < MAILING:
            mailing.act(client)
        else:
            client.random.choices(_STEPS, _WEIGHTS)[0](client)


def _key(client: Client) -> str:
    return client.random.choice(KEYS)


def _value(client: Client) -> dict[str, Any]:
    number = len(client.history.calls) + 1
    size = client.random.randint(0, client.history.knobs.value_bytes)
    return {"w": number, "by": client.name, "pad": "x" * size}


def _marks(client: Client) -> dict[str, Any]:
    """Project and request id of a write."""
    number = len(client.history.calls) + 1
    id = f"{client.name}-{number}" if client.random.random() < 0.85 else ""
    return {"request_id": id, "project": client.random.choice(PROJECTS)}


def _expected(client: Client, key: str) -> Any:
    """An expect_revision: mostly what is known, sometimes absence, sometimes a guess."""
    point = client.random.random()
    if point < 0.6:
        return client.known.get(key, 0)
    return 0 if point < 0.8 else client.random.randint(0, client.seen)


def _live(client: Client) -> str:
    """A session of this client that should be live, "" for none."""
    live = [held.id for held in client.sessions if not held.over]
    return client.random.choice(live) if live else ""


def put(client: Client) -> None:
    """Last write wins."""
    client.write(Put(key=_key(client), value=Raw(_encode(_value(client))), **_marks(client)))


def put_expecting(client: Client) -> None:
    """Compare and swap, and again with what the conflict shows."""
    key = _key(client)
    request = Put(key=key, value=Raw(_encode(_value(client))), expect_revision=_expected(client, key), **_marks(client))

    def again(call: Call) -> None:
        if call.error is not None and call.error.code == "conflict":
            retry = replace(request, expect_revision=client.known.get(key, 0), value=Raw(_encode(_value(client))))
            client.write(replace(retry, request_id=f"{client.name}-{len(client.history.calls) + 1}"))

    client.write(request, again)


def put_ttl(client: Client) -> None:
    """A lease, renewed a few times close to its end."""
    ttl_s = client.random.choice(TTLS)
    key = client.random.choice(LEASED) if client.random.random() < 0.7 else _key(client)
    _put_lease(client, key, ttl_s, client.random.choice(PROJECTS), client.random.randint(0, 3))


def _put_lease(client: Client, key: str, ttl_s: float, project: str, renewals: int) -> None:
    def renew(call: Call) -> None:
        if call.reply is not None and renewals:
            when_s = ttl_s * client.random.uniform(0.9, 1.02)
            client.world.call_after(when_s, partial(_put_lease, client, key, ttl_s, project, renewals - 1))

    expect = client.known.get(key, 0) if client.random.random() < 0.2 else UNSET
    request = Put(
        key=key,
        value=Raw(_encode(_value(client))),
        ttl_s=ttl_s,
        expect_revision=expect,
        request_id=f"{client.name}-{len(client.history.calls) + 1}",
        project=project,
    )
    client.write(request, renew)


def put_ephemeral(client: Client) -> None:
    """An entry of one of the client's sessions."""
    session = _live(client)
    if session:
        value = Raw(_encode(_value(client)))
        client.write(Put(key=_key(client), value=value, ephemeral=True, session=session, **_marks(client)))


def delete(client: Client) -> None:
    """With or without an expectation."""
    key = _key(client)
    expect = _expected(client, key) if client.random.random() < 0.5 else UNSET
    client.write(Delete(key=key, expect_revision=expect, **_marks(client)))


def merge(client: Client) -> None:
    """A patch that adds, changes and removes names."""
    key = _key(client)
    patch = {"w": len(client.history.calls) + 1, client.random.choice("pqr"): client.random.choice((1, None, {"z": 2}))}
    expect = _expected(client, key) if client.random.random() < 0.2 else UNSET
    client.write(Merge(key=key, patch=Raw(_encode(patch)), expect_revision=expect, **_marks(client)))


def add(client: Client) -> None:
    """To a number, which has a lease now and then, or to what is none; several at once, so that they meet."""
    random = client.random
    key = COUNTED if random.random() < 0.8 else _key(client)
    if key == COUNTED and random.random() < 0.15:
        client.write(Put(key=key, value=Raw(_encode(0)), ttl_s=random.choice(TTLS), **_marks(client)))
    for _ in range(random.randint(1, 3)):
        expect = _expected(client, key) if random.random() < 0.2 else UNSET
        number = random.choice((1, 1, -3, 0.5))
        client.write(Add(key=key, number=number, expect_revision=expect, **_marks(client)))


def append(client: Client) -> None:
    """To a list, which begins anew now and then, or to what is none; several at once, so that they meet."""
    random = client.random
    key = LISTED if random.random() < 0.8 else _key(client)
    if random.random() < 0.1:
        client.write(Delete(key=key, **_marks(client)))
        return
    for _ in range(random.randint(1, 3)):
        values = [len(client.history.calls) + 1] * random.randint(1, 3)
        expect = _expected(client, key) if random.random() < 0.2 else UNSET
        client.write(Append(key=key, values=Raw(_encode(values)), expect_revision=expect, **_marks(client)))


def turn(client: Client) -> None:
    """Wait for the turn of a key; who has it swaps what it was shown, gives the turn back, or hangs."""
    key = client.random.choice((KEYS[0], TURNED))
    point = client.random.random()

    def follow(call: Call) -> None:
        reply: Any = call.reply
        if reply is None or not reply.granted or point < 0.2:
            return
        if point < 0.3:
            client.call(Turn(key=key, give_back=True))
            return
        expect = reply.entry.mod_revision if reply.entry else 0
        id = f"{client.name}-{len(client.history.calls) + 1}"
        client.write(Put(key=key, value=Raw(_encode(_value(client))), expect_revision=expect, request_id=id))

    client.call(Turn(key=key, wait_s=client.random.choice((0.0, 0.5, 5.0))), follow)


def txn(client: Client) -> None:
    """Compares and writes on several keys."""
    random = client.random
    compares: list[Compare] = []
    for _ in range(random.randint(0, 2)):
        key = _key(client)
        if random.random() < 0.7:
            field: Any = random.choice(("mod_revision", "mod_revision", "create_revision", "version"))
            compares.append(CompareEntry(key=key, field=field, value=_expected(client, key)))
        else:
            compares.append(CompareRange(prefix=random.choice(PREFIXES), max_mod_revision=client.seen))
    session = _live(client) if random.random() < 0.3 else ""
    then = _writes(client, session)
    otherwise = _writes(client, "") if random.random() < 0.5 and not session else []
    client.write(Txn(compares=compares, then=then, otherwise=otherwise, session=session, **_marks(client)))


def _writes(client: Client, session: str) -> list[TxnWrite]:
    random = client.random
    found: list[TxnWrite] = []
    for key in random.sample(KEYS, random.randint(0, 3)):
        point = random.random()
        if point < 0.25:
            found.append(TxnDelete(key=key))
        elif point < 0.4:
            found.append(TxnMerge(key=key, patch=Raw(_encode({"w": len(client.history.calls) + 1}))))
        elif point < 0.43:
            found.append(TxnAdd(key=COUNTED, number=1))
            found.append(TxnAppend(key=LISTED, values=Raw(_encode([len(client.history.calls) + 1]))))
            break
        elif session and random.random() < 0.7:
            found.append(TxnPut(key=key, value=Raw(_encode(_value(client))), ephemeral=True))
        else:
            ttl_s = random.choice(TTLS) if random.random() < 0.2 else 0.0
            found.append(TxnPut(key=key, value=Raw(_encode(_value(client))), ttl_s=ttl_s))
    return found


def revert(client: Client) -> None:
    """A key or a prefix to what it was, tried out before or not."""
    random = client.random
    to = random.randint(max(1, client.seen - 30), client.seen + 1)
    if random.random() < 0.6:
        key = random.choice((_key(client), COUNTED))
        expect = _expected(client, key) if random.random() < 0.2 else UNSET
        request = Revert(key=key, to_revision=to, expect_revision=expect, **_marks(client))
    else:
        request = Revert(prefix=random.choice(PREFIXES), to_revision=to, **_marks(client))
    if random.random() < 0.2:
        request = replace(request, dry_run=True)
    client.write(request)


def purge(client: Client) -> None:
    """All values of a key, or those below a revision; the past of it is looked at soon after."""
    key, marks = _key(client), _marks(client)
    before = client.random.randint(1, client.seen + 2) if client.random.random() < 0.5 else 0

    def look(call: Call) -> None:
        if call.reply is not None:
            client.call(History(key=key, project=marks["project"]))

    client.write(Purge(key=key, before_revision=before, **marks), look)


def repeat_done(client: Client) -> None:
    """A write that was answered, once more; or its request id with another content."""
    if not client.done:
        return
    earlier = client.random.choice(client.done[-8:])
    if not getattr(earlier.request, "request_id", ""):
        return
    if isinstance(earlier.request, Put) and client.random.random() < 0.2:
        client.call(replace(earlier.request, value=Raw(_encode("another"))), first=earlier.first)
    else:
        client.repeat(earlier)


def get(client: Client) -> None:
    """Now, or at a revision."""
    key, space = _key(client), "context"
    if client.sessions and client.random.random() < 0.1:
        key, space = client.random.choice(client.sessions).id, "$sessions"
    at = 0
    if client.random.random() < 0.3 and client.seen:
        at = client.random.randint(max(1, client.seen - 30), client.seen + 2)

    def learn(call: Call) -> None:
        reply: Any = call.reply
        if reply is not None and not at and project == GLOBAL:
            client.known[key] = reply.entry.mod_revision if reply.entry else 0

    project = GLOBAL if space != "context" else client.random.choice(PROJECTS)
    client.call(Get(key=key, space=space, at_revision=at, project=project), learn)


def range_(client: Client) -> None:
    """A page, and the next one at the same revision."""
    random = client.random
    at = random.randint(max(1, client.seen - 20), client.seen + 1) if random.random() < 0.3 and client.seen else 0
    request = Range(
        prefix=random.choice(PREFIXES),
        limit=random.choice((1, 2, 1000)),
        at_revision=at,
        keys_only=random.random() < 0.2,
        project=random.choice(PROJECTS),
        space=random.choice(("context", "context", "$sessions")),
    )

    def following(call: Call) -> None:
        reply: Any = call.reply
        if reply is not None and reply.more and reply.entries:
            client.call(replace(request, after=reply.entries[-1].key, at_revision=reply.read_revision), following)

    client.call(request, following)


def history(client: Client) -> None:
    """Versions of a key."""
    before = client.random.randint(1, client.seen + 1) if client.random.random() < 0.3 else 0
    limit = client.random.choice((1, 3, 5))
    project = client.random.choice(PROJECTS)
    client.call(History(key=_key(client), limit=limit, before_revision=before, project=project))


def watch(client: Client) -> None:
    """A watch from now, from a snapshot, or from a revision that is known."""
    if len(client.watches) >= 4:
        return
    random = client.random
    sessions_too = random.random() < 0.25
    exact = random.random() < 0.3 and not sessions_too
    watching = Watching(
        client.name,
        space="$sessions" if sessions_too else "context",
        project=GLOBAL if sessions_too else random.choice(PROJECTS),
        prefix="" if sessions_too else _key(client) if exact else random.choice(PREFIXES),
        exact=exact,
    )
    client.watches.append(watching)
    client.history.watches.append(watching)
    client.watch(watching, random.randint(1, client.seen + 1) if random.random() < 0.4 else 0)


def unwatch(client: Client) -> None:
    """End a watch."""
    client.unwatch()


def register(client: Client) -> None:
    """A new session, one that exists, or one in the place of another."""
    random = client.random
    if len(client.sessions) >= 3 or (client.sessions and random.random() < 0.4):
        held = random.choice(client.sessions)
        client.register(held.id, heartbeat_s=held.heartbeat_s, token=held.token)
        return
    known = client.history.sessions
    if known and random.random() < 0.15:  # of another client, maybe: this process joins it
        client.register(random.choice(known), heartbeat_s=random.choice(HEARTBEATS))
        return
    replaces = _live(client) if random.random() < 0.4 else ""
    id = f"s-{client.name}-{len(client.history.calls)}" if random.random() < 0.8 else ""
    client.register(id, heartbeat_s=random.choice(HEARTBEATS), replaces=replaces)


def heartbeat(client: Client) -> None:
    """A sign of life of one session."""
    held = next((each for each in client.sessions if not each.over and client.random.random() < 0.6), None)
    if held is not None:
        client.call(sessions.Heartbeat(session=held.id, session_token=held.token))


def close(client: Client) -> None:
    """The orderly end of a session."""
    held = next((each for each in client.sessions if not each.over), None)
    if held is not None:

        def closed(call: Call) -> None:
            held.over = held.over or call.reply is not None

        client.call(sessions.Close(session=held.id, session_token=held.token, reason="enough"), closed)


def odd(client: Client) -> None:
    """Numbers that no honest client sends; an answer is all that may come of them."""
    huge, key = client.random.choice((2**63 - 1, 2**63, 2**64 - 1, -(2**63))), _key(client)
    requests: tuple[Any, ...] = (
        Get(key=key, at_revision=huge),
        Range(at_revision=huge),
        Range(limit=huge),
        History(key=key, before_revision=huge),
        Delete(key=key, expect_revision=huge),
        Txn(compares=[CompareEntry(key=key, value=huge)], then=[TxnDelete(key=key)]),
        Put(key=key, value=Raw(_encode(None)), ttl_s=float(huge)),
        Watch(start_revision=huge),
        Unwatch(watch=huge),
        sessions.Register(pid=huge),
        sessions.Register(heartbeat_s=float(huge)),
    )
    client.call(client.random.choice(requests))


def ask(client: Client) -> None:
    """What changes nothing."""
    if client.sessions and client.random.random() < 0.5:
        client.call(sessions.Explain(session=client.random.choice(client.sessions).id))
    else:
        client.call(sessions.List(all=True))


_MIX: Final[dict[Callable[[Client], None], int]] = {
    put: 10,
    put_expecting: 12,
    put_ttl: 8,
    put_ephemeral: 10,
    delete: 5,
    merge: 6,
    add: 3,
    append: 3,
    turn: 4,
    txn: 10,
    revert: 4,
    purge: 2,
    repeat_done: 4,
    get: 12,
    range_: 5,
    history: 4,
    watch: 4,
    unwatch: 1,
    register: 5,
    heartbeat: 6,
    close: 2,
    ask: 1,
    odd: 1,
}
_STEPS: Final = list(_MIX)
_WEIGHTS: Final = list(_MIX.values())
