"""Which backup is made when, under a virtual clock: the daemon's core over a real store, with its real backups.

Only what a copy is proved by has a thread of its own, and tells the core by a queue; so a test decides what happens
while a backup is being proved.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosession.config import BackupConfig, Config
from cosession.errors import CosessionError
from cosessiond.backups.making import SYNCING_S
from cosessiond.backups.schedule import RETRY_S, START_S, Backups
from cosessiond.backups.vault import Outcome, Vault
from cosessiond.store.backup import BackupDirectory
from cosessiond.store.copying import Copying
from cosessiond.store.engine import Window
from cosessiond.store.proving import prove
from cosessiond.store.sqlite import SqliteEngine
from cosessiond.store.verifying import Facts
from server.inprocess import Inside
from store.engines import EPOCH, batch, put

HOUR_S = 3600.0
#: What a test waits at most for a thread.
TOLD_S = 60.0
Result = Outcome | CosessionError


class Log:
    """Takes all, keeps the events."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattr__(self, _level: str) -> Callable[..., None]:
        return lambda event, **_: self.events.append(event)


class Kept:
    """One daemon with a store and backups under `state`, and its clock."""

    def __init__(self, state: Path, **backup: int) -> None:
        self.log = Log()
        self._told: queue.SimpleQueue[tuple[Callable[..., object], Any]] = queue.SimpleQueue()
        self._engine = SqliteEngine.open(state, window=Window(), new_epoch=lambda: EPOCH)
        self._vault = Vault(state, version="0", deliver=lambda *each: self._told.put((each[0], each[1])), log=self.log)
        config = Config(backup=BackupConfig(**backup))
        self.inside = Inside(config=config, engine=self._engine, vault=self._vault)
        self.backups: Backups = self.inside.core.backups

    def close(self) -> None:
        self._vault.close()
        self._engine.close()

    def write(self, value: int = 0) -> None:
        """One change."""
        self.inside.core.store.submit(batch(put("a", value)), lambda _: None)
        self.inside.world.run_until_idle()

    def reach(self, phase: str) -> None:
        """Let the one that is made come so far; time passes by what it waits for its own syncs."""
        self.inside.world.run_until_idle()
        while (making := self.backups.making) is not None and making.phase != phase:
            if making.phase == "proving":
                done, result = self._told.get(timeout=TOLD_S)
                done(result)
                self.inside.world.run_until_idle()
            else:
                self.inside.world.advance(SYNCING_S)

    def settle(self) -> None:
        """Until none is made."""
        self.reach("over")

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due be done."""
        self.inside.world.advance(seconds)
        self.settle()

    def ask(self) -> list[Result]:
        """Ask for one; what came of it is in the list then."""
        found: list[Result] = []
        self.backups.make("demand", found.append)
        return found

    def reload(self, **backup: int) -> None:
        """Take another configuration."""
        self.inside.told = Config(backup=BackupConfig(**backup))
        self.inside.configuration.reload()

    @property
    def reasons(self) -> list[str]:
        """Why each that is there was made, oldest first."""
        return [each.name.rpartition("-")[2] for each in self.backups.found]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """`begin(every_min=60)`: a daemon; again: the next one on the same store."""
    begun: list[Kept] = []

    def begins(**backup: int) -> Kept:
        if begun:
            begun.pop().close()
        begun.append(Kept(tmp_path, **backup))
        return begun[-1]

    yield begins
    for each in begun:
        each.close()


Begin = Callable[..., Kept]


def test_one_is_made_every_so_many_minutes_in_which_something_changed(begin: Begin) -> None:
    kept = begin(every_min=60)
    kept.write()
    kept.advance(START_S - 1)
    assert kept.reasons == []
    kept.advance(2)
    assert kept.reasons == ["scheduled"]
    kept.write()
    kept.advance(HOUR_S - 60)
    assert kept.reasons == ["scheduled"]
    kept.advance(61)
    assert kept.reasons == ["scheduled"] * 2
    kept.advance(10 * HOUR_S)
    kept.write()  # the hour is long over: at once
    kept.advance(0)
    assert kept.reasons == ["scheduled"] * 3


def test_without_a_change_nothing_is_made_and_nobody_wakes_up(begin: Begin) -> None:
    kept = begin(every_min=1)
    kept.advance(24 * HOUR_S)
    assert kept.reasons == []
    kept.write()
    kept.advance(HOUR_S)
    assert kept.reasons == ["scheduled"]
    assert kept.inside.core.deadlines.when("backup") is None
    kept.advance(24 * HOUR_S)
    assert kept.reasons == ["scheduled"]


def test_with_0_there_is_none_but_on_demand(begin: Begin) -> None:
    kept = begin(every_min=0)
    kept.write()
    kept.advance(24 * HOUR_S)
    over: list[bool] = []
    kept.backups.stop(lambda: over.append(True))
    kept.settle()
    assert (kept.reasons, over) == ([], [True])


def test_what_is_changed_while_it_runs_counts_from_the_last_one(begin: Begin) -> None:
    kept = begin(every_min=60)
    kept.write()
    kept.advance(START_S)
    kept.write()
    kept.advance(600)
    kept.reload(every_min=5)  # that was over five minutes ago
    kept.advance(0)
    assert kept.reasons == ["scheduled"] * 2
    kept.write()
    kept.reload(every_min=0)
    kept.advance(24 * HOUR_S)
    assert kept.reasons == ["scheduled"] * 2
    kept.reload(every_min=30)
    kept.advance(0)
    assert kept.reasons == ["scheduled"] * 3


def test_the_next_daemon_goes_on_where_the_last_one_stopped(begin: Begin) -> None:
    kept = begin(every_min=60)
    kept.write()
    kept.ask()
    kept.settle()
    kept = begin(every_min=60)  # its clock shows what the first began with
    kept.write(1)
    kept.advance(HOUR_S - 60)
    assert kept.reasons == ["demand"]
    kept.advance(61)
    assert kept.reasons == ["demand", "scheduled"]


def test_one_that_failed_is_tried_again_sooner(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = begin(every_min=60)
    kept.write()
    with monkeypatch.context() as full:
        full.setattr(BackupDirectory, "room", lambda _: (0, 1 << 40))
        kept.advance(START_S)
        assert "the disk has 0 free" in kept.backups.error
    kept.advance(RETRY_S - 1)
    assert kept.reasons == []
    kept.advance(1)
    assert (kept.reasons, kept.backups.error) == (["scheduled"], "")


# -- asking ---------------------------------------------------------------------------------------------------------


def joining(kept: Kept) -> None:
    """Who asks while one is made gets it, if it has all that was committed before."""
    kept.write()
    first = kept.ask()
    kept.write(1)  # while it is being copied: it is in it
    second = kept.ask()
    kept.reach("proving")
    third = kept.ask()  # nothing was committed since
    kept.write(2)
    fourth = kept.ask()
    kept.settle()
    assert [each[0] for each in (first, second, third, fourth) if each], "answered"
    made = [each[0].name for each in (first, second, third, fourth) if isinstance(each[0], Outcome)]
    assert len(made) == 4
    assert len(set(made[:3])) == 1
    assert made[3] != made[0]
    assert [each.manifest.revision for each in kept.backups.found if each.manifest] == [2, 3]


def test_who_asks_while_one_is_made_gets_it_if_it_has_all_that_was_committed(begin: Begin) -> None:
    joining(begin(every_min=0))


def alone(self: Backups, reason: Any, done: Any) -> None:
    """Seeded: everybody gets one of his own."""
    if self._making is None:
        self._joined.append(done)
        self._begin(self._vault, reason)  # type: ignore[arg-type]
    else:
        self._next.append(done)


def together(self: Backups, reason: Any, done: Any) -> None:
    """Seeded: whoever comes gets the one that is made, whatever was committed since."""
    self._joined.append(done)
    if self._making is None:
        self._begin(self._vault, reason)  # type: ignore[arg-type]


@pytest.mark.parametrize("bug", [alone, together])
def test_another_way_of_joining_is_noticed(begin: Begin, monkeypatch: pytest.MonkeyPatch, bug: Any) -> None:
    monkeypatch.setattr(Backups, "make", bug)
    with pytest.raises(AssertionError):
        joining(begin(every_min=0))


# -- damage, and the end --------------------------------------------------------------------------------------------


def damage(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change one byte of the next copy, when it is whole and nobody has looked at it yet."""
    finish = Copying.finish

    def finish_badly(self: Copying) -> None:
        finish(self)
        content = self._path.read_bytes()
        at = content.rindex(b"some words")
        self._path.write_bytes(content[:at] + b"s0me words" + content[at + 10 :])

    monkeypatch.setattr(Copying, "finish", finish_badly)
    kept.inside.core.store.submit(batch(put("a", "some words")), lambda _: None)
    kept.inside.world.run_until_idle()


