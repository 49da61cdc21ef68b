"""Acting for a session by its session token, from a process that the kernel does not know as part of it."""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import pytest

from cosession import NotAllowed
from rawclient import Json, Pack

#: Registers a session and lives until its standard input ends. The tests' own process is no descendant of it.
OWNER = """
import sys
from cosession import sync
with sync.connect(sys.argv[1]) as client, client.session(name="owner", heartbeat_s=0) as session:
    print(session.id, session.session_token, flush=True)
    sys.stdin.read()
"""
CLI = (sys.executable, "-P", "-c", "from cosession.cli.main import main; raise SystemExit(main())")


class Owned(NamedTuple):
    id: str
    session_token: str


@pytest.fixture
def owned(daemon):
    """A live session of a process elsewhere."""
    command = [sys.executable, "-P", "-c", OWNER, str(daemon.socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=daemon.env) as owner:
        yield Owned(*owner.stdout.readline().split())
        owner.communicate(timeout=20)
    assert owner.returncode == 0


@pytest.fixture
def carry(monkeypatch):
    """Put an id and a session token into the environment, as a container is given them."""

    def into_environment(owned, session_token):
        monkeypatch.setenv("COSESSION_SESSION", owned.id)
        if session_token:
            monkeypatch.setenv("COSESSION_TOKEN", session_token)

    return into_environment


def wrong(owned):
    return owned.session_token[:-1] + ("0" if owned.session_token[-1] != "0" else "1")


def test_the_library_presents_it(use, owned, carry, daemon):
    carry(owned, owned.session_token)

    async def body(client):
        assert (await client.put("k", 1, ephemeral=True)).ephemeral == owned.id
        assert (await client.update("k", lambda n: n + 1, session=owned.id)).session == owned.id
        daemon.kill()
        daemon.start()
        assert (await client.put("l", 1)).session == owned.id, "presented again on a new connection"

    use(body)


@pytest.mark.parametrize(
    ("presented", "remedy"),
    [
        (lambda _: "", r"run this inside the session, or pass its id and session token.*COSESSION_TOKEN"),
        (wrong, r"the session token that was presented is not its own; pass the one its registration answered"),
        (lambda _: "x" * 2_000, r"the session token that was presented is not its own"),
    ],
)
def test_none_and_a_wrong_one_are_refused_where_it_is_needed(use, owned, carry, presented, remedy):
    carry(owned, presented(owned))

    async def body(client):
        assert await client.get("k") is None
        for options in ({}, {"ephemeral": True}, {"session": owned.id}):
            with pytest.raises(NotAllowed, match=rf"cannot act for session {owned.id}: .* is not part of it.*{remedy}"):
                await client.put("k", 1, **options)
        assert await client.get("k") is None

    use(body)


def test_it_proves_no_other_session(use, owned, carry, daemon):
    carry(owned, owned.session_token)
    command = [sys.executable, "-P", "-c", OWNER, str(daemon.socket)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=daemon.env) as second:
        other = second.stdout.readline().split()[0]

        async def body(client):
            with pytest.raises(NotAllowed, match="is not part of it"):
                await client.put("k", 1, session=other)

        use(body)
        second.communicate(timeout=20)


@pytest.mark.parametrize("encoding", [Json, Pack])
class TestHello:
    """What any client may say."""

    def test_it_holds_for_all_that_follows_on_the_connection(self, daemon, owned, encoding):
        with encoding(daemon.socket) as peer:
            peer.reply("hello", session=owned.id, session_token=owned.session_token)
            assert peer.reply("put", key="k", value=1, ephemeral=True)["written"]["session"] == owned.id
            assert peer.reply("put", key="k", value=2, session=owned.id)["written"]["session"] == owned.id
            assert peer.reply("session.heartbeat", session=owned.id)["state"] == "active"
            own = peer.reply("session.register", id="own")["session"]["id"]
            assert peer.reply("put", key="k", value=3)["written"]["session"] == own, "what it registered goes before"
            assert peer.reply("session.close", session=owned.id)["session"]["state"] == "closed"

    def test_a_wrong_one_is_judged_by_what_needs_it(self, daemon, owned, encoding):
        with encoding(daemon.socket) as peer:
            peer.reply("hello", session=owned.id, session_token=wrong(owned))
            assert peer.reply("get", key="k")["entry"] is None
            assert peer.code("put", key="k", value=1) == "not_allowed", "not written for nobody in silence"
            for method in ("session.heartbeat", "session.close"):
                assert peer.code(method, session=owned.id) == "not_allowed"
            assert peer.reply("session.heartbeat", session=owned.id, session_token=owned.session_token)
            peer.reply("hello", session=owned.id, session_token=owned.session_token)
            assert peer.reply("put", key="k", value=1)["written"]["session"] == owned.id

    def test_a_session_that_is_not_there(self, daemon, encoding):
        with encoding(daemon.socket) as peer:
            peer.reply("hello", session="x" * 500_000, session_token="y" * 500_000)
            assert peer.code("put", key="k", value=1) == "not_found"
            peer.reply("hello")
            assert peer.reply("put", key="k", value=1)["written"]["session"] == ""


def cosession(daemon, *words, **names):
    done = subprocess.run(
        [*CLI, *words], env={**daemon.env, **names}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_line_presents_it(daemon, owned):
    mine = {"COSESSION_SESSION": owned.id, "COSESSION_TOKEN": owned.session_token}
    assert cosession(daemon, "put", "k", "1", "--ephemeral", "--global", **mine)[0] == 0
    assert f'"ephemeral": "{owned.id}"' in cosession(daemon, "get", "k", "--json", "--global")[1]
    by_option = {"COSESSION_TOKEN": owned.session_token}
    assert cosession(daemon, "put", "k", "2", "--session", owned.id, "--global", **by_option)[0] == 0
    assert owned.id in cosession(daemon, "debug", "call", "put", '{"key": "l", "value": 1}', **mine)[1]
    code, _, err = cosession(daemon, "put", "k", "3", "--global", **{**mine, "COSESSION_TOKEN": wrong(owned)})
    assert code == 77
    assert "the session token that was presented is not its own; pass the one its registration answered" in err
