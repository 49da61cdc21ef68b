"""A program of a user, as `mypy --strict` must see it: every `reveal_type` is followed by what it must reveal.

It is checked, never run; `wrong.py` beside it holds what must be refused.
"""

from __future__ import annotations

from typing import Any, assert_type, reveal_type

import cosession
from cosession import Change, Conflict, CosessionError, Entry, Reset, Version, Written, aio
from cosession.messages.store import Get


def counted(plan: Any) -> dict[str, int]:
    """What `update` calls."""
    return {**(plan or {}), "step": 1}


def blocking() -> None:
    """The verbs, a session, a watch, errors."""
    with cosession.connect(project="global", timeout_s=2.5) as client:
        reveal_type(client)  # cosession.sync.client.Client
        reveal_type(client.get("a"))  # cosession.model.Entry | None
        entry = client.put("a", {"step": 1}, expect_revision=0, ttl_s=2.0)
        reveal_type(entry)  # cosession.model.Entry
        reveal_type(entry.value)  # Any
        reveal_type(entry.mod_revision)  # int
        reveal_type(client.update("a", counted))  # cosession.model.Entry
        reveal_type(client.merge("a", {"owner": None}))  # cosession.model.Entry
        reveal_type(client.add("n", 0.5))  # cosession.model.Entry
        reveal_type(client.append("l", 1, "two", None).length)  # int | None
        reveal_type(client.delete("a"))  # cosession.model.Written | None
        reveal_type(client.range("a", limit=3))  # list[cosession.model.Entry]
        reveal_type(client.history("a"))  # list[cosession.model.Version]
        reveal_type(client.diff("a"))  # list[cosession.model.Difference]
        reveal_type(client.blame("a", "/step"))  # list[cosession.model.Attribution]
        reveal_type(client.revert("a", to_revision=1).written)  # list[cosession.model.Written]
        reveal_type(client.purge("a").backups)  # list[str]
        reveal_type(client.revision_at(0.0))  # int
        reveal_type(client.audit(kind="denial"))  # list[cosession.model.AuditRecord]
        reveal_type(client.follow_audit().next())  # cosession.model.AuditRecord
        reveal_type(client.call(Get(key="a")))  # cosession.messages.store.GetReply
        done = client.txn(
            compares=[{"kind": "entry", "key": "a", "value": 0}], then=[{"op": "put", "key": "a", "value": 1}]
        )
        reveal_type(done.succeeded)  # bool
        reveal_type(done.written)  # list[cosession.model.Written]
        with client.session(agent="typed", heartbeat_s=0) as session:
            reveal_type(session)  # cosession.sync.session.Session
            reveal_type(session.id)  # str
            reveal_type(session.record)  # cosession.model.Session | None
        with client.watch("a", start_revision=1, epoch=client.epoch) as watch:
            for change in watch:
                reveal_type(change)  # cosession.model.Change | cosession.exchange.cursor.Reset
                if change.kind == "reset":
                    assert_type(change.mod_revision, int)
                break
            reveal_type(watch.next(timeout_s=1.0))  # cosession.model.Change | cosession.exchange.cursor.Reset


async def awaited() -> None:
    """The same names, awaited."""
    async with aio.connect() as client, client.session(name="typed") as session:
        reveal_type(client)  # cosession.aio.client.Client
        reveal_type(await client.get("a"))  # cosession.model.Entry | None
        reveal_type(await client.update("a", counted))  # cosession.model.Entry
        reveal_type(session.session_token)  # str
        async for change in client.watch(key="a", snapshot=False):
            reveal_type(change)  # cosession.model.Change | cosession.exchange.cursor.Reset
        client_again = await aio.connect()
        reveal_type(client_again)  # cosession.aio.client.Client
        await client_again.close()


def judged(error: CosessionError) -> int:
    """Errors, by class and by code."""
    reveal_type(error.code)  # str
    reveal_type(error.data)  # dict[str, Any]
    if isinstance(error, Conflict):
        reveal_type(error.current)  # Any
        return 1
    return 2 if error.retryable else error.exit_code


def named(entry: Entry, change: Change | Reset, version: Version, written: Written) -> tuple[int, int, int, int]:
    """The structs can be named in signatures."""
    return entry.version, change.version, version.version, written.version
