"""Checkpoints and recovery of both clients against a real daemon: a real process dies, another session takes over; and
a hostile repository, which runs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cosession import CosessionError, InvalidRequest, NotAllowed, TooLarge, gitfacts, recovering
from cosession.messages.sessions import Explain

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
DIES = """
import os, signal, sys
import cosession
client = cosession.connect(sys.argv[1])
session = client.session(agent="test", name=sys.argv[2])
session.claim("name:" + sys.argv[2])
session.checkpoint({"task": "the parser", "files": ["a.txt"], "note": "password=hunter22"})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a.txt").write_text("one")
    subprocess.run([*GIT, "-C", str(tmp_path), "add", "."], check=True)
    subprocess.run([*GIT, "-C", str(tmp_path), "commit", "-qm", "one"], check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commit(tree):
    subprocess.run([*GIT, "-C", str(tree), "commit", "-qam", "two"], check=True)


def test_one_that_was_killed_is_taken_over(use, daemon, tree):
    name = f"dies-{os.urandom(4).hex()}"
    assert subprocess.run([sys.executable, "-c", DIES, daemon.socket, name], check=False).returncode == -signal.SIGKILL

    async def body(client):
        while (await client.call(Explain(session=name))).session.state != "crashed":
            pass
        plan = await client.recover(name, plan=True)
        if plan.session.recovered_by:
            return  # by the other flavour
        assert (plan.standing, plan.checkpoint.task, len(plan.claims)) == ("VERIFIED", "the parser", 1)
        assert plan.checkpoint.redacted == 1
        assert "hunter22" not in json.dumps(plan.checkpoint.extra)
        async with client.session(agent="test", name="heir", heartbeat_s=0) as heir:
            with pytest.raises(NotAllowed):
                await client.recover(heir.id, plan=True)
            (tree / "a.txt").write_text("two")
            commit(tree)
            found = await client.recover(name)
            assert found.by.id == heir.id
            assert [claim.session for claim in found.claims] == [heir.id]
            stale = await client.staleness(found)
            assert stale["head"][0] == plan.checkpoint.git.head
            assert [(each["path"], each["why"]) for each in stale["files"]] == [("a.txt", "changed")]
            assert (await heir.last_checkpoint()).checkpoint.id == plan.checkpoint.id

    use(body)


def test_what_is_no_state_is_refused_and_one_is_saved_after_so_many_events(use):
    async def body(client):
        async with client.session(agent="test", heartbeat_s=0, auto_checkpoint_every=3) as session:
            with pytest.raises((TooLarge, CosessionError)):
                await session.checkpoint({"task": "x" * 10 * 1024 * 1024})
            with pytest.raises(InvalidRequest):
                await session.checkpoint({"task": "\ud800"})
            with pytest.raises(InvalidRequest, match="`task` is a number"):
                await session.checkpoint({"task": 5})
            saved = [await session.event({"task": "t"}) for _ in range(4)]
            assert [each.automatic if each else None for each in saved] == [None, None, True, None]
            assert len(await session.checkpoints()) == 1

    use(body)


def test_a_hostile_repository_runs_nothing(tree, tmp_path_factory):
    trap = tmp_path_factory.mktemp("trap") / "sprung"
    run = f"sh -c 'touch {trap}; cat'"
    settings = {
        "core.fsmonitor": f"touch {trap}",
        "core.hooksPath": str(tree / "hooks"),
        "filter.evil.clean": run,
        "filter.evil.process": run,
        "filter.evil.required": "true",
        "diff.external": run,
        "diff.evil.textconv": run,
        "log.showSignature": "true",
        "gpg.program": run,
        "core.pager": run,
    }
    for name, value in settings.items():
        subprocess.run(["git", "-C", str(tree), "config", name, value], check=True)
    (tree / "hooks").mkdir()
    for hook in ("post-index-change", "fsmonitor-watchman"):
        (tree / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {trap}\n")
        (tree / "hooks" / hook).chmod(0o755)
    (tree / ".gitattributes").write_text("* filter=evil diff=evil\n")
    (tree / "a.txt").write_text("six")
    os.mkfifo(tree / "pipe")
    facts = gitfacts.collect(str(tree))
    assert gitfacts.writers(str(tree), facts["head"], time.monotonic() + 30) == {}
    assert not trap.exists()
    assert "a.txt" in {each["path"] for each in facts["dirty"]}
    (fact,) = gitfacts.hashes(str(tree), ["pipe"])
    assert fact["note"] == "no plain file"
    subprocess.run(["git", "-C", str(tree), "status"], check=False, capture_output=True)
    assert trap.exists(), "a plain git status does run what is set there"


def test_git_that_hangs_is_left_alone(tree, monkeypatch, tmp_path_factory):
    place = tmp_path_factory.mktemp("bin")
    (place / "git").write_text("#!/bin/sh\nexec sleep 60\n")
    (place / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    assert gitfacts.collect(str(tree), 0.2)["note"] == "git did not answer in time"


def test_documents_are_bounded_and_quote_what_they_show(tmp_path, monkeypatch):
    monkeypatch.setattr(recovering, "DOCUMENTS_KEPT", 2)
    for number in range(4):
        path = recovering.write(str(tmp_path), f"../{number}", "text")
        assert os.path.dirname(path) == str(tmp_path / "recoveries")  # noqa: PTH120
        assert os.stat(path).st_mode & 0o777 == 0o600  # noqa: PTH116
    assert len(os.listdir(tmp_path / "recoveries")) == 2  # noqa: PTH208
