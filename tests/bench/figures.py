"""The figures of the main job: each a function that starts what it needs, measures, and returns rows.

Everything a user would do is done with the client library, in processes of their own, against a real daemon in a
private home. Clocks of different processes are compared by CLOCK_MONOTONIC, which they share.

Rule: a figure that finds a promise broken (a lost update, a gap) raises PromiseBroken; a goal that is missed is a row.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct, to_builtins

from bench import cli_cost, facts, looking
from bench.children import Children, run_all
from cosession.messages.store import Get
from durability import killloop
from durability.link import LinkLost, open_when_ready
from durability.loop import ScriptedDaemon, preload
from harness import private_home

UPDATERS: Final = 8
SESSIONS_AT_ONCE: Final = 20
WATCHERS: Final = (1, 4, 16)
CLIENTS: Final = (1, 4, 16, 64)
HEARTBEAT_S: Final = 20.0


class PromiseBroken(Exception):
    """The run shows that a promise does not hold."""


class Scale(Struct, frozen=True, kw_only=True):
    """How much of everything; `QUICK` is for trying the benchmark, its figures are not to be quoted."""

    increments: int = 1_000
    crashes: int = 200
    kills: int = 200
    entries: int = 100_000
    writes: int = 600
    pace_s: float = 0.004
    idle_s: float = 60.0
    rate_s: float = 2.0
    starts: int = 9
    commands: int = 15


FULL: Final = Scale()
QUICK: Final = Scale(
    increments=50, crashes=20, kills=6, entries=10_000, writes=100, idle_s=5.0, rate_s=0.4, starts=3, commands=3
)


class Row(Struct, frozen=True, kw_only=True):
    """One measured number. `goal` in words; `met` None where there is none."""

    figure: str
    name: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


Figure = Callable[[Scale], list[Row]]


@contextmanager
def served(command: Sequence[str] = ()) -> Iterator[tuple[ScriptedDaemon, Children]]:
    """A daemon with an empty store (started by `command`, if given), and children that find it."""
    with private_home() as home:
        daemon = ScriptedDaemon(home, command=command)
        try:
            daemon.start_timed()
            with Children(daemon.env) as children:
                yield daemon, children
        finally:
            daemon.close()


def contention(scale: Scale) -> list[Row]:
    """8 processes increment one entry with `update`, a ninth watches: nothing lost, every value seen in order."""
    total = UPDATERS * scale.increments
    with served() as (daemon, children):
        (watcher,) = children.start_all("watch_values", 1, key="counter", count=total)
        updaters = children.start_all("update", UPDATERS, key="counter", count=scale.increments)
        watcher.go()
        began = time.monotonic()
        found = run_all(updaters)
        seconds = time.monotonic() - began
        seen = watcher.result()
        with open_when_ready(daemon.socket) as link:
            entry = link.call(Get(key="counter")).entry
    result = entry.value if entry else 0
    if result != total:
        raise PromiseBroken(f"{total} updates were acknowledged, the entry says {result}: {total - result} were lost")
    if seen["values"] != list(range(1, total + 1)) or not seen["ascending"]:
        raise PromiseBroken(f"the watcher saw {len(seen['values'])} changes, not {total} in order")
    attempts = sum(each["attempts"] for each in found)
    slowest, fastest = (choose(each["seconds"] for each in found) for choose in (max, min))

    def row(name: str, value: float, unit: str = "") -> Row:
        return Row(figure="a", name=f"{UPDATERS} processes update one entry: {name}", value=value, unit=unit)

    return [
        Row(
            figure="a",
            name=f"{UPDATERS} x {scale.increments} updates: result",
            value=result,
            unit="",
            goal=f"{total}",
            met=True,
        ),
        Row(
            figure="a",
            name="changes the watcher saw, in order",
            value=len(seen["values"]),
            unit="",
            goal=f"{total}",
            met=True,
        ),
        row("attempts", attempts),
        row("conflicts", attempts - total),
        row("update() gave up with Conflict", sum(each["gave_up"] for each in found)),
        row("rate", round(total / seconds), "/s"),
        row("slowest process / fastest", round(slowest / fastest, 2)),
    ]


def turns(scale: Scale) -> list[Row]:
    """Processes that all update one entry without a pause: nothing lost, few retries, and to each its share."""
    rows: list[Row] = []
    for count in CLIENTS:
        with served() as (daemon, children):
            found = run_all(children.start_all("update_until", count, key="counter", total=2 * scale.increments))
            with open_when_ready(daemon.socket) as link:
                entry = link.call(Get(key="counter")).entry
        done = [each["done"] for each in found]
        result = entry.value if entry else 0
        if result != sum(done):
            raise PromiseBroken(f"{sum(done)} updates were acknowledged, the entry says {result}")
        attempts = sum(each["attempts"] for each in found)
        conflicts = round(100 * (attempts - result) / result, 1)
        gave_up = sum(each["gave_up"] for each in found)
        name = f"updates of one entry x{count}"
        rows += [
            Row(
                figure="u",
                name=f"{name}: rate",
                value=round(result / max(each["seconds"] for each in found)),
                unit="/s",
            ),
            Row(figure="u", name=f"{name}: conflicts", value=conflicts, unit="%", goal="< 10 %", met=conflicts < 10),
            Row(figure="u", name=f"{name}: gave up with Conflict", value=gave_up, unit="", goal="0", met=not gave_up),
        ]
        if count > 1:
            spread = round(max(done) / max(1, min(done)), 2)
            rows.append(
                Row(figure="u", name=f"{name}: most / least", value=spread, unit="", goal="< 1.5", met=spread < 1.5)
            )
    return rows


def crashes(scale: Scale) -> list[Row]:
    """SIGKILL of a session's process to the transition on a watch of `$sessions` in another process."""
    killed_ns: dict[str, int] = {}
    with served() as (daemon, children):
        (watcher,) = children.start_all("watch_crashes", 1, count=scale.crashes)
        watcher.go()
        chance = random.Random(1)
        while len(killed_ns) < scale.crashes:
            count = min(SESSIONS_AT_ONCE, scale.crashes - len(killed_ns))
            with Children(daemon.env) as batch:
                sessions = batch.start_all("session", count, heartbeat_s=HEARTBEAT_S)
                ids = run_all(sessions)
                time.sleep(0.3)  # the start of so many processes is not what is measured
                for child, id in zip(sessions, ids, strict=True):
                    time.sleep(chance.uniform(0.02, 0.06))
                    killed_ns[id] = time.monotonic_ns()
                    os.kill(child.pid, signal.SIGKILL)
                time.sleep(0.2)
        seen = watcher.result()
    if {id for id, _, _ in seen} != set(killed_ns):
        raise PromiseBroken(f"{len(killed_ns)} sessions were killed, the watch showed {len(seen)} crashes")
    took = [(at_ns - killed_ns[id]) / 1e6 for id, at_ns, _ in seen]
    measured = facts.spread(took, 2)
    name = f"SIGKILL of a session to its transition on a watch, {len(took)} times:"
    goals = {"p99": ("< 20 ms", measured["p99"] < 20)}
    return [
        Row(figure="b", name=f"{name} {which}", value=value, unit="ms", goal=goal, met=met)
        for which, value in measured.items()
        for goal, met in [goals.get(which, ("", None))]
    ]


