"""Taking in: exactly once, in order of each session, whatever lies there and whenever it ends."""

from __future__ import annotations

import os
import socket

import pytest

from cosession.errors import CosessionError
from cosessiond.metrics import Metrics
from cosessiond.spool import directory as directories
from cosessiond.spool import intake as intakes
from cosessiond.spool.directory import ASIDE_FILES_MAX, Aside, Directory
from cosessiond.spool.intake import Failed, Intake

TOKEN = "t" * 32


class Deadlines:
    def __init__(self):
        self.pending = {}

    def after(self, name, delay_s, action):
        self.pending[name] = (delay_s, action)

    def cancel(self, name):
        self.pending.pop(name, None)

    def pass_(self):
        for name in list(self.pending):
            self.pending.pop(name)[1]()


class Store:
    """What keeps calls, with a request id each: the daemon as the intake sees it. `refuses`: by request id."""

    def __init__(self):
        self.kept = []
        self.refuses = {}
        self.mute = False
        self.under_way = []
        self.most = 0

    def take(self, spooled, done):
        self.under_way.append((spooled, done))
        self.most = max(self.most, len(self.under_way))
        if not self.mute:
            self.answer()

    def answer(self):
        while self.under_way:
            spooled, done = self.under_way.pop(0)
            code = self.refuses.get(spooled.request_id)
            if code is None and spooled.request_id not in self.kept:
                self.kept.append(spooled.request_id)
            done(CosessionError("cannot: as told", code=code) if code else None)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def started(spooled, store):
    """An intake that does everything at once, on this thread."""

    def start(kind=Intake, directory=None):
        found = kind(
            directory or spooled.directory,
            store.take,
            elsewhere=lambda run, done: done(run()),
            deadlines=Deadlines(),
            wall_s=lambda: 0.0,
            metrics=Metrics(),
            tell=told.append,
        )
        found.look()
        return found

    told = start.told = []
    return start


def test_everything_is_taken_in_order_and_then_gone(spooled, store, started):
    for number in range(100):
        spooled.write(number)
    intake = started()
    assert store.kept == [f"r{number}" for number in range(100)]
    assert spooled.names() == []
    assert (intake.stands.taken, intake.stands.waiting, intake.stands.refused) == (100, 0, 0)


def test_sessions_do_not_wait_for_one_another_and_each_keeps_its_order(spooled, store, started):
    for number in range(9):
        spooled.write(number, session=f"s{number % 3}", token=TOKEN)
    store.mute = True
    started()
    assert [spooled.header.session for spooled, _ in store.under_way] == ["s0", "s1", "s2"], "one of each at a time"
    store.mute = False
    store.answer()
    for session in range(3):
        mine = [id for id in store.kept if int(id[1:]) % 3 == session]
        assert mine == [f"r{number}" for number in range(session, 9, 3)]


def test_a_file_goes_only_after_its_call_is_durable_and_found_again_does_nothing(spooled, store, started):
    spooled.write(1)
    spooled.write(2)
    store.mute = True
    started()
    store.kept.append("r1")  # committed, and killed before anything else
    assert len(spooled.names()) == 2
    store.mute, store.under_way = False, []
    started()
    assert store.kept == ["r1", "r2"]
    assert spooled.names() == []


class Hasty(Intake):
    """A seeded mistake: what is handed on is removed at once."""

    def _next_of(self, session):
        for lane in self._lanes.values():
            self.directory.settle([call.name for call in lane], [])
        super()._next_of(session)


def test_an_intake_that_removes_files_first_would_be_seen(spooled, store, started):
    spooled.write(1)
    store.mute = True
    started(Hasty)
    assert spooled.names() == [], "the mistake that the test above must see"


def test_what_is_refused_is_put_aside_and_what_cannot_be_now_holds_up_its_session_alone(spooled, store, started):
    for number, session in enumerate(("a", "a", "b", "b", "a")):
        spooled.write(number, session=session, token=TOKEN)
    store.refuses = {"r0": "not_allowed", "r1": "disk_full"}
    intake = started()
    assert store.kept == ["r2", "r3"]
    assert [name[-7:] for name in spooled.names()] == ["r1.call", "r4.call"]
    assert list(spooled.refused().values()) == ["cannot: as told\n"]
    assert started.told == [Aside(f"{1:016}-r0.call", "cannot: as told")]
    assert intake.stands.waiting == 2
    store.refuses = {}
    intake._deadlines.pass_()
    assert store.kept == ["r2", "r3", "r1", "r4"]
    assert spooled.names() == []


def test_retries_become_rarer_and_an_end_takes_in_nothing_more(spooled, store, started):
    spooled.write(1)
    store.refuses = {"r1": "overloaded"}
    intake = started()
    waits = []
    for _ in range(9):
        waits.append(intake._deadlines.pending["spool"][0])
        intake._deadlines.pass_()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    intake.close()
    store.refuses = {}
    intake.look()
    assert store.kept == []
    assert intakes.RETRY_S_MAX == 60