def test_what_is_damaged_between_copy_and_proof_gets_no_name(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = begin(every_min=0)
    damage(kept, monkeypatch)
    (found,) = _over(kept, kept.ask())
    assert isinstance(found, CosessionError)
    assert found.code == "damaged"
    assert "does not match its hash" in kept.backups.error
    assert list((tmp_path / "backups").iterdir()) == []
    monkeypatch.undo()
    (found,) = _over(kept, kept.ask())
    assert isinstance(found, Outcome)
    assert kept.backups.error == ""


def test_a_daemon_that_does_not_read_the_copy_publishes_the_damage(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seeded: it is the proof that keeps it unpublished."""
    kept = begin(every_min=0)
    damage(kept, monkeypatch)

    def unread(path: Path, tell: Any) -> Facts:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"s0me words", b"some words"))
        facts = prove(path, tell)
        path.write_bytes(content)
        return facts

    monkeypatch.setattr("cosessiond.backups.prover.prove", unread)
    (found,) = _over(kept, kept.ask())
    assert isinstance(found, Outcome)
    assert kept.reasons == ["demand"]


def _over(kept: Kept, found: list[Result]) -> list[Result]:
    kept.settle()
    return found


def test_the_last_one_is_made_when_the_daemon_stops(begin: Begin) -> None:
    kept = begin(every_min=60)
    kept.write()
    over: list[bool] = []
    kept.backups.stop(lambda: over.append(True))
    kept.settle()
    assert (kept.reasons, over) == (["shutdown"], [True])
    kept.backups.stop(lambda: over.append(True))
    assert over == [True] * 2, "nothing has changed"


def test_one_that_is_given_up_ends_at_its_next_step(begin: Begin, tmp_path: Path) -> None:
    """The daemon waits no longer than that; nothing is left, and it is no failure."""
    kept = begin(every_min=60)
    kept.write()
    over: list[bool] = []
    kept.inside.commits.stall(stalled=True)
    kept.backups.stop(lambda: over.append(True))
    kept.inside.world.advance(5.0)
    kept.backups.give_up()
    assert over == []
    kept.inside.commits.stall(stalled=False)
    kept.inside.world.run_until_idle()
    assert (over, kept.reasons, kept.backups.error) == ([True], [], "")
    assert list((tmp_path / "backups").iterdir()) == []
