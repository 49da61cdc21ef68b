"""The demo, act by act: what is done, what must hold, and how that is checked.

Rule: a claim is judged by comparing two independent accounts of the same thing (what writers were told, what the watch
delivered, what the store holds), never by asking one side twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from itertools import pairwise
from typing import Any

from cosession import sync
from cosession.cli.demo.crew import Crew, Member
from cosession.cli.demo.home import private_home
from cosession.cli.demo.stage import Stage
from cosession.cli.demo.watching import Watching, missing
from cosession.cli.options import Given
from cosession.cli.progress import Progress
from cosession.errors import TimedOut
from cosession.model import GLOBAL

NAMES = ("otter", "heron", "lynx")
PROJECT = "demo"
UPDATES_EACH = 300
#: Acknowledged writes before the daemon is killed, and after it is back.
WRITES_BEFORE, WRITES_AFTER = 500, 500
WAIT_S = 40.0
POLL_S = 0.01


def play(given: Given) -> int:
    """All acts; the exit code."""
    stage = Stage(silent=given.flag("--json"))
    with private_home() as home, contextlib.ExitStack() as stack:
        stage.tell("AI sessions that work at once on one machine need one shared memory and one referee.")
        stage.tell(f"Here are three, with a daemon of their own in {home}.")
        with Progress(given, "starting a daemon and three sessions"):
            client = stack.enter_context(sync.connect(project=PROJECT, timeout_s=WAIT_S))
            watching = stack.enter_context(contextlib.closing(Watching(PROJECT, stage.change)))
            crew = stack.enter_context(Crew(NAMES)).members
        for member in crew:
            stage.introduce(member.id, member.name)
        _update_together(stage, client, watching, crew)
        _kill_session(stage, client, crew[-1])
        _kill_daemon(stage, client, watching, crew[:-1])
    return stage.finish()


def _update_together(stage: Stage, client: sync.Client, watching: Watching, crew: list[Member]) -> None:
    stage.act("Three sessions update one plan at the same time")
    pids = ", ".join(f"{member.name} (pid {member.pid})" for member in crew)
    stage.tell(f"{pids}: read the plan, count a step, write it back, {UPDATES_EACH} times each.")
    stage.tell("What a watch in this process sees meanwhile:")
    for member in crew:
        member.tell(f"update {UPDATES_EACH}")
    retried = sum(member.hear("updated")["attempts"] - UPDATES_EACH for member in crew)
    entry = client.get("plan")
    assert entry is not None, "every member reported its updates"
    made = UPDATES_EACH * len(crew)
    held = entry.value == {"steps": made, "by": {member.name: UPDATES_EACH for member in crew}}
    stage.prove(
        "no_update_lost",
        "no update is lost",
        f"{made} made by {len(crew)} processes at once, {entry.value['steps']} counted; {retried} met a newer plan and "
        "were done again on it",
        ok=held,
        wrong="" if held else f"the plan says {entry.value}",
        made=made,
        counted=entry.value["steps"],
        retried=retried,
    )
    arrived = watching.wait_for(entry.mod_revision, WAIT_S)
    versions = len(watching.delivered.get("plan", []))
    wrong = [*watching.wrong[:3], *([] if arrived and versions == made else [f"{made} were written"])]
    stage.prove(
        "every_change_seen",
        "every change is seen",
        f"a watch saw {versions} versions of the plan, in order, as they landed",
        ok=not wrong,
        wrong="; ".join(wrong),
        versions=versions,
    )


def _kill_session(stage: Stage, client: sync.Client, victim: Member) -> None:
    stage.act("One session is killed")
    here = client.ping()
    watch = client.watch(
        space="$sessions", project=GLOBAL, start_revision=here.revision + 1, epoch=here.epoch, timeout_s=WAIT_S
    )
    try:
        stage.tell(f"kill -9 {victim.pid}, the process of {victim.name}: it cannot say goodbye.")
        began = time.monotonic()
        victim.kill()
        record, took_ms = _death_of(victim.id, watch, began)
    finally:
        watch.close()
    state, evidence = str(record.get("state", "nothing")), [str(each) for each in record.get("evidence", ())]
    stage.tell(f"{state}: {record.get('reason', '')}")
    for each in evidence:
        stage.tell(f"  {each}")
    stage.prove(
        "death_noticed",
        "a death is noticed",
        f"{victim.name} was reported {state} on a watch {took_ms:.1f} ms after kill -9, with the evidence of "
        f"{len(evidence)} layers",
        ok=state == "crashed" and bool(evidence),
        wrong="" if state == "crashed" else f"the record says {record}",
        milliseconds=round(took_ms, 2),
        state=state,
        reason=str(record.get("reason", "")),
        evidence=evidence,
    )


def _death_of(id: str, watch: sync.Watch, began: float) -> tuple[dict[str, Any], float]:
    """The record of the session's end and the milliseconds until it arrived; an empty record when none came."""
    try:
        for change in watch:
            record = change.value
            if change.key == id and isinstance(record, dict) and record["state"] in ("crashed", "lost", "closed"):
                return record, (time.monotonic() - began) * 1000
    except TimedOut:
        pass
    return {}, (time.monotonic() - began) * 1000


