"""The frame of the long proofs, with small proofs of its own: what it counts, what it calls proved, and how it ends."""

from __future__ import annotations

import signal
import textwrap
import time

import psutil
import pytest

from harness import POLL_S
from process import prove_acts
from proof import lanes, ledger, run
from proof.ledger import Code, Ledger, Standing
from proof.table import PROOFS, Proof
from proof.tally import WORDS_MAX, Result, Tally, counting, parser
from source_tree import ROOT

COUNTING = """
    import sys
    sys.path.insert(0, {tests!r})
    from proof.tally import counting, parser
    given = parser("a proof").parse_args()
    with counting(given) as tally:
        {body}
        sys.exit(tally.end())
"""
TEN = "tally.begun(given.seed); tally.count(10); tally.figure('seen_max', given.seed)"
SEEDED = "def test_seeded(): assert {}\n"


@pytest.fixture
def proof(tmp_path):
    def make(body=TEN, *, goal=20, seeded="True", alone=False, name="small"):
        script = tmp_path / f"{name}.py"
        script.write_text(textwrap.dedent(COUNTING).format(tests=str(ROOT / "tests"), body=body))
        test = tmp_path / f"test_{name}.py"
        test.write_text(seeded if "\n" in seeded else SEEDED.format(seeded))
        # An absolute path, so that it is not looked for under tests/.
        return Proof(name, "P1", "for the test", (str(script),), goal, "steps", (str(test),), alone=alone)

    return make


def proved(tmp_path, *proofs, code="1", seeded_code="s", minutes=1.0, shown=True):
    """`shown`: that the seeded bugs are caught was shown before, which saves a pytest for each proof."""
    codes = {each.name: Code(code, seeded_code) for each in proofs}
    if shown:
        before = ledger.load(tmp_path / "state", codes=codes)
        for each in proofs:
            before.of(each.name).seeded = "caught"
        before.save(tmp_path / "state")
    return run.prove(proofs, tmp_path / "state", minutes=minutes, codes=codes)


def test_counts_and_seeds_add_up_until_the_goal_is_reached_and_no_longer(tmp_path, proof):
    small = proof()
    assert proved(tmp_path, small, shown=False, minutes=0.0).of("small").seeded == "untried", "no time, no start"
    assert proved(tmp_path, small, shown=False, minutes=0.04).of("small").seeded == "caught"
    for reached, said in ((10, "not yet"), (20, "proved"), (20, "proved")):
        found = proved(tmp_path, small)
        assert found.of("small").result.reached == reached
        assert run.verdict(small, found.of("small")) == said
    assert found.of("small").runs == 2
    assert found.of("small").result.figures == {"seen_max": 2}
    assert not run.failed([small], found)
    assert "20           20 steps" in run.table([small], found)
    assert run.account([small], found)["proofs"][0]["verdict"] == "proved"


def test_what_was_counted_is_dropped_when_the_code_changes(tmp_path, proof):
    proved(tmp_path, proof())
    assert proved(tmp_path, proof(), code="2").of("small").result.reached == 10


def test_a_change_of_one_proof_leaves_the_counts_of_the_others_and_a_change_of_its_seeded_bugs_its_own(tmp_path, proof):
    proved(tmp_path, proof(name="first"), proof(name="second"))
    codes = {"first": Code("2", "s"), "second": Code("1", "other")}
    found = ledger.load(tmp_path / "state", codes=codes)
    assert [found.of(name).result.reached for name in codes] == [0, 10]
    assert [found.of(name).seeded for name in codes] == ["untried", "untried"]
    assert "counted on sources 2" in run.table([proof(name="first")], found)


def test_a_violation_is_told_and_stays_until_the_code_changes(tmp_path, proof):
    wrong = proof("tally.count(3); tally.violation('it was lost')")
    for _ in range(2):
        found = proved(tmp_path, wrong)
        assert run.verdict(wrong, found.of("small")) == "VIOLATED"
        assert run.failed([wrong], found)
        assert "it was lost" in run.table([wrong], found)
    assert found.of("small").runs == 1
    changed = ledger.load(tmp_path / "state", codes={"small": Code("2", "s")}).of("small")
    assert (changed.result, changed.seeded) == (Result(), "untried")


@pytest.mark.parametrize("seeded", ["False", "import pytest\ndef test_seeded(): pytest.skip('not here')\n"])
def test_a_proof_whose_seeded_bug_is_not_shown_to_be_caught_proves_nothing(tmp_path, proof, seeded):
    blind = proof("tally.count(20)", seeded=seeded)
    found = proved(tmp_path, blind, shown=False)
    assert run.verdict(blind, found.of("small")) == "BLIND"
    assert run.failed([blind], found)


def test_a_skipped_proof_counts_as_not_proved(tmp_path, proof):
    absent = proof("tally.skip('no strace here')")
    found = proved(tmp_path, absent)
    assert run.verdict(absent, found.of("small")) == "skipped"
    assert "no strace here" in run.table([absent], found)
    assert not run.failed([absent], found)


@pytest.mark.parametrize("body", ["tally.count(20); raise SystemExit(3)", "import os; os._exit(0)"])
def test_a_proof_that_gives_no_account_of_itself_is_broken(tmp_path, proof, body):
    broken = proof(body)
    found = proved(tmp_path, broken)
    assert run.verdict(broken, found.of("small")) == "BROKEN"
    assert run.failed([broken], found)


