"""The audit of a real daemon: what is recorded, that nothing else gets in, and who waits or follows."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing, suppress

import pytest
from msgspec import Raw, msgpack

from cosession import sync
from cosession.errors import CosessionError
from cosession.messages.audit import Audit
from cosession.messages.sessions import Close, Heartbeat, Register
from cosession.messages.store import Put
from cosession.model import AuditRecord
from rawclient import Pack

SECRETS = ("value-s3cret", "patch-s3cret", "token-s3cret", "reason-s3cret", "named-s3cret", "space-s3cret")


def recorded(daemon, **filters) -> list[AuditRecord]:
    with sync.connect(daemon.socket) as client:
        return client.audit(limit=1_000, **filters)[::-1]


def test_a_life_of_the_daemon_is_recorded_and_a_kill_shows_by_the_stop_that_is_missing(daemon):
    daemon.restart()
    assert len(recorded(daemon, kind="admin")) == 4  # read behind what was noted before
    daemon.kill()
    daemon.start()
    acts = [each.operation for each in recorded(daemon, kind="admin")]
    assert acts == ["start", "stop", "backup", "start", "start"]


def test_nothing_but_names_gets_into_a_record_whatever_is_sent(daemon):
    value, patch, token, reason, named, space = SECRETS
    with sync.connect(daemon.socket, project="p") as client:
        client.put("a", {"v": value})
        client.merge("a", {"v": patch})
        client.txn(then=[{"op": "put", "key": "b", "value": value}])
        client.append("list", value)
        session = client.call(Register(id="s1", name="otter", project="p"))
        calls = [
            Put(key="a", value=Raw(msgpack.encode(value)), session=named),
            Put(key="a", value=Raw(msgpack.encode(value)), space=space),
            Put(key="a", value=Raw(msgpack.encode(value)), space="$sessions"),
            Heartbeat(session=token, session_token=token),
            Register(id="s1", session_token=token),
            Close(session="s1", reason=reason),
            Put(key="a", value=Raw(msgpack.encode(value)), session="s1"),
        ]
        for call in calls:
            with suppress(CosessionError):
                client.call(call)
        kinds = {(each.kind, each.outcome) for each in client.audit()}
    assert {("verdict", "active"), ("verdict", "closed"), ("denial", "not_allowed")} <= kinds
    assert ("denial", "session_ended") in kinds
    assert daemon.stop() == 0
    with closing(sqlite3.connect(daemon.database)) as db:
        rows = db.execute("SELECT kind, project, session, body FROM audit").fetchall()
    daemon.start()
    assert len(rows) >= 6
    for row in rows:
        for secret in (*SECRETS, session.session_token):
            assert secret.encode() not in b"\0".join(each if isinstance(each, bytes) else each.encode() for each in row)


def test_denials_have_a_pace_and_those_left_out_are_counted(daemon):
    with sync.connect(daemon.socket) as client:
        for _ in range(30):
            with pytest.raises(CosessionError):
                client.call(Put(key="a", value=Raw(b"\x01"), space="$sessions"))
    found = recorded(daemon, kind="denial")
    assert [each.operation for each in found] == ["put"] * 8 + ["disconnect"]
    assert found[-1].facts == {"suppressed": 22}


def test_following_goes_on_across_a_restart_without_a_gap_or_a_repeat(daemon):
    with sync.connect(daemon.socket, spawn=False) as client, client.follow_audit(after=0) as trail:
        first = trail.next(5.0)
        daemon.kill()
        daemon.start()
        daemon.restart()
        found = [first, *(trail.next(10.0) for _ in range(4))]
    assert [each.id for each in found] == [1, 2, 3, 4, 5]
    assert [each.operation for each in found] == ["start", "start", "stop", "backup", "start"]


def test_a_call_that_waits_is_answered_by_the_next_record_and_holds_up_nobody(daemon):
    peer, other = Pack(daemon.socket), Pack(daemon.socket)
    last = peer.reply("audit", limit=1)["last"]
    with sync.connect(daemon.socket) as client:
        answers: list[AuditRecord] = []
        waiting = threading.Thread(target=lambda: answers.extend(_waited(daemon, last)))
        waiting.start()
        assert other.reply("ping")
        client.call(Register(id="s9"))
        waiting.join(10)
    assert [each.session for each in answers] == ["s9"]
    peer.close()
    other.close()


def _waited(daemon, last: int) -> list[AuditRecord]:
    with sync.connect(daemon.socket) as client:
        return client.call(Audit(after=last, wait_s=20, kind="verdict"), timeout_s=25).records


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"kind": "gossip"}, "invalid_params"),
        ({"limit": 0}, "invalid_params"),
        ({"limit": 1_001}, "invalid_params"),
        ({"after": -1}, "invalid_params"),
        ({"after": 1, "before": 2}, "invalid_params"),
        ({"wait_s": 1.0}, "invalid_params"),
        ({"after": 1, "wait_s": 61.0}, "invalid_params"),
        ({"since": -1.0}, "invalid_params"),
        ({"epoch": "another", "after": 3}, "epoch_changed"),
    ],
)
def test_a_bad_filter_is_refused(daemon, params, code):
    with sync.connect(daemon.socket) as client, pytest.raises(CosessionError) as caught:
        client.call(Audit(**params))
    assert caught.value.code == code
