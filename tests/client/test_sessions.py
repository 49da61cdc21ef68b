"""Sessions of both clients against a real daemon: opened, beating, closed, taken up again after a restart."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from cosession import Closed, CosessionError, TimedOut, aio, sync
from cosession.errors import error_from
from cosession.messages.sessions import CloseReply, HeartbeatReply, RegisterReply
from cosession.model import Session

TOKEN = "t"  # noqa: S105 - a session token of a test


def test_a_session_is_opened_and_closed(use):
    async def body(client):
        async with client.session(agent="custom", name="otter", model="m") as session:
            (record,) = await client.sessions()
            assert (record.id, record.name, record.agent, record.model) == (session.id, "otter", "custom", "m")
            assert record.heartbeat_s == 20.0
            assert record.state == "active"
            assert session.name == "otter"
            assert (await session.explain()).session.id == session.id
            assert (await client.explain("otter")).session.id == session.id
        assert await client.sessions() == []
        (record,) = await client.sessions(all=True)
        assert (record.state, session.record.state) == ("closed", "closed")

    use(body)


def test_closing_says_why_and_may_be_said_twice(use):
    async def body(client):
        session = await client.session(name="otter", heartbeat_s=0)
        await session.close("work is done")
        await session.close()
        with pytest.raises(Closed):
            async with session:
                pass

    use(body)


def test_closing_the_client_closes_its_sessions(use, connect, daemon):
    async def body(client):
        async with connect(daemon.socket) as other:
            await other.session(name="one")
            await other.session(name="two", heartbeat_s=0)
            assert len(await client.sessions()) == 2
        assert await client.sessions() == []
        assert {record.state for record in await client.sessions(all=True)} == {"closed"}

    use(body)


def test_writes_act_for_the_only_session(use):
    async def body(client):
        async with client.session(name="one", heartbeat_s=0) as one:
            entry = await client.put("k", 1, ephemeral=True)
            assert (entry.session, entry.ephemeral) == (one.id, one.id)
            assert await client.get("k") == entry
            assert (await client.put("plain", 1)).session == one.id
            async with client.session(name="two", heartbeat_s=0) as two:
                with pytest.raises(CosessionError):
                    await client.put("l", 1, ephemeral=True)
                assert (await client.put("l", 1, ephemeral=True, session=two.id)).ephemeral == two.id
            assert await client.get("l") is None
        assert await client.get("k") is None
        assert await client.get("plain") is not None

    use(body)


def test_of_two_sessions_it_is_said_which_and_how_to_choose(use):
    async def body(client):
        async with client.session(id="otter") as one, client.session(id="heron"):
            assert (await client.put("k", 1)).session == ""
            with pytest.raises(
                CosessionError, match=r"2 sessions \(heron, otter\); choose one, in Python with session="
            ) as e:
                await client.put("k", 1, ephemeral=True)
            assert e.value.data["sessions"] == ["heron", "otter"]
            assert (await client.put("k", 1, ephemeral=True, session=one.id)).ephemeral == "otter"

    use(body)


def test_the_environment_chooses_a_session(use):
    async def body(client):
        async with client.session(name="one", heartbeat_s=0) as one, client.session(name="two", heartbeat_s=0):
            client._common.target.env["COSESSION_SESSION"] = one.id
            assert (await client.put("k", 1)).session == one.id

    use(body)


def test_a_session_by_the_agents_own_id(use):
    async def body(client):
        async with client.session(id="agents-own-id", heartbeat_s=0) as session:
            assert session.id == "agents-own-id"
            assert (await client.sessions())[0].id == "agents-own-id"

    use(body)


def test_a_working_directory_that_is_gone(use, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def body(client):
        async with client.session(heartbeat_s=0) as session:
            assert (session.record.cwd, session.record.worktree) == ("", "")

    use(body)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_session_lives_through_a_restart(use, daemon, how):
    async def body(client):
        async with client.session(name="otter", heartbeat_s=0.3) as session:
            await client.put("k", 1, ephemeral=True)
            getattr(daemon, how)()
            daemon.start()
            await asyncio.sleep(0)
            (record,) = await client.sessions()
            assert (record.id, record.state) == (session.id, "active")
            assert (await client.put("l", 1, ephemeral=True)).ephemeral == session.id
            assert session.ended == ""
        assert await client.get("k") is None

    use(body)


def test_heartbeats_keep_a_silent_program_from_being_suspect(daemon):
    """Beats every 0.1 s keep a promise of 0.3 s; without them it would be broken after 0.9 s."""
    with sync.connect(daemon.socket) as client, client.session(name="otter", heartbeat_s=0.3) as session:
        threading.Event().wait(1.5)
        explained = session.explain()
        assert explained.silent_s < 0.5
        assert explained.session.state == "active"


def test_heartbeats_begin_again_after_a_restart(daemon):
    with sync.connect(daemon.socket) as client, client.session(name="otter", heartbeat_s=0.3) as session:
        daemon.kill()
        daemon.start()
        threading.Event().wait(1.5)
        with sync.connect(daemon.socket) as other:
            explained = other.explain(session.id)
        assert explained.silent_s < 0.9
        assert explained.session.state == "active"


def test_a_close_that_was_cancelled_anywhere_is_finished_by_another(daemon, run):
    """Closing again finishes it, and so does closing the client."""

    async def body():
        for again in ("session", "client"):
            for steps in range(4):  # of the loop, that the first attempt gets
                client = await aio.connect(daemon.socket)
                session = await client.session(name="otter")
                closing = asyncio.create_task(session.close())
                for _ in range(steps):
                    await asyncio.sleep(0)
                closing.cancel()
                await asyncio.wait([closing])
                if again == "session":
                    await session.close()
                    assert (await session.explain()).session.state == "closed"
                await client.close()
                async with aio.connect(daemon.socket) as other:
                    assert (await other.explain(session.id)).session.state == "closed"

    run(body())


class Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest takes for its own."""


