"""The configuration in force over good files and bad ones, and the watch of its file, each in this process."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cosession.config import Config, LogConfig, taken
from cosession.errors import ConfigError
from cosession.messages.limits import LIMITS, Limits
from cosessiond.clock import LoopTimers, SystemClock
from cosessiond.process import configuration as module
from cosessiond.process import filewatch
from cosessiond.process.configuration import Configuration
from cosessiond.process.filewatch import FileWatch, aim_for
from cosessiond.process.logs import Threshold
from cosessiond.store.leases import Deadlines

FEW = Config(limits=Limits(watches_max=5, request_ids_max=7))
FEWER = Config(limits=Limits(watches_max=3, request_ids_max=7), log=LogConfig(level="error"))


class Log:
    """What was logged, as (level, event, reason)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def info(self, event: str, **about: Any) -> None:
        self.lines.append(("info", event, str(about.get("reason", ""))))

    def warning(self, event: str, **about: Any) -> None:
        self.lines.append(("warning", event, str(about.get("reason", ""))))

    def error(self, event: str, **about: Any) -> None:
        self.lines.append(("error", event, str(about.get("reason", ""))))


class File:
    """A file that says what it is told to say."""

    def __init__(self) -> None:
        self.says: Config | str = Config()

    def load(self) -> Config:
        if isinstance(self.says, str):
            raise ConfigError(self.says)
        return self.says


# -- what is in force --------------------------------------------------------------------------------------------------


def judge(kind: Callable[..., Configuration]) -> None:
    """A life: lowered, half written twice, as before, mended, away."""
    file, log = File(), Log()
    held = kind(Config(), load=file.load, path="/c", log=log)
    heard: list[Config] = []
    held.listeners.append(heard.append)
    file.says = FEW
    found = held.reload()
    assert held.in_force.limits == Limits(watches_max=5), "what needs a restart stays"
    assert [(each.key, each.applies) for each in found] == [("limits.watches_max", "new_connections")]
    assert [each.key for each in held.restart_needed] == ["limits.request_ids_max"]
    assert held.reload() == []
    assert heard == [held.in_force]
    before = held.in_force
    for _ in range(2):
        file.says = "cannot use /c: cut; write it whole"
        held.look()
        assert held.in_force is before
        assert held.error == file.says
    assert [line[0] for line in log.lines].count("error") == 1, "said once"
    assert log.lines[-1][2] == held.error
    file.says = FEW
    held.look()
    assert held.error == ""
    file.says = FEWER
    assert {each.key for each in held.reload()} == {"log.level", "limits.watches_max"}
    file.says = Config()
    held.look()
    assert held.in_force == Config()
    assert held.restart_needed == []


def test_the_old_configuration_stays_in_force_until_a_good_one_comes() -> None:
    judge(Configuration)


class Trusting(Configuration):
    """Seeded: a file that cannot be used means the defaults."""

    def look(self) -> None:
        try:
            self.reload()
        except ConfigError:
            self.in_force = Config()


class Sulking(Configuration):
    """Seeded: an error is never forgotten."""

    def reload(self) -> Any:
        before = self.error
        try:
            return super().reload()
        finally:
            self.error = self.error or before


class Noisy(Configuration):
    """Seeded: says the same at each look."""

    def look(self) -> None:
        self.error = ""
        super().look()


@pytest.mark.parametrize("kind", [Trusting, Sulking, Noisy])
def test_a_seeded_mistake_is_noticed(kind: type[Configuration]) -> None:
    with pytest.raises(AssertionError):
        judge(kind)


def test_taking_what_needs_a_restart_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "taken", lambda _before, after: after)
    with pytest.raises(AssertionError, match="what needs a restart stays"):
        judge(Configuration)
    assert taken(Config(), FEW).limits.request_ids_max == LIMITS.request_ids_max


def test_sighup_always_leaves_a_line() -> None:
    file, log = File(), Log()
    held = Configuration(Config(), load=file.load, path="/c", log=log)
    held.signalled()
    file.says = "cannot use /c: cut; write it whole"
    held.signalled()
    held.signalled()
    assert [(level, reason) for level, _, reason in log.lines] == [
        ("info", ""),
        ("error", file.says),
        ("error", file.says),
    ]


def test_the_threshold_of_the_log_moves() -> None:
    from structlog import DropEvent

    threshold = Threshold("info")
    with pytest.raises(DropEvent):
        threshold(None, "debug", {})
    threshold.configured = "debug"
    assert threshold(None, "debug", {"event": "x"}) == {"event": "x"}
    threshold.override = "error"
    with pytest.raises(DropEvent):
        threshold(None, "warning", {})
    assert threshold(None, "error", {"event": "x"})


# -- the watch of the file ---------------------------------------------------------------------------------------------

NOTICES_S = 10.0


