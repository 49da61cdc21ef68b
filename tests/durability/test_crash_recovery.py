"""Sessions that are killed under load are recovered whole, by the library and by the command; in short.

The long form is `crash_recovery.py --crashes 200`.
"""

from __future__ import annotations

import contextlib
import sys

import pytest

from durability import crash_recovery
from durability.crash_judge import Taken, World, judge, judge_document
from harness import private_home

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="deaths are judged by /proc here")
#: A daemon that loses a letter and a claim, and does not look whether a checkpoint is what was saved, which it is not.
CARELESS = """
from cosession.errors import CosessionError
from cosessiond.__main__ import main
from cosessiond.checkpoints.keeper import Keeper
from cosessiond.claims.adopting import Adopting
from cosessiond.mail.postroom import PostRoom
from cosessiond.store.engine import Put
from msgspec.structs import replace

inheritance, content, adopt, lost = PostRoom.inheritance, Keeper.content, Adopting.adopt, []


def lose_a_letter(self, *given):
    compares, writes = inheritance(self, *given)
    put = [write for write in writes if isinstance(write, Put)]
    return compares, [write for write in writes if write is not put[-1]]


def lose_a_claim(self, id, session, done):
    lost[:] = lost or [id]
    adopt(self, id, session, done) if id not in lost else done(CosessionError("cannot adopt", code="internal"))


PostRoom.inheritance = lose_a_letter
Keeper.content = lambda self, id: replace(content(self, id), done=("all of it",))
Adopting.adopt = lose_a_claim
raise SystemExit(main())
"""


def crashes(*by_command, command=()):
    """The report of so many crashes."""
    with private_home() as home, contextlib.closing(crash_recovery.Run(home, writers=2, command=command)) as run:
        for each in by_command:
            run.crash(by_command=each)
    return run.report


def test_a_session_killed_under_load_is_recovered_whole_by_library_and_command():
    report = crashes(False, True)
    assert report.wrong == []
    assert (report.crashes, report.recovered) == (2, 2)
    assert (len(report.round_trips_ms), len(report.commands_ms)) == (1, 1)


def test_the_judge_catches_a_daemon_that_loses_a_letter_and_a_claim_and_skips_the_hash():
    report = crashes(False, command=[sys.executable, "-c", CARELESS])
    assert report.recovered == 0
    found = {word.split(": ")[1] for word in report.wrong}
    assert found == {"checkpoint", "claims", "letters"}, report.wrong


WORLD = World(
    "a", "a/1", "h", {"task": "t"}, {"name:x": ("c1", 5), "name:y": ("c2", 6)}, (("l1", "one"), ("l2", "two"))
)
CLAIMS = [
    {"targets": [f"name:{name}"], "state": "held", "adopted_from": id, "token": token}
    for name, id, token in (("x", "c1", 8), ("y", "c2", 9))
]
REPLY = {
    "standing": "VERIFIED",
    "evidence": [],
    "checkpoint": {"id": "a/1", "hash": "h", "task": "t", "extra": {}},
    "claims": CLAIMS,
    "letters": 2,
}
TAKEN = Taken(REPLY, CLAIMS, [{"id": "l1", "text": "one"}, {"id": "l2", "text": "two"}], (0, 0))


@pytest.mark.parametrize(
    ("wrong", "about"),
    [
        (TAKEN._replace(reply=REPLY | {"standing": "RECONSTRUCTED"}), "checkpoint"),
        (TAKEN._replace(reply=REPLY | {"checkpoint": REPLY["checkpoint"] | {"hash": "other"}}), "checkpoint"),
        (TAKEN._replace(held=[CLAIMS[0] | {"token": 5}, CLAIMS[1]]), "claims"),
        (TAKEN._replace(held=[CLAIMS[0], CLAIMS[1] | {"token": 8}]), "claims"),
        (TAKEN._replace(held=[CLAIMS[0], CLAIMS[0]]), "claims"),
        (TAKEN._replace(held=[CLAIMS[0] | {"adopted_from": "c2"}, CLAIMS[1]]), "claims"),
        (TAKEN._replace(left=(1, 0)), "claims"),
        (TAKEN._replace(inbox=TAKEN.inbox[::-1]), "letters"),
        (TAKEN._replace(inbox=[*TAKEN.inbox, TAKEN.inbox[1]]), "letters"),
        (TAKEN._replace(left=(0, 1)), "letters"),
        (TAKEN._replace(reply=REPLY | {"letters": 1}), "letters"),
    ],
)
def test_the_judge_catches_what_is_not_as_it_was(wrong, about):
    assert judge(WORLD, TAKEN) == []
    found = judge(WORLD, wrong)
    assert found
    assert {word.split(": ")[0] for word in found} == {about}


def test_the_judge_catches_a_document_that_leaves_something_out():
    text = "session `a` VERIFIED t\n- name:x: token 8\n- name:y: token 9\nUnread letters: 2."
    assert judge_document(WORLD, TAKEN, text) == []
    for part in ("session `a`", "VERIFIED", "name:y: token 9", "Unread letters: 2."):
        assert judge_document(WORLD, TAKEN, text.replace(part, ""))
