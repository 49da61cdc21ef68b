"""compact: what goes, what stays, who is told, and what is nothing to do.

Rule: over the socket, or through the library and the command line over it.
"""

from __future__ import annotations

import json
import subprocess

import pytest

from cli.conftest import COMMAND
from cosession import connect
from cosession.cli.compact import PART_BATCHES
from cosession.errors import Compacted, CosessionError
from harness import Daemon
from rawclient import Json, Pack


@pytest.fixture
def filled(home):
    """A daemon with sixty revisions of one key and one of another."""
    with Daemon(home) as daemon:
        with Json(daemon.socket) as peer:
            peer.reply("put", key="once", value="early")
            for number in range(59):
                peer.reply("put", key="often", value=number)
        yield daemon


def test_the_log_begins_where_it_was_asked_to_and_history_stays(filled):
    with Pack(filled.socket) as peer:
        first = peer.reply("status")["compact_revision"]
        newest = peer.reply("ping")["revision"]
        reply = peer.reply("compact", revision=newest - 5)
        assert (reply["compact_revision"], reply["dropped"]) == (newest - 5, newest - 5 - first)
        status = peer.reply("status")
        assert (status["compact_revision"], status["surplus_batches"]) == (newest - 5, 0)
        assert peer.code("get", key="often", at_revision=newest - 6) == "compacted"
        assert peer.reply("get", key="often", at_revision=newest - 5)["entry"]["value"] == 53
        assert peer.reply("get", key="once", at_revision=newest - 5)["entry"]["value"] == "early"
        assert len(peer.reply("history", key="often")["versions"]) == 50
        assert peer.code("watch", start_revision=newest - 6) == "compacted"


def test_up_to_the_present_one_batch_stays_and_again_there_is_nothing_to_do(filled):
    with Json(filled.socket) as peer:
        newest = peer.reply("ping")["revision"]
        assert peer.reply("compact", revision=newest)["compact_revision"] == newest
        for revision in (newest, 1):
            again = peer.reply("compact", revision=revision)
            assert (again["compact_revision"], again["dropped"]) == (newest, 0)
        assert peer.code("compact", revision=newest + 1) == "future_revision"
        assert peer.code("compact", revision=0) == "invalid_params"
        assert peer.code("compact", revision=-1) == "invalid_params"
        assert peer.reply("put", key="new", value=1)["written"]["mod_revision"] == newest + 1


def test_what_changes_nothing_leaves_no_record(filled):
    """Else whoever asks often enough takes the room of records that matter."""
    with Json(filled.socket) as peer:
        newest = peer.reply("ping")["revision"]
        peer.reply("compact", revision=newest)
        for _ in range(100):
            peer.reply("compact", revision=1)
            peer.code("compact", revision=newest + 1)
            peer.reply("admin.reload")
        records = peer.reply("audit", after=0, kind="admin")["records"]
    assert [each["operation"] for each in records] == ["start", "backup", "compact"]


def test_a_time_will_do_as_well(filled):
    env = {**filled.env, "PYTHONWARNINGS": "ignore"}

    def run(*words):
        return subprocess.run([*COMMAND, "compact", *words], env=env, capture_output=True, text=True, check=False)

    assert "'soon'" in run("--to", "soon").stderr
    assert run("--to", "2 h ago").returncode == 4, "the log does not reach back that far"
    done = run("--to", "0 s ago", "--json")
    assert json.loads(done.stdout)["compact_revision"] == 60, done.stderr


def test_what_was_compacted_stays_so_after_a_sigkill(filled):
    with Json(filled.socket) as peer:
        newest = peer.reply("ping")["revision"]
        peer.reply("compact", revision=newest - 3)
        peer.reply("put", key="new", value=1)  # its sync covers what was trimmed before
    filled.kill()
    filled.start()
    with Json(filled.socket) as peer:
        assert peer.reply("status")["compact_revision"] >= newest - 3
        assert len(peer.reply("history", key="often")["versions"]) == 50


def test_the_library_and_the_command_line(filled, home):
    env = {"COSESSION_HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, "compact", *words], env=env, capture_output=True, text=True, check=False)

    with connect(socket=filled.socket) as client:
        newest = client.ping().revision
        assert client.compact(newest - 20).compact_revision == newest - 20
        with pytest.raises(CosessionError) as caught:
            client.compact(newest + 1)
        assert caught.value.code == "future_revision"
        with pytest.raises(Compacted):
            client.get("often", at_revision=newest - 21)
        said = run("--to", str(newest - 10))
        assert (said.returncode, said.stdout) == (0, f"dropped 10 batches; kept whole from revision {newest - 10}\n")
        said = run("--keep", "3", "--json")
        assert json.loads(said.stdout) == {"compact_revision": newest - 2, "dropped": 8, "revision": newest}
        said = run("--keep", str(newest + 9000))
        assert said.returncode == 0
        said = run("--keep", "3")
        assert said.stdout == f"nothing to do: the log begins at revision {newest - 2} already\n"
        assert run().returncode == run("--to", "5", "--keep", "3").returncode == 64


def test_a_refused_compact_drops_nothing_and_names_what_was_typed(filled, home):
    """Though it goes in parts, of which the first would be within the store."""
    env = {"COSESSION_HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    with Json(filled.socket) as peer:
        for number in range(PART_BATCHES):
            peer.reply("put", key="often", value=number)
        before = peer.reply("status")
        said = subprocess.run(
            [*COMMAND, "compact", "--to", "9999"], env=env, capture_output=True, text=True, check=False
        )
        assert said.returncode == 65
        assert f"up to revision 9999: the store is at {before['revision']};" in said.stderr
        assert peer.reply("status")["compact_revision"] == before["compact_revision"]
