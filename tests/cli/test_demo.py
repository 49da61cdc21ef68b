"""The demo runs, proves what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import time

import pytest

from harness import private_home, processes_of


@pytest.fixture
def place(nowhere, tmp_path_factory):  # noqa: ARG001 (its directories go last)
    """A temporary directory of its own for the demo, short enough for a socket."""
    with private_home() as path:
        nowhere.env["TMPDIR"] = str(path)
        yield path


def test_every_claim_of_the_demo_holds_with_its_numbers(nowhere, place):
    summary = nowhere.ok("demo", "--json").json
    assert summary["ok"] is True
    assert summary["seconds"] < 60
    proofs = {proof["name"]: proof for proof in summary["proofs"]}
    assert list(proofs) == [
        "no_update_lost",
        "every_change_seen",
        "death_noticed",
        "acknowledged_is_durable",
        "watch_without_gap",
    ]
    assert all(proof["ok"] and proof["claim"] and proof["figures"] and not proof["wrong"] for proof in proofs.values())
    updates = proofs["no_update_lost"]
    assert updates["made"] == updates["counted"] == proofs["every_change_seen"]["versions"] > 0
    assert updates["retried"] > 0, "they were at it at the same time"
    death = proofs["death_noticed"]
    assert death["state"] == "crashed"
    assert 0 < death["milliseconds"] < 20_000
    assert death["evidence"]
    durable = proofs["acknowledged_is_durable"]
    assert durable["lost"] == durable["unknown"] == 0
    assert durable["acknowledged"] >= 1_000
    assert durable["restarted"] is True
    assert proofs["watch_without_gap"]["missing"] == 0
    assert proofs["watch_without_gap"]["changes"] >= updates["made"] + durable["acknowledged"]
    assert processes_of(place) == []
    assert list(place.iterdir()) == []


def test_the_demo_tells_its_story_and_leaves_the_users_home_alone(nowhere, place, home):
    out = nowhere.ok("demo").out
    for part in (
        "1  Three sessions",
        "2  One session is killed",
        "3  The daemon is killed",
        "What was proved",
        "Try next",
    ):
        assert part in out
    assert "\x1b" not in out, "plain where it is no terminal"
    assert "NO" not in out
    assert list(place.iterdir()) == []
    assert not (home / "state").exists()


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (signal.SIGINT, "Here are three"),
        (signal.SIGINT, "3  The daemon"),
        (signal.SIGTERM, "1  Three"),
        (signal.SIGHUP, "rev "),
    ],
)
def test_an_interrupted_demo_leaves_nothing(nowhere, place, number, after):
    process = nowhere.popen("demo", start_new_session=True)
    assert process.stdout is not None
    told = b""
    while after.encode() not in told:
        more = os.read(process.stdout.fileno(), 4096)
        assert more, told
        told += more
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert err == b""
    deadline = time.monotonic() + 5
    while processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(place) == []
    assert list(place.iterdir()) == []


def test_a_reader_that_hangs_up_ends_the_demo(nowhere, place):
    process = nowhere.popen("demo")
    assert process.stdout is not None
    assert process.stderr is not None
    os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
    assert processes_of(place) == []
    assert list(place.iterdir()) == []


def test_the_demo_needs_a_daemon_of_its_own(nowhere):
    nowhere.refused(64, "demo", "--no-spawn")
    nowhere.refused(64, "demo", "--socket", "/tmp/x")


def test_a_claim_that_does_not_hold_is_told_and_exit_1(capsys):
    from cosession.cli.demo.stage import Stage

    stage = Stage(silent=False)
    stage.prove("a", "water is wet", "1 of 1", ok=True)
    stage.prove("b", "fire is cold", "0 of 1", ok=False, wrong="it burnt")
    assert stage.finish() == 1
    out = capsys.readouterr().out
    assert "did not hold, fire is cold: 0 of 1; it burnt" in out
    assert "NO   fire is cold" in out


def test_what_to_try_next_can_be_typed_where_the_demo_was_started(capsys, monkeypatch, tmp_path):
    from cosession.cli.demo.stage import Stage

    def told(started: str) -> list[str]:
        monkeypatch.setattr("sys.argv", [started, "demo"])
        stage = Stage(silent=False)
        stage.prove("a", "water is wet", "1 of 1", ok=True)
        stage.finish()
        return [each.strip() for each in capsys.readouterr().out.partition("Try next\n")[2].splitlines()]

    monkeypatch.setenv("PATH", str(tmp_path))
    assert all(each.startswith(".venv/bin/cosession ") for each in told(".venv/bin/cosession"))
    assert all(each.startswith("'/my home/cosession' ") for each in told("/my home/cosession"))
    assert all(each.startswith("cosession ") for each in told("-c"))
    (tmp_path / "cosession").write_text("#!/bin/sh\n")
    (tmp_path / "cosession").chmod(0o755)
    assert all(each.startswith("cosession ") for each in told(".venv/bin/cosession"))


def test_the_judge_of_the_watch_sees_gaps_repeats_and_disorder():
    from cosession.cli.demo.watching import Watching, missing
    from cosession.model import Change

    def judged(*changes: tuple[str, int, int]) -> Watching:
        watching = Watching.__new__(Watching)
        watching.copy, watching.delivered, watching.wrong, watching.changes = {}, {}, [], 0
        watching._last_revision = 0
        for key, version, revision in changes:
            watching._take(Change(kind="put", key=key, version=version, mod_revision=revision))
            watching._last_revision = revision
        return watching

    assert judged(("a", 1, 1), ("b", 1, 2), ("a", 2, 3)).wrong == []
    assert judged(("a", 1, 1), ("a", 3, 3)).wrong == ["a went from version 1 to 3"]
    assert len(judged(("a", 1, 1), ("a", 1, 1)).wrong) == 2
    assert judged(("a", 1, 5), ("b", 1, 4)).wrong == ["revision 4 came after 5"]
    told = [{"key": "a", "revision": 1}, {"key": "b", "revision": 2}, {"key": "c", "revision": 3}]
    assert missing(told, {"a": [1], "b": [2, 2], "c": [4]}) == ["b", "c"]
