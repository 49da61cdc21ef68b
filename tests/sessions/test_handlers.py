"""The session methods from the caller's side: whom the kernel names, what that allows, and what is answered."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cosession.errors import CosessionError, NotAllowed
from cosession.messages import REQUESTS
from cosession.messages import sessions as messages
from cosession.model import Instance
from cosessiond.checkpoints.counting import Counting
from cosessiond.server.handlers import denials, recovery
from cosessiond.server.handlers import sessions as handlers
from cosessiond.server.table import Access
from cosessiond.sessions import admission
from cosessiond.sessions.admission import instance_for
from cosessiond.sessions.identity import Peer, ProcessRef, boot_id

INVENTED = {"owner_of": lambda _: 1000, "namespace_is_ours": lambda _: True}
ROWS = {row.request.method: row for row in (*handlers.ROWS, *denials.ROWS, *recovery.ROWS)}


class Call:
    """A call of process `pid`, whose ancestors are `above`."""

    def __init__(self, pid, *above, sessions=()):
        self.chain = tuple(ProcessRef(one, one * 10) for one in (pid, *above))
        self.peer = Peer(pid=pid, uid=1000, gid=1000, start_time=pid * 10)
        self.sessions = set(sessions)
        self.presented = ""
        self.answer = None

    def ancestry(self):
        return self.chain

    def session_token(self, _id):
        return self.presented

    def reply(self, reply):
        assert self.answer is None
        self.answer = reply

    def fail(self, error):
        self.reply(error)


@pytest.fixture
def run(make_rig, monkeypatch):
    """Send a request as a call to a core of one registry; the reply, or the error raised."""
    monkeypatch.setattr(admission, "boot_id", lambda: "boot-1")
    monkeypatch.setattr(
        instance_for, "__kwdefaults__", {"owner_of": lambda _: 1000, "namespace_is_ours": lambda _: True}
    )
    rig = make_rig()
    checkpoints = SimpleNamespace(counting=Counting())
    core = SimpleNamespace(registry=rig.registry, store=rig.store, checkpoints=checkpoints)

    def send(call, request):
        found = ROWS[request.method].run(core, call, request)
        if found is None:
            rig.world.run_until_idle()
            found, call.answer = call.answer, None
        assert found is not None
        if isinstance(found, CosessionError):
            raise found
        assert found.revision == rig.store.revision
        return found

    send.rig = rig
    return send


def living(rig, *pids):
    for pid in pids:
        rig.processes.start(pid, pid * 10)


def test_every_session_method_has_a_row():
    assert set(ROWS) == {method for method in REQUESTS if method.startswith("session.")}
    reading = {method for method, row in ROWS.items() if row.access is Access.READ}
    assert reading == {
        "session.list",
        "session.explain",
        "session.why_not",
        "session.heartbeat",
    }  # a sign of life counts always


def test_the_life_of_a_session(run):
    living(run.rig, 20)
    call = Call(20)
    reply = run(call, messages.Register(id="s1", heartbeat_s=20))
    assert reply.session.instances == (Instance(boot_id="boot-1", pid=20, start_time=200),)
    assert reply.session_token == run.rig.registry.session_token("s1")
    assert call.sessions == {"s1"}
    run.rig.world.advance(70)
    assert run(call, messages.Heartbeat(session="s1")).state == "active"
    assert [session.id for session in run(Call(1), messages.List()).sessions] == ["s1"]
    found = run(Call(1), messages.Explain(session="s1"))
    assert (found.liveness, found.ending, found.recoverability, found.silent_s) == ("alive", "none", "none", 0)
    assert found.rule.startswith("heartbeat-kept")
    assert len(found.layers) == 5
    assert run(call, messages.Close(session="s1", reason="done")).session.state == "closed"
    with pytest.raises(CosessionError) as caught:
        run(call, messages.Heartbeat(session="s1"))
    assert caught.value.code == "session_ended"
    assert run(Call(1), messages.List()).sessions == []
    assert [session.state for session in run(Call(1), messages.List(all=True)).sessions] == ["closed"]


def test_a_hook_acts_for_the_session_of_its_ancestor(run):
    living(run.rig, 20, 30)
    run(Call(30, 25, 20), messages.Register(id="s1", pid=20))
    assert run.rig.record("s1").instances[0].pid == 20
    for caller in (Call(20), Call(31, 20), Call(99, sessions=["s1"])):
        assert run(caller, messages.Heartbeat(session="s1")).state == "active"
    for request in (messages.Heartbeat(session="s1"), messages.Close(session="s1")):
        with pytest.raises(NotAllowed, match="only process 20"):
            run(Call(30, 25), request)
    token = run.rig.registry.session_token("s1")
    presenting = Call(99)
    presenting.presented = token
    assert run(presenting, messages.Heartbeat(session="s1")).state == "active"
    assert run(Call(99), messages.Close(session="s1", session_token=token)).session.state == "closed"


def test_replacing_from_another_process_of_the_session(run):
    living(run.rig, 20, 30)
    run(Call(20), messages.Register(id="old"))
    with pytest.raises(NotAllowed):
        run(Call(40), messages.Register(id="new", replaces="old"))
    run(Call(30, 20), messages.Register(id="new", replaces="old"))
    assert run.rig.state("old") == "superseded"


def test_an_unknown_session(run):
    for request in (messages.Heartbeat(session="x"), messages.Close(session="x"), messages.Explain(session="x")):
        with pytest.raises(CosessionError) as caught:
            run(Call(20), request)
        assert caught.value.code == "not_found"


# Whom a registration stands for.


def stand(pid, call, **options):
    return instance_for(pid, call.peer, call.ancestry(), **{**INVENTED, **options})


@pytest.mark.parametrize(("pid", "stands"), [(0, 30), (30, 30), (25, 25), (20, 20)])
def test_the_caller_or_an_ancestor(pid, stands):
    assert stand(pid, Call(30, 25, 20)) == Instance(boot_id=boot_id(), pid=stands, start_time=stands * 10)


@pytest.mark.parametrize("pid", [31, 1, -1, 2**40])
def test_nobody_else(pid):
    with pytest.raises(NotAllowed, match=r"neither the caller \(30\) nor an ancestor.*30, 25"):
        stand(pid, Call(30, 25))


def test_no_ancestor_of_another_user():
    with pytest.raises(NotAllowed, match="does not belong to user 1000"):
        stand(25, Call(30, 25), owner_of=lambda pid: 0 if pid == 25 else 1000)
    with pytest.raises(NotAllowed):
        stand(25, Call(30, 25), owner_of=lambda _: None)
    assert stand(0, Call(30, 25), owner_of=lambda _: 0).pid == 30  # the caller is known by its connection


def test_a_caller_of_another_pid_namespace_stands_for_itself_and_cannot_be_judged():
    for pid in (0, 1, 25):
        found = stand(pid, Call(30, 25), namespace_is_ours=lambda _: False)
        assert (found.pid, found.start_time, found.judgeable) == (30, 300, False)
    hidden = Call(0)
    hidden.chain = ()
    found = stand(5, hidden)
    assert (found.pid, found.judgeable) == (0, False)


def test_a_caller_that_is_over_or_unknown():
    over = Call(30)
    over.chain = ()
    with pytest.raises(NotAllowed, match="process 30 is over"):
        stand(0, over)
    over.chain = (ProcessRef(30, 301),)  # its pid is another process by now
    with pytest.raises(NotAllowed, match="process 30 is over"):
        stand(0, over)
    with pytest.raises(NotAllowed, match="does not say who is calling"):
        instance_for(0, None, ())