def _kill_daemon(stage: Stage, client: sync.Client, watching: Watching, writers: list[Member]) -> None:
    stage.act("The daemon is killed while the others write")
    names = " and ".join(member.name for member in writers)
    before = client.ping()
    stage.tell(f"{names} write numbered entries as fast as they are acknowledged.")
    for member in writers:
        member.tell("write")
    _wait_for_writes(writers, WRITES_BEFORE)
    killed_s = time.monotonic()
    os.kill(before.pid, signal.SIGKILL)
    count_before = _count(writers)
    stage.tell(
        f"kill -9 {before.pid}, the daemon, after {count_before} acknowledged writes. Nobody restarts it by hand."
    )
    _wait_for_writes(writers, count_before + WRITES_AFTER)
    for member in writers:
        member.tell("hold")
    for member in writers:
        member.hear("held")
    after = client.ping()
    pause_ms = max(_longest_pause_ms(member, killed_s) for member in writers)
    stage.tell(
        f"Started again by the clients themselves, now pid {after.pid}; the writers waited {pause_ms:.0f} ms at most."
    )
    _prove_durable(stage, client, writers, restarted=after.pid != before.pid, pause_ms=pause_ms)
    _prove_no_gap(stage, client, watching, writers)


def _wait_for_writes(writers: list[Member], count: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while _count(writers) < count:
        for member in writers:
            member.check()
        if time.monotonic() > deadline:
            raise TimedOut(f"cannot go on: {count} writes were not acknowledged within {WAIT_S:g} s")
        time.sleep(POLL_S)


def _count(writers: list[Member]) -> int:
    return sum(len(member.acknowledged) for member in writers)


def _longest_pause_ms(member: Member, since_s: float) -> float:
    """The longest time without an acknowledged write that reached past `since_s` (one clock for all processes)."""
    times = [fact["monotonic_s"] for fact in member.acknowledged]
    pauses = [later - earlier for earlier, later in pairwise(times) if later > since_s]
    return 1000 * max(pauses, default=0.0)


def _prove_durable(
    stage: Stage, client: sync.Client, writers: list[Member], *, restarted: bool, pause_ms: float
) -> None:
    """What the writers were told, against what the store holds now."""
    stored = {entry.key: entry for entry in client.range("log/")}
    acknowledged = [fact for member in writers for fact in member.acknowledged]
    lost = [
        fact["key"]
        for fact in acknowledged
        if fact["key"] not in stored
        or (stored[fact["key"]].value, stored[fact["key"]].mod_revision) != (fact["value"], fact["revision"])
    ]
    unknown = sum(len(member.unknown) for member in writers)
    wrong = f"lost: {', '.join(lost[:3])}" if lost else "" if restarted else "the daemon is the same process"
    stage.prove(
        "acknowledged_is_durable",
        "acknowledged is durable",
        f"{len(acknowledged)} acknowledged writes compared one by one after kill -9 of the daemon, {len(lost)} lost",
        ok=not lost and restarted,
        wrong=wrong,
        acknowledged=len(acknowledged),
        lost=len(lost),
        unknown=unknown,
        restarted=restarted,
        longest_pause_ms=round(pause_ms, 1),
    )


def _prove_no_gap(stage: Stage, client: sync.Client, watching: Watching, writers: list[Member]) -> None:
    """What the watch delivered, against what the writers were told, and its copy against the store."""
    acknowledged = [fact for member in writers for fact in member.acknowledged]
    entries = {entry.key: entry for entry in client.range()}
    arrived = watching.wait_for(max(entry.mod_revision for entry in entries.values()), WAIT_S)
    absent = missing(acknowledged, watching.delivered)
    same = {key: (c.value, c.mod_revision, c.version) for key, c in list(watching.copy.items())} == {
        key: (entry.value, entry.mod_revision, entry.version) for key, entry in entries.items()
    }
    wrong = [*watching.wrong[:3], *(f"not delivered once: {key}" for key in absent[:3])]
    if not arrived or not same:
        wrong.append("the copy made from the changes is not what the store holds")
    stage.prove(
        "watch_without_gap",
        "a watch has no gap",
        f"{watching.changes} changes in order across the restart, {len(absent)} missing or repeated; a copy made of "
        f"them {'equals' if same else 'differs from'} the store",
        ok=not wrong,
        wrong="; ".join(wrong),
        changes=watching.changes,
        missing=len(absent),
        entries=len(entries),
    )