def kills(scale: Scale) -> list[Row]:
    """SIGKILL of the daemon under load on one state directory, judged by the oracle of the kill loop."""
    report = killloop.run(killloop.Plan(cycles=scale.kills, entries=scale.entries, time_s_max=1200.0))
    if report.violations:
        raise PromiseBroken("the kill loop found: " + "; ".join(report.words))
    names = to_builtins(report)
    zero = {"lost", "watch_gaps", "watch_duplicates"}
    rows = [
        Row(
            figure="c",
            name=f"SIGKILL of the daemon under load: {name}",
            value=names[name],
            unit="",
            goal="0" if name in zero else "",
            met=names[name] == 0 if name in zero else None,
        )
        for name in (
            "cycles",
            "killed_early",
            "acknowledged",
            "repeated_committed",
            "repeated_anew",
            "revisions",
            "lost",
            "watch_gaps",
            "watch_duplicates",
        )
    ]
    ready = f"seconds to ready with {scale.entries:,} entries of 200 B, under load"
    return [
        *rows,
        Row(figure="c", name=f"{ready}: p50", value=report.ready_p50_s, unit="s"),
        Row(
            figure="c",
            name=f"{ready}: max",
            value=report.ready_max_s,
            unit="s",
            goal="< 1 s",
            met=report.ready_max_s < 1,
        ),
    ]


