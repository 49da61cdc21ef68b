"""What is proved so far, over several runs: a small file outside what git keeps, dropped when the code has changed.

Rule: counts are of exactly the code that stands here now. They add up; a violation stays until the code changes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal

from msgspec import DecodeError, Struct, field, json

from proof.tally import WORDS_MAX, Result, measured
from source_tree import ROOT

DIRECTORY: Final = ROOT / ".prove"
BYTES_MAX: Final = 4 * 1024 * 1024

#: Of the seeded bugs of a proof: not tried yet, each caught, or one that was not.
Seeded = Literal["untried", "caught", "missed"]


class Standing(Struct, kw_only=True):
    """One proof over all runs. `broken`: why its last run ended without an account of itself."""

    result: Result = field(default_factory=Result)
    seeded: Seeded = "untried"
    seeded_words: str = ""
    broken: str = ""
    seconds: float = 0.0
    runs: int = 0

    def add(self, run: Result, seconds: float) -> None:
        """One more run."""
        sum_ = self.result
        figures = dict(sum_.figures)
        for name, value in run.figures.items():
            measured(figures, name, value)
        self.result = Result(
            reached=sum_.reached + run.reached,
            violations=sum_.violations + run.violations,
            words=[*sum_.words, *run.words][:WORDS_MAX],
            skipped=run.skipped,
            next_seed=max(sum_.next_seed, run.next_seed),
            figures=figures,
        )
        self.seconds = round(self.seconds + seconds, 1)
        self.runs += 1


class Ledger(Struct, kw_only=True):
    """All of them, and the code that they are about."""

    code: str
    proofs: dict[str, Standing] = {}

    def of(self, name: str) -> Standing:
        """The standing of one proof, from nothing if it has none."""
        return self.proofs.setdefault(name, Standing())

    def save(self, directory: Path = DIRECTORY) -> None:
        """Write it, whole or not at all."""
        directory.mkdir(exist_ok=True)
        temporary = directory / "ledger.partial"
        temporary.write_bytes(json.format(json.encode(self)) + b"\n")
        temporary.replace(directory / "ledger.json")


def load(directory: Path = DIRECTORY, *, code: str) -> Ledger:
    """What stands there about this code; from nothing when it is about another, or cannot be read."""
    file = directory / "ledger.json"
    try:
        found = json.decode(file.read_bytes()[:BYTES_MAX], type=Ledger)
    except (FileNotFoundError, DecodeError):
        return Ledger(code=code)
    return found if found.code == code else Ledger(code=code)


def code_hash(root: Path = ROOT) -> str:
    """Of every source of client/ and daemon/: what is under test."""
    found = hashlib.sha256()
    for path in sorted([*(root / "client").rglob("*.py"), *(root / "daemon").rglob("*.py")]):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root)} {len(content)}\n".encode() + content)
    return found.hexdigest()[:16]
