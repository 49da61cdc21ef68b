"""`make prove MINUTES=60`: the long proofs, one after another or two at once, counted on from where they stopped.

    make prove MINUTES=60 [ARGS="--only kill,history --json FILE"]

First of each proof its seeded bugs, once for this code: a proof that cannot fail proves nothing. Then the proof itself
for its share of the time, or until its goal is reached. Counts and seeds are kept in .prove/ and add up over runs,
each until one of the sources changes that it is about (scopes.py); `--afresh` drops them. All of it runs from a copy of
what was installed when it began (place.py). It ends with 1 when a promise was broken, a seeded
bug was not caught or a proof did not give account of itself; never because a goal was not reached yet.

Rule: bounded in time, and nothing that was started outlives it, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from proof import lanes, ledger
from proof.ledger import Code, Ledger, Standing
from proof.place import HERE, Busy, Place, alone, private_copy
from proof.table import PROOFS, Proof

#: Proofs at once, where they do not disturb one another.
LANES: Final = min(2, os.cpu_count() or 1)


def verdict(proof: Proof, standing: Standing) -> str:
    """In a word; only `proved` is proved."""
    if standing.result.violations:
        return "VIOLATED"
    if standing.broken:
        return "BROKEN"
    if standing.seeded == "missed":
        return "BLIND"
    if standing.result.skipped:
        return "skipped"
    if standing.seeded == "untried" or standing.result.reached < proof.goal:
        return "not yet"
    return "proved"


def table(proofs: Sequence[Proof], found: Ledger) -> str:
    """Everything for people."""
    seeded = {"untried": "-", "caught": "yes", "missed": "NO"}
    lines = [f"{'proof':12} {'promises':22} {'reached':>12} {'goal':>12} {'unit':18} {'wrong':>5} {'seeded':6} verdict"]
    for proof in proofs:
        standing = found.of(proof.name)
        result = standing.result
        lines.append(
            f"{proof.name:12} {proof.promises:22} {result.reached:>12,} {proof.goal:>12,} {proof.unit:18}"
            f" {result.violations:>5} {seeded[standing.seeded]:6} {verdict(proof, standing)}"
        )
        said = [("skipped: ", result.skipped), ("broken: ", standing.broken), ("seeded: ", standing.seeded_words)]
        lines += [f"    {head}{line}" for head, text in said if text for line in text.splitlines()[-8:]]
        lines += [f"    {word}" for word in result.words]
        if result.figures:
            lines.append("    " + ", ".join(f"{name} {value:,g}" for name, value in sorted(result.figures.items())))
        lines.append(f"    counted on sources {standing.counted_on}")
    return "\n".join(lines)


def account(proofs: Sequence[Proof], found: Ledger) -> dict[str, Any]:
    """The same for programs."""
    rows = []
    for proof in proofs:
        standing = found.of(proof.name)
        rows.append(
            {
                "proof": proof.name,
                "sources": standing.counted_on,
                "promises": proof.promises.split(),
                "reached": standing.result.reached,
                "goal": proof.goal,
                "unit": proof.unit,
                "violations": standing.result.violations,
                "words": standing.result.words,
                "seeded": standing.seeded,
                "skipped": standing.result.skipped,
                "broken": standing.broken,
                "figures": standing.result.figures,
                "seconds": standing.seconds,
                "verdict": verdict(proof, standing),
            }
        )
    return {"proofs": rows}


def failed(proofs: Sequence[Proof], found: Ledger) -> bool:
    """Whether anything is wrong that time does not mend."""
    return any(verdict(proof, found.of(proof.name)) in ("VIOLATED", "BROKEN", "BLIND") for proof in proofs)


def prove(
    proofs: Sequence[Proof], directory: Path, *, minutes: float, codes: Mapping[str, Code], place: Place = HERE
) -> Ledger:
    """Run what is still to be proved for `minutes`; what came of it. Raises KeyboardInterrupt when all is stopped."""
    found = ledger.load(directory, codes=codes)
    found.save(directory)
    open_ = [proof for proof in proofs if verdict(proof, found.of(proof.name)) in ("not yet", "skipped", "BROKEN")]
    work = lanes.Work(found, directory, deadline=time.monotonic() + minutes * 60, place=place)
    over = threading.Event()
    watch = threading.Thread(target=lanes.report, args=(work, over), daemon=True)
    watch.start()
    try:
        together = [proof for proof in open_ if not proof.alone]
        alone = [proof for proof in open_ if proof.alone]
        work.run(together, lanes=LANES, reserved=sum(proof.share for proof in alone))
        work.run(alone, lanes=1)
    finally:
        work.stop()
        over.set()
        watch.join()
        found.save(directory)
    return found


def standing(proofs: Sequence[Proof], directory: Path) -> Ledger:
    """What stands there about the sources in this tree."""
    return ledger.load(directory, codes=ledger.codes(proofs))


def proved(proofs: Sequence[Proof], given: argparse.Namespace) -> Ledger:
    """Run them as the command says, from a copy."""
    with alone(given.state), private_copy(given.state) as place:
        if given.afresh:
            Ledger().save(given.state)
        return prove(proofs, given.state, minutes=given.minutes, codes=ledger.codes(proofs, place.root), place=place)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Run the long proofs of cosession's promises.")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", default="", help="names of proofs, with commas between them")
    parser.add_argument("--list", action="store_true", help="show what stands, run nothing")
    parser.add_argument("--afresh", action="store_true", help="drop what was counted before")
    parser.add_argument("--json", type=Path, help="write everything to this file too")
    parser.add_argument("--state", type=Path, default=ledger.DIRECTORY, help="the directory of the counts")
    given = parser.parse_args(arguments)
    names = [name for name in given.only.split(",") if name]
    unknown = set(names) - {proof.name for proof in PROOFS}
    if unknown:
        parser.error(f"there is no proof {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in PROOFS)}")
    proofs = [proof for proof in PROOFS if not names or proof.name in names]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through every `finally`
    stopped = False
    try:
        found = standing(proofs, given.state) if given.list else proved(proofs, given)
    except Busy as busy:
        print(busy, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        found, stopped = standing(proofs, given.state), True
    print(table(proofs, found))
    if given.json:
        given.json.write_text(json.dumps(account(proofs, found), indent=1) + "\n", encoding="utf-8")
    if stopped:
        print("prove: stopped; the next run goes on from here", file=sys.stderr)
        return 130
    return 1 if failed(proofs, found) else 0


if __name__ == "__main__":
    sys.exit(main())