def propagation(scale: Scale) -> list[Row]:
    """From before a durable put to the change in the hands of a watcher in another process; the floors beside it."""
    rows: list[Row] = []

    def add(name: str, values: list[float], goals: dict[str, float] | None = None) -> None:
        for which, value in facts.spread(values).items():
            limit = (goals or {}).get(which)
            goal = f"< {limit:g} us" if limit else ""
            rows.append(
                Row(
                    figure="d",
                    name=f"{name}: {which}",
                    value=value,
                    unit="us",
                    goal=goal,
                    met=value < limit if limit else None,
                )
            )

    with served() as (daemon, _):
        add("floor: one-way push on a raw Unix socket, 256 B", facts.push_us(daemon.home, scale.writes))
        add("floor: fdatasync of 256 B in a zero-filled file", facts.fdatasync_us(daemon.home, scale.writes))
        for count in WATCHERS:
            prefix = f"at-{count}/"
            with Children(daemon.env) as here:
                watchers = here.start_all("watch_delays", count, prefix=prefix, count=scale.writes)
                (writer,) = here.start_all("write_paced", 1, prefix=prefix, count=scale.writes, pace_s=scale.pace_s)
                for watcher in watchers:
                    watcher.go()
                (puts,) = run_all([writer])
                delays = [delay for watcher in watchers for delay in watcher.result()]
            name = f"durable put to {count} watching process{'es' if count > 1 else ''}"
            add(name, delays, {"p99": 1000.0} if count == 4 else None)
            add(f"  the put itself, with {count} watching", puts)
    return rows


def idle(scale: Scale) -> list[Row]:
    """What a daemon costs that nobody uses: wakeups of all its threads, and memory."""
    rows: list[Row] = []

    def look(pid: int, name: str, goal_per_minute: float) -> None:
        before = _switches(pid)
        time.sleep(scale.idle_s)
        per_minute = round((_switches(pid) - before) * 60 / scale.idle_s, 1)
        rows.append(
            Row(
                figure="e",
                name=f"idle daemon, {name}: wakeups",
                value=per_minute,
                unit="/min",
                goal=f"<= {goal_per_minute:g}",
                met=per_minute <= goal_per_minute,
            )
        )
        memory = _resident_mb(pid)
        rows.append(
            Row(
                figure="e",
                name=f"idle daemon, {name}: resident",
                value=memory,
                unit="MB",
                goal="<= 35",
                met=memory <= 35,
            )
        )

    with served() as (daemon, children):
        time.sleep(1.0)
        # 0 a second: what is left is the look at its own lock and socket, once a minute.
        look(daemon.pid, "empty store", 2)
        sessions = children.start_all("session", SESSIONS_AT_ONCE, heartbeat_s=HEARTBEAT_S)
        run_all(sessions)
        time.sleep(1.0)
        look(daemon.pid, f"{SESSIONS_AT_ONCE} library sessions", 60)
    return rows


def rates(scale: Scale) -> list[Row]:
    """Gets and durable compare-and-swaps through the client library, each client a process with an entry of its own."""
    rows: list[Row] = []

    def add(what: str, role: str, count: int) -> None:
        with served() as (_, children):
            found = run_all(children.start_all(role, count, seconds=scale.rate_s))
        took = [each for one in found for each in one["took_us"]]
        rate = sum(len(one["took_us"]) / one["seconds"] for one in found)
        counts = [len(one["took_us"]) for one in found]
        name = f"{what} x{count}"
        measured = facts.spread(took)
        rows.append(Row(figure="f", name=f"{name}: rate", value=round(rate), unit="/s"))
        rows.extend(
            Row(figure="f", name=f"{name}: {which}", value=measured[which], unit="us") for which in ("p50", "p99")
        )
        if count > 1:
            spread = round(max(counts) / max(1, min(counts)), 2)
            rows.append(Row(figure="f", name=f"{name}: most / least per client", value=spread, unit=""))

    for count in (1, 16):
        add("get", "rate_get", count)
    for count in CLIENTS:
        add("durable compare-and-swap", "rate_cas", count)
    return rows


