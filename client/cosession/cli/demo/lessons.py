"""The tour's lessons: what is explained, the command that is run, what it means, and what its output must hold.

Commands are run by `sh` as they stand here, in a directory of the tour's own; `cosession` and `python` are on the path.

Rule: data only, and no step depends on the time that another took.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One command. `wants` must be in what it prints; with `again` it is run until that is so."""

    text: str
    command: str
    means: str = ""
    wants: tuple[str, ...] = ()
    code: int = 0
    again: bool = False


class Lesson(NamedTuple):
    """Steps under one title."""

    title: str
    steps: tuple[Step, ...]


LESSONS = (
    Lesson(
        "Write and read",
        (
            Step(
                "Sessions share entries: a key and a JSON value. What put prints is the revision, a number that grows "
                "by one with every write to the store, whoever makes it.",
                """cosession put plan/next '{"step": 1}'""",
                wants=("1",),
            ),
            Step(
                "Every process of yours reads it, at once and whole.",
                "cosession get plan/next",
                "The write was on the disk before put returned: no crash takes it back.",
                wants=('{"step": 1}',),
            ),
        ),
    ),
    Lesson(
        "Write only if nobody else did",
        (
            Step(
                "A second process watches what happens under plan/ from here on, into a file. We look at it later.",
                "cosession watch plan/ > watch.log &",
            ),
            Step("It begins with what is there.", "cat watch.log", wants=('{"step": 1}',), again=True),
            Step(
                "Two sessions have read revision 1, and both want to write. The first says what it has read:",
                """cosession put plan/next '{"step": 2}' --expect 1""",
                wants=("2",),
            ),
            Step(
                "The second is too late. It says the same, and is told so:",
                """cosession put plan/next '{"step": 9}' --expect 1""",
                "A conflict, exit code 3: nothing was overwritten. Read it again, and decide anew.",
                wants=("cannot write", "at revision 2"),
                code=3,
            ),
        ),
    ),
    Lesson(
        "Change a part, or several things at once",
        (
            Step(
                "Often two sessions change different parts. merge takes a JSON merge patch, which the daemon applies "
                "to whatever stands there, so there is nothing to conflict about.",
                """cosession merge plan/next '{"owner": "otter"}'""",
                wants=('{"step": 2, "owner": "otter"}',),
            ),
            Step(
                "A transaction compares and writes several entries, all or nothing: here only if nothing is done yet.",
                """cosession txn '{"compares": [{"kind": "entry", "key": "plan/done", "value": 0}],
  "then": [{"op": "put", "key": "plan/done", "value": ["parser"]},
           {"op": "merge", "key": "plan/next", "patch": {"step": 3}}]}'""",
                wants=("2 written at revision 4",),
            ),
            Step(
                "The second process has seen each of these changes as it landed.",
                "cat watch.log",
                "A watch misses nothing and repeats nothing, also across crashes of the daemon, as we shall see.",
                wants=('{"step": 2}', '{"step": 2, "owner": "otter"}', '["parser"]', '{"step": 3, "owner": "otter"}'),
                again=True,
            ),
        ),
    ),
    Lesson(
        "What was",
        (
            Step(
                "The last 50 versions of each entry are kept.",
                "cosession history plan/next",
                "Revision, what happened, when, which session, by which operation, the value.",
                wants=("txn", "merge", "put"),
            ),
            Step(
                "An entry can be read as it was at a revision.",
                "cosession get plan/next --at 2",
                wants=('{"step": 2}',),
            ),
            Step(
                "What is different since then, by JSON pointers?",
                "cosession diff plan/next --from 2",
                "A line for each change: + added, - removed, ~ replaced.",
                wants=("/owner", "/step"),
            ),
            Step(
                "And who wrote which part of it?",
                "cosession blame plan/next",
                "For each part the write that made it what it is. Nobody was a session here, so no name stands there; "
                "agents are, and have one.",
                wants=("/owner", "merge", "/step", "txn"),
            ),
            Step(
                "What went wrong can be taken back: one more version, and nothing is forgotten.",
                "cosession revert plan/next --to 3",
                wants=("plan/next",),
            ),
        ),
    ),
    Lesson(
        "Three at once",
        (
            Step(
                "update reads an entry, passes it through a command, and writes the result only if nobody wrote "
                "meanwhile; else it does it again. Three processes count to 12 together:",
                """echo 'import json, sys; print((json.load(sys.stdin) or 0) + 1)' > add_one.py
for i in 1 2 3; do
    for j in 1 2 3 4; do
        cosession update count -- python add_one.py
    done > /dev/null &
done
wait
cosession get count""",
                "No update was lost, though they were at it at the same time. Where it is only to add a number, or to "
                "append to a list, there is less to it:",
                wants=("12",),
            ),
            Step(
                "The daemon does these itself, one after the other, so that they never meet.",
                "cosession add count 30; cosession append plan/done '\"tests\"'; cosession get plan/done",
                wants=("42", '["parser", "tests"]'),
            ),
        ),
    ),
    Lesson(
        "A session dies",
        (
            Step(
                "A session is one conversation of an agent: a program registers it, and what it holds as ephemeral "
                "ends with it. This one holds an entry, and then hangs about.",
                """python -c 'import cosession, time
client = cosession.connect()
session = client.session(agent="tour", name="heron")
client.put("plan/heron", "here", ephemeral=True)
time.sleep(600)' &
echo $! > heron.pid""",
            ),
            Step("Who is at work?", "cosession sessions", wants=("heron", "active"), again=True),
            Step("Now its process is killed, without a chance to say goodbye.", "kill -9 $(cat heron.pid)"),
            Step(
                "We ask what the daemon makes of it.",
                "cosession explain session heron",
                "The kernel told the daemon at once: no heartbeat had to run out. Every signal is listed with what it "
                "said and what it cost, then the verdict, and the rule that it follows from.",
                wants=("verdict  dead, crashed", "process-over"),
                again=True,
            ),
            Step(
                "And what it held has ended with it:",
                "cosession get plan/heron",
                wants=("there is no such entry",),
                code=1,
                again=True,
            ),
            Step(
                "The daemon keeps a record of what it judged, refused and was told to do.",
                "cosession audit --kind verdict",
                "Who died, when, and by which signs; also long after the session is forgotten.",
                wants=("crashed",),
            ),
        ),
    ),
    Lesson(
        "The daemon dies",
        (
            Step(
                "The same for the daemon itself, in the middle of everything.",
                """pid=$(cosession status --json | python -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
kill -9 $pid""",
            ),
            Step(
                "Nobody restarts it by hand: the next client does, within a moment.",
                """cosession merge plan/next '{"back": true}'; cosession get plan/next""",
                "Everything acknowledged is there.",
                wants=('{"step": 2, "owner": "otter", "back": true}',),
            ),
            Step(
                "And the watch of the second process?",
                "tail -n 1 watch.log",
                "It found the new daemon by itself and went on where it was: no gap.",
                wants=('"back": true',),
                again=True,
            ),
        ),
    ),
)