class Watching:
    """A watch on a loop: how often it called, and what it says of itself."""

    def __init__(self, path: Path, kind: type[FileWatch]) -> None:
        self.path = path
        self.calls = 0
        self.read = ""
        self.log = Log()
        self.loop = asyncio.get_running_loop()
        clock = SystemClock()
        self.watch = kind(
            path,
            self._changed,
            clock=clock,
            deadlines=Deadlines(clock, LoopTimers(self.loop)),
            call_soon=self.loop.call_soon_threadsafe,
            log=self.log,
        )

    def _changed(self) -> None:
        self.calls += 1
        self.read = self.path.read_text() if self.path.exists() else ""

    async def reads(self, text: str) -> None:
        """Wait until the watch has led to a look that found `text`."""
        await self.until(lambda: self.read == text, f"{text!r} was not noticed")

    async def stands(self) -> None:
        """Wait until the watch is where it belongs."""
        await self.until(lambda: self.watch._aiming is None and self.watch._aim == aim_for(self.path), "it never stood")

    async def until(self, holds: Callable[[], bool], otherwise: str) -> None:
        """Wait until it holds."""
        deadline = self.loop.time() + NOTICES_S
        while not holds():
            assert self.loop.time() < deadline, f"{otherwise}; {self.log.lines}"
            await asyncio.sleep(0.02)


def watched(path: Path, story: Callable[[Watching], Awaitable[None]], kind: type[FileWatch] = FileWatch) -> None:
    """Tell `story` with a watch of `path` that stands."""

    async def run() -> None:
        watching = Watching(path, kind)
        watching.watch.begin()
        try:
            await watching.stands()
            await story(watching)
        finally:
            watching.watch.close()

    before = threading.active_count()
    asyncio.run(run())
    assert threading.active_count() == before, "its threads ended with it"


async def by_rename(watching: Watching) -> None:
    """As most editors do, twice: the second file lies where the watch of the first file would have ended."""
    for text in ("one", "two"):
        new = watching.path.with_suffix(".new")
        new.write_text(text)
        new.rename(watching.path)
        await watching.reads(text)


async def in_place(watching: Watching) -> None:
    """By another way: written, mode changed, removed."""
    watching.path.write_text("a")
    await watching.reads("a")
    calls = watching.calls
    watching.path.chmod(0o640)
    await watching.until(lambda: watching.calls > calls, "the mode was not noticed")
    watching.path.unlink()
    await watching.reads("")


async def with_its_directories(watching: Watching) -> None:
    """Two directories come with it, go, and come again."""
    for text in ("one", "two"):
        watching.path.parent.mkdir(parents=True)
        watching.path.write_text(text)
        await watching.reads(text)
        await watching.stands()
        shutil.rmtree(watching.path.parent.parent)
        await watching.reads("")


def test_a_file_that_is_replaced_is_noticed(tmp_path: Path) -> None:
    watched(tmp_path / "config.toml", by_rename)


def test_a_file_that_is_written_in_place_is_noticed(tmp_path: Path) -> None:
    watched(tmp_path / "config.toml", in_place)


def test_a_directory_that_comes_later_is_noticed(tmp_path: Path) -> None:
    watched(tmp_path / "a" / "b" / "config.toml", with_its_directories)


def test_a_link_to_the_directory_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    watched(tmp_path / "link" / "config.toml", by_rename)


class WritesOnly(FileWatch):
    """Seeded: takes heed of what is written in place, while an editor puts another file there."""

    def _noticed(self, event: Any) -> None:
        if event.event_type == "modified":
            super()._noticed(event)


class Settled(FileWatch):
    """Seeded: once it stands it stays, whatever comes nearer."""

    def _take_aim(self) -> None:
        if self._aim is None:
            super()._take_aim()
        else:
            self._tell_loop(self._aimed)


@pytest.mark.parametrize(("kind", "story"), [(WritesOnly, by_rename), (Settled, with_its_directories)])
def test_a_watch_of_the_wrong_thing_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[FileWatch], story: Any
) -> None:
    monkeypatch.setitem(globals(), "NOTICES_S", 1.5)
    path = tmp_path / "a" / "b" / "config.toml"
    if story is by_rename:
        path.parent.mkdir(parents=True)
        path.write_text("zero")
    with pytest.raises(AssertionError):
        watched(path, story, kind)


def test_many_changes_are_few_looks(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"

    async def story(watching: Watching) -> None:
        before = watching.calls
        began = watching.loop.time()

        def write() -> None:
            for number in range(3_000):
                path.write_text(str(number))
                if number % 10 == 0:
                    (tmp_path / f"{number}.swp").write_text("of no concern")

        await asyncio.to_thread(write)
        await watching.reads("2999")
        took = watching.loop.time() - began
        assert watching.calls - before <= 2 + took / filewatch.SETTLE_S

    watched(path, story)


def test_reading_the_file_is_no_change_of_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("x")

    async def story(watching: Watching) -> None:
        await asyncio.sleep(3 * filewatch.SETTLE_S)  # what came while the watch was set up
        before = watching.calls
        for _ in range(5):
            path.read_text()
            (tmp_path / "other").write_text("y")
        await asyncio.sleep(3 * filewatch.SETTLE_S)
        assert watching.calls == before

    watched(path, story)


def test_where_nothing_can_be_watched_it_is_said_once_and_the_minute_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"

    def full(*_: Any) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr(FileWatch, "_watch", full)

    async def run() -> None:
        watching = Watching(path, FileWatch)
        for text in ("a", "b"):
            path.write_text(text)
            watching.watch.look()
            await watching.reads(text)
            await watching.until(lambda: watching.watch._aiming is None, "it tries for ever")
        watching.watch.close()
        assert [(level, reason) for level, _, reason in watching.log.lines] == [
            ("warning", "[Errno 28] inotify watch limit reached")
        ]

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run())