class TestScripted:
    """What the daemon says about a session in the background."""

    def register(self):
        return RegisterReply(revision=1, session=Session(id="s"), session_token=TOKEN)

    def test_one_thread_and_one_connection_beat_for_all(self, scripted):
        scripted.answer = lambda request: {
            "session.register": lambda: RegisterReply(revision=1, session=Session(id=request.id), session_token=TOKEN),
            "session.heartbeat": lambda: HeartbeatReply(revision=1, state="active"),
            "session.close": lambda: CloseReply(revision=1, session=Session(id=request.session, state="closed")),
        }[request.method]()
        with sync.connect(scripted.path) as client:
            before = threading.active_count()
            sessions = [client.session(heartbeat_s=0.15) for _ in range(3)]
            while sum(call.method == "session.heartbeat" for call in scripted.calls) < 9:
                threading.Event().wait(0.01)
            ours = [thread for thread in threading.enumerate() if thread.name == "cosession heartbeats"]
            assert len(ours) == 1
            assert len(scripted.connections) == 2
            beats = [call for call in scripted.calls if call.method == "session.heartbeat"]
            assert {beat.session for beat in beats} == {session.id for session in sessions}
            assert {beat.session_token for beat in beats} == {TOKEN}
            assert before >= 1
        assert not ours[0].is_alive()

    def test_a_verdict_is_told_and_not_contradicted(self, connect, run, scripted):
        scripted.script += [self.register(), error_from("session_ended", "it was taken for lost")]

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", heartbeat_s=0.1)
                for _ in range(300):
                    await asyncio.sleep(0.01)
                    if session.ended:
                        break
                assert session.ended == "it was taken for lost"
                scripted.hang_up()
                await client.ping()
                assert [call.method for call in scripted.calls] == ["session.register", "session.heartbeat"]
                scripted.script.append(error_from("session_ended", "it was taken for lost"))
                await session.close()

        run(body())

    def test_sessions_are_said_again_on_a_new_connection(self, connect, run, scripted):
        scripted.script += [self.register(), "hang up", self.register()]

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", name="n", heartbeat_s=0)
                await client.get("a")
                scripted.script += [CloseReply(revision=1, session=Session(id="s", state="closed"))]
                await session.close()

        run(body())
        methods = [call.method for call in scripted.calls]
        assert methods == ["session.register", "get", "session.register", "get", "session.close"]
        assert (scripted.calls[2].session_token, scripted.calls[2].name) == (TOKEN, "n")
        assert scripted.calls[4].session_token == TOKEN

    def test_one_that_ended_meanwhile_does_not_break_the_connection(self, connect, run, scripted):
        scripted.script += [self.register(), "hang up", error_from("session_ended", "lost")]

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", heartbeat_s=0)
                assert (await client.get("a")).value == "a"
                assert session.ended == "lost"
                scripted.script += [error_from("session_ended", "lost")]

        run(body())

    def closed(self):
        return CloseReply(revision=1, session=Session(id="s", state="closed"))

    def test_a_close_without_an_answer_is_not_the_end(self, connect, run, scripted):
        scripted.script += [self.register(), "silence", self.closed()]

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", heartbeat_s=0)
                with pytest.raises(TimedOut):
                    await session.close(timeout_s=0.2)
                await session.close()
                assert session.record.state == "closed"
                await session.close()

        run(body())
        assert [call.method for call in scripted.calls] == ["session.register", "session.close", "session.close"]

    def test_the_client_closes_what_could_not_be_closed(self, connect, run, scripted):
        scripted.script += [self.register(), "silence", self.closed()]

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", heartbeat_s=0)
                with pytest.raises(TimedOut):
                    await session.close(timeout_s=0.2)
            assert session.record.state == "closed"

        run(body())

    def test_it_is_kept_alive_until_it_is_closed(self, connect, run, scripted):
        scripted.script += [self.register()]
        beats = []

        async def body():
            async with connect(scripted.path) as client:
                session = await client.session(id="s", heartbeat_s=0.1)
                scripted.answer = lambda request: (
                    "silence" if request.method == "session.close" else HeartbeatReply(revision=1, state="active")
                )
                with pytest.raises(TimedOut):
                    await session.close(timeout_s=0.2)
                count = len(scripted.calls)
                while len(beats) < 2:
                    await asyncio.sleep(0.01)
                    beats[:] = [call for call in scripted.calls[count:] if call.method == "session.heartbeat"]
                scripted.answer = lambda request: (
                    self.closed() if request.method == "session.close" else HeartbeatReply(revision=1, state="active")
                )

        run(body())

    def test_an_interrupted_close_is_finished_by_the_client(self, scripted):
        """As by Ctrl-C in the inner of two `with` blocks."""

        def interrupted(*_):
            raise Interrupt

        def interrupt(*_):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

        scripted.script += [self.register(), interrupt, self.register(), self.closed()]
        before = signal.signal(signal.SIGALRM, interrupted)
        try:
            with (
                pytest.raises(Interrupt),
                sync.connect(scripted.path) as client,
                client.session(id="s", heartbeat_s=0) as session,
            ):
                pass
        finally:
            signal.signal(signal.SIGALRM, before)
        assert session.record.state == "closed"
        assert [call.method for call in scripted.calls] == ["session.register", "session.close"] * 2