def hostile(path):
    """Everything that is no call, by name, with a word of the reason."""
    good = b'{"spool":1,"session":"","proof":""}\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n'

    def name(number):
        return f"{number:016}-h{number}.call"

    files = {
        name(1): (good[:40], "not two whole lines"),
        name(2): (b"", "not two whole lines"),
        name(3): (good + b"more", "not two whole lines"),
        name(4): (b"{" * 900 + b"\n{}\n", "header cannot be read"),
        name(5): (b'{"spool":2}\n{}\n', "format 2"),
        name(6): (b'{"spool":1,"session":"\\ud800"}\n{}\n', "header cannot be read"),
        name(7): (b'{"spool":1,"other":1}\n{}\n', "header cannot be read"),
        "README": (b"x", "name is none"),
        "1-r.call": (b"x", "name is none"),
        "x" * 250: (b"x", "name is none"),
    }
    for each, (data, _) in files.items():
        (path / each).write_bytes(data)
    (path / os.fsdecode(b"\xff\xfe\n.call")).write_bytes(b"x")
    with (path / name(8)).open("wb") as sparse:
        sparse.truncate(10**12)
    (path / name(9)).symlink_to("/etc/passwd")
    os.mkfifo(path / name(10))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path / name(11)))
    (path / name(12)).mkdir()
    (path / name(13)).mkdir()
    (path / name(13) / "inner").write_text("x")
    (path / "target").write_bytes(good)
    os.link(path / "target", path / name(14))
    (path / "target").unlink()
    os.link(path / name(14), path.parent / "another name")
    expected = {each: why for each, (_, why) in files.items()}
    return {**expected, name(8): "1000000000000 bytes", name(14): "2 names"}


def test_what_is_no_call_is_put_aside_and_holds_up_nobody(spooled, store, started):
    spooled.write(1)
    expected = hostile(spooled.path)
    spooled.write(2)
    if os.geteuid() == 0:
        foreign = spooled.path / spooled.write(3)
        os.chown(foreign, 12345, -1)
        expected[foreign.name] = "belongs to uid 12345"
    intake = started()
    assert store.kept == ["r1", "r2"]
    refused = spooled.refused()
    long = "x" * 250
    found = {name for name, why in expected.items() if name != long and why not in refused.get(name, "")}
    assert found == {f"{8:016}-h8.call"}, "only the terabyte is not kept to be looked at"
    assert [each.name for each in spooled.path.iterdir() if each.name != "refused"] == [f"{13:016}-h13.call"]
    assert intake.stands.refused >= len(expected)
    for each in started.told:
        each.name.encode()  # whatever the bytes of its name, it can be told
    assert intake.stands.error == ""


def test_hundreds_of_files_that_are_none_are_bounded_and_the_calls_among_them_taken(spooled, store, started):
    spooled.write(1)
    for number in range(300):
        (spooled.path / f"junk-{number}").write_text("x")
    started()
    assert store.kept == ["r1"]
    assert len(spooled.refused()) == ASIDE_FILES_MAX
    assert {each.name for each in spooled.path.iterdir()} == {"refused"}


def test_what_was_never_finished_is_left_alone_for_an_hour(spooled):
    spooled.write(1)
    half = spooled.path / ".unfinished-1-x"
    half.write_text("{")
    now_s = half.stat().st_mtime
    assert len(Directory(spooled.path, now_s + 3_000).look().calls) == 1
    assert half.exists()
    Directory(spooled.path, now_s + 4_000).look()
    assert not half.exists()


def test_a_directory_that_is_not_ours_alone_is_not_looked_into(spooled, store, started):
    spooled.write(1)
    spooled.path.chmod(0o755)
    intake = started()
    assert store.kept == []
    assert "chmod 700" in intake.stands.error
    spooled.path.chmod(0o700)
    intake._deadlines.pass_()
    assert (store.kept, intake.stands.error) == (["r1"], "")


def test_a_look_that_fails_is_tried_again(spooled, store, started):
    spooled.write(1)
    fails = [Failed("no thread")]
    intake = started()
    spooled.write(2)
    intake._elsewhere = lambda run, done: done(fails.pop() if fails else run())
    intake.look()
    assert (store.kept, intake.stands.error) == (["r1"], "no thread")
    fails.append(Failed("no thread"))
    intake._elsewhere = lambda run, done: done(run() if "look" in str(run) or not fails else fails.pop())
    intake._deadlines.pass_()
    assert (store.kept, len(spooled.names())) == (["r1", "r2"], 1), "committed, and not yet removed"
    intake._deadlines.pass_()
    assert (store.kept, spooled.names()) == (["r1", "r2"], [])


def test_one_round_is_bounded_in_files_and_bytes(spooled, monkeypatch):
    monkeypatch.setattr(directories, "ROUND_BYTES_MAX", 300)
    for number in range(5):
        spooled.write(number, params=f'{{"key":"k","value":"{"x" * 100}","request_id":"r{number}"}}')
    assert len(spooled.directory.look().calls) == 1
    monkeypatch.setattr(directories, "ROUND_BYTES_MAX", 10**6)
    monkeypatch.setattr(directories, "ROUND_FILES_MAX", 3)
    found = spooled.directory.look()
    assert [call.request_id for call in found.calls] == ["r0", "r1", "r2"]
    assert found.waiting == 5