def starts(scale: Scale) -> list[Row]:
    """Seconds from the fork of the daemon to its first answer, after SIGKILL and after an orderly stop."""
    rows: list[Row] = []

    def add(name: str, took: list[float], goal: str = "") -> None:
        rows.append(Row(figure="g", name=f"start, {name}: p50", value=round(statistics.median(took), 3), unit="s"))
        met = max(took) < 1 if goal else None
        rows.append(
            Row(figure="g", name=f"start, {name}: max", value=round(max(took), 3), unit="s", goal=goal, met=met)
        )

    for entries in (0, scale.entries):
        with private_home() as home:
            daemon = ScriptedDaemon(home)
            try:
                daemon.start_timed()
                if entries:
                    preload(daemon.socket, entries)
                kind = f"{entries:,} entries of 200 B" if entries else "empty store"
                add(f"{kind}, after SIGKILL", [_again(daemon, kill=True) for _ in range(scale.starts)], "< 1 s")
                add(f"{kind}, after an orderly stop", [_again(daemon, kill=False) for _ in range(scale.starts)])
                rows.append(
                    Row(figure="g", name=f"{kind}: resident after start", value=_resident_mb(daemon.pid), unit="MB")
                )
            finally:
                daemon.close()
    return rows


def commands(scale: Scale) -> list[Row]:
    """What a command costs, round trip included, as a multiple of starting Python."""
    took = cli_cost.measure(scale.commands)
    base, _ = cli_cost.medians(took.pop(""))
    rows = [Row(figure="h", name="python -c pass", value=round(base, 1), unit="ms")]
    for words, times in took.items():
        limit = cli_cost.GOAL_FAST if words in cli_cost.FAST else cli_cost.GOAL_OTHER
        ratio = round(cli_cost.medians(times)[0] / base, 2)
        name = f"cosession {words}"
        rows.append(Row(figure="h", name=name, value=ratio, unit="x", goal=f"<= {limit:g}", met=ratio <= limit))
    return rows


def looked_at(scale: Scale) -> list[Row]:
    """The rate of 16 clients while somebody looks into the daemon, as a part of the rate while nobody does."""
    rows: list[Row] = []
    for what, role in (("get", "rate_get"), ("durable compare-and-swap", "rate_cas")):
        with served() as (daemon, children):
            found = looking.rates(daemon, children, role, scale.rate_s)
        alone = found.pop("nobody")
        name = f"{what} x{looking.CLIENTS} beside"
        rows.append(Row(figure="l", name=f"{name} nobody: rate", value=round(alone), unit="/s"))
        rows += [
            Row(figure="l", name=f"{name} {who}", value=round(rate / alone, 2), unit="x") for who, rate in found.items()
        ]
    return rows


def _again(daemon: ScriptedDaemon, *, kill: bool) -> float:
    if kill:
        daemon.kill()
    else:
        daemon.stop()
    return daemon.start_timed()[0]


def _switches(pid: int) -> int:
    """Voluntary context switches of all threads: how often any of them went to sleep, so was woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def _resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return round(int(line.split()[1]) / 1024, 1)
    raise LinkLost(f"process {pid} says nothing of its memory")


#: By the letter that --only takes. What is repeated in every round, and what takes its many samples in one go.
EACH_ROUND: Final[dict[str, Figure]] = {"a": contention, "d": propagation, "f": rates, "l": looked_at, "u": turns}
ONCE: Final[dict[str, Figure]] = {"b": crashes, "e": idle, "g": starts, "h": commands, "c": kills}