def test_what_a_proof_leaves_running_is_ended_and_told(tmp_path, proof):
    body = "import subprocess; subprocess.Popen(['sleep', '77'], start_new_session=True); tally.count(20)"
    leaving = proof(body)
    found = proved(tmp_path, leaving)
    assert run.verdict(leaving, found.of("small")) == "BROKEN"
    assert "sleep 77" in found.of("small").broken


def test_stopped_it_ends_everybody_it_has_started_and_keeps_what_was_counted(tmp_path, proof, monkeypatch):
    body = "import subprocess, time; tally.count(4); subprocess.Popen(['sleep', '78'], start_new_session=True)"
    endless = proof(f"{body}; tally._save(now=True); time.sleep(600)")
    state = tmp_path / "state"

    def interrupted(*_):
        while not (state / "small.json").exists() or b'"reached":4' not in (state / "small.json").read_bytes():
            time.sleep(POLL_S)
        raise KeyboardInterrupt

    monkeypatch.setattr(run.lanes.threading.Thread, "join", interrupted_in_main(interrupted))
    with pytest.raises(KeyboardInterrupt):
        proved(tmp_path, endless)
    monkeypatch.undo()
    assert ledger.load(state, codes={"small": Code("1", "s")}).of("small").result.reached == 4
    assert not [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", "78"]]


def interrupted_in_main(interrupted):
    """The first time that somebody waits for a lane, Ctrl-C is pressed; after that, waiting is waiting again."""
    join = run.lanes.threading.Thread.join
    pressed = []

    def joined(thread, timeout=None):
        if not pressed:
            pressed.append(thread)
            interrupted()
        return join(thread, timeout)

    return joined


def test_time_is_shared_by_those_that_wait_and_what_is_alone_runs_alone(tmp_path, proof):
    body = "open({0!r}, 'a').write('%s %.3f\\n' % (given.json.stem, given.minutes)); tally.count(1)"
    body = body.format(str(tmp_path / "order"))
    proofs = [proof(body, name="first"), proof(body, name="second"), proof(body, name="last", alone=True)]
    proved(tmp_path, *proofs, minutes=3.0)
    lines = [line.split() for line in (tmp_path / "order").read_text().splitlines()]
    assert {name for name, _ in lines[:2]} == {"first", "second"}
    assert lines[2][0] == "last"
    assert float(lines[2][1]) > 2.0 > float(lines[0][1])


def test_what_a_tally_keeps_is_bounded_and_written_as_it_grows(tmp_path):
    given = parser("").parse_args([f"--json={tmp_path / 'f.json'}", "--count=5", "--seed=9"])
    with counting(given) as tally:
        tally.count(3)
        assert (tally.left, tally.over) == (2, False)
        for number in range(2 * WORDS_MAX):
            tally.violation("x" * 10_000 + str(number))
        assert tally.over
        assert (tmp_path / "f.json").stat().st_size < 20_000
    told = run.lanes.told(tmp_path / "f.json")
    assert told is not None
    assert (told.reached, told.violations, len(told.words), told.next_seed) == (3, 2 * WORDS_MAX, WORDS_MAX, 10)
    assert Tally(parser("").parse_args(["--minutes=0"])).over


def test_ledger_is_bounded_too():
    standing = Standing()
    for seed in range(1, 9):
        standing.add(
            Result(words=["w"] * WORDS_MAX, next_seed=seed, figures={"a_max": -seed, "b": seed, "c_sum": 2}), 1.0
        )
    assert len(standing.result.words) == WORDS_MAX
    assert standing.result.figures == {"a_max": -1, "b": 8, "c_sum": 16}
    assert ledger.load(ROOT / "nowhere", codes={}) == Ledger()


@pytest.mark.parametrize("proof", PROOFS, ids=lambda each: each.name)
def test_every_proof_is_there_with_the_tests_of_its_seeded_bugs(proof):
    assert (ROOT / "tests" / proof.command[0]).exists()
    assert proof.goal > 0
    assert proof.seeded_files
    assert all((ROOT / "tests" / each).exists() for each in proof.seeded_files)


def test_command_lists_what_stands_and_refuses_what_is_not_there(tmp_path, capsys):
    assert run.main(["--list", "--only=decoder,damage", f"--state={tmp_path}", f"--json={tmp_path / 'all.json'}"]) == 0
    out = capsys.readouterr().out
    assert "500,000 inputs" in out
    assert "2,000 damages" in out
    assert "kills" not in out
    with pytest.raises(SystemExit):
        run.main(["--only", "nothing"])
    assert [each.name for each in tmp_path.iterdir()] == ["all.json"]


def test_the_proof_of_acts_goes_on_behind_what_was_judged_until_it_has_had_all(tmp_path, monkeypatch):
    tried = []
    found = [(str(number), lambda number=number: (tried.append(number) is None, [])) for number in range(7)]
    monkeypatch.setattr(prove_acts, "trials", lambda: list(found))
    monkeypatch.setattr(prove_acts.killing, "missing", str)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    seed, file = 1, tmp_path / "acts.json"
    for _ in range(5):  # the last run begins anew, in another order
        assert prove_acts.main(["--count=3", f"--seed={seed}", f"--json={file}"]) == 0
        seed = lanes.told(file).next_seed
    assert sorted(tried[:7]) == sorted(tried[7:14]) == list(range(7))
    assert tried[:7] != tried[7:14]
    assert seed == 16
