"""The spool of a real daemon: taken in exactly once and in order, also across kills; what it cannot take is refused."""

from __future__ import annotations

import json
import shutil
import threading

import pytest

import cosession
from cli.conftest import Cli
from cosession import spool
from cosession.messages.admin import Status
from cosession.messages.mail import Inbox
from harness import Daemon
from server.daemons import eventually

TAKEN_S = 60.0
SANDBOX = {"SANDBOX_RUNTIME": "1"}


def until(holds):
    eventually(holds, "the spool is as it should be", TAKEN_S)


def stands(client):
    return client.call(Status()).spool


def taken_in(daemon, count=0):
    """Wait until nothing waits, and at least so much was taken in this life."""
    with cosession.connect(socket=str(daemon.socket)) as client:
        until(lambda: not spool.waiting(daemon.env) and stands(client).taken >= count)
        return stands(client)


def leave(env, key, number, session):
    request_id = f"{session[0]}-{key.replace('/', '.')}-{number}"
    params = json.dumps({"key": key, "values": [number], "request_id": request_id})
    spool.write("append", params, request_id=request_id, session=session[0], session_token=session[1], env=env)


def test_many_writers_across_kills_each_exactly_once_and_in_order(home):
    with Daemon(home) as daemon, cosession.connect(socket=str(daemon.socket)) as client:
        sessions = []
        for number in range(4):
            session = client.session(id=f"s{number}", heartbeat_s=0)
            sessions.append((session.id, session.session_token))
        daemon.stop()

        def writes(session, first, last):
            for number in range(first, last):
                leave(daemon.env, f"list/{session[0]}", number, session)

        def all_write(first, last):
            threads = [threading.Thread(target=writes, args=(each, first, last)) for each in sessions]
            for each in threads:
                each.start()
            return threads

        for each in all_write(0, 25):
            each.join()
        shutil.copytree(home / "spool", home / "kept")
        daemon.start()
        threads = all_write(25, 40)
        until(lambda: spool.waiting(daemon.env) < 90)
        daemon.kill()
        daemon.start()
        for each in threads:
            each.join()
        taken_in(daemon)
        daemon.kill()
        for each in (home / "kept").iterdir():  # as they lie there when a daemon is killed behind the commit
            shutil.copy(each, home / "spool" / each.name)
        daemon.start()
        found = taken_in(daemon, count=100)
        assert (found.refused, found.aside) == (0, 0)
        for session, _ in sessions:
            entry = client.get(f"list/{session}", project="global")
            assert entry.value == list(range(40))
            assert entry.session == session
        client.close()


def test_a_sandbox_spools_what_can_wait_and_says_that_nothing_was_checked(home, tmp_path):
    with Daemon(home) as daemon:
        cli = Cli(dict(daemon.env), str(tmp_path))
        with cosession.connect(socket=str(daemon.socket)) as client:
            otter = client.session(name="otter", id="otter", heartbeat_s=0)
            acting = {**SANDBOX, "COSESSION_SESSION": otter.id, "COSESSION_TOKEN": otter.session_token}
            daemon.stop()
            done = cli.run("put", "plan", '{"step": 1}', env=SANDBOX)
            assert (done.code, done.out) == (0, "")
            said = "cosession: spooled, not checked, as nobody's: the daemon takes it in when it can ("
            assert done.err.startswith(said)
            told = cli.run("merge", "plan", '{"by": "otter"}', "--json", env=acting).json
            assert (told["spooled"], told["checked"], told["session"]) == (True, False, "otter")
            assert cli.run("add", "count", "--spool").code == 0, "asked for, it needs no sandbox"
            assert cli.run("send", "otter", "remember \x1b[2J", env=acting).code == 0
            for words, code, why in (
                (("put", "plan", "1", "--expect", "0"), 69, "it would be checked too late"),
                (("put", "plan", "1", "--ttl", "5"), 69, "nothing could be checked"),
                (("get", "plan"), 69, "cannot reach the daemon"),
                (("claim", "name:x"), 69, "cannot reach the daemon"),
                (("put", "plan", "1", "--socket", "/nowhere/d.sock"), 69, "cannot reach the daemon"),
                (("send", "otter", "x"), 69, "set COSESSION_SESSION and COSESSION_TOKEN"),
            ):
                refused = cli.run(*words, env=SANDBOX)
                assert refused.code == code, (words, refused.err)
                assert why in refused.err, words
            assert cli.run("add", "count").code == 69, "outside of a sandbox nothing is spooled unasked"
            daemon.start()
            taken_in(daemon)
            plan = client.get("plan", project="global")
            assert (plan.value, plan.session) == ({"step": 1, "by": "otter"}, "otter")
            assert client.get("count", project="global").value == 1
            (letter,) = client.call(Inbox(box="otter")).letters
            assert (letter.text, letter.sender) == ("remember \x1b[2J", "otter")


def test_what_comes_while_it_runs_is_noticed_and_what_is_wrong_put_aside_and_told(home, tmp_path):
    with Daemon(home) as daemon:
        cli = Cli(dict(daemon.env), str(tmp_path))
        with cosession.connect(socket=str(daemon.socket)) as client, client.watch("w/", project="global") as watch:
            leave(daemon.env, "w/1", 1, ("", ""))
            assert watch.next(timeout_s=30).value == [1]
            session = client.session(id="dead", heartbeat_s=0)
            ended = (session.id, session.session_token)
            session.close()
            leave(daemon.env, "w/2", 2, ended)
            change = watch.next(timeout_s=30)
            assert (change.value, change.session) == ([2], "dead"), "it was written while its session lived"
            leave(daemon.env, "w/3", 3, ("dead", "x" * 32))
            forged = '{"key":"w/4","values":[4],"request_id":"another"}'
            spool.write("append", forged, request_id="forged", env=daemon.env)
            other = b'{"spool":1}\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
            (home / "spool" / f"{99:016}-nothing.call").write_bytes(other)
            until(lambda: stands(client).refused >= 3 and stands(client).aside >= 3)
            reasons = {each.read_text() for each in (home / "spool" / "refused").glob("*.why")}
            for why in ("does not prove", "is not the one in the name", "only put, delete"):
                assert any(why in each for each in reasons), (why, reasons)
            status = cli.ok("status").out
            assert "spool" in status
            assert "3 refused" in status
            assert client.get("w/3", project="global") is None
            records = client.audit(kind="admin")
            assert sum(each.operation == "spool" and each.outcome == "refused" for each in records) >= 1


@pytest.mark.parametrize("wrong", ["a file", "others may look"])
def test_a_spool_that_cannot_be_used_keeps_no_daemon_from_serving(home, wrong):
    place = home / "spool"
    if wrong == "a file":
        place.write_text("")
    else:
        place.mkdir(mode=0o755)
        place.chmod(0o755)
    with Daemon(home) as daemon, cosession.connect(socket=str(daemon.socket)) as client:
        client.put("k", 1)
        until(lambda: "cannot use directory" in stands(client).error)
