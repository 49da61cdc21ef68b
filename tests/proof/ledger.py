"""What is proved so far, over several runs, each proof for its own sources: a small file outside what git keeps.

Rule: counts are of exactly the sources that stand here now (scopes.py). They add up; a violation stays until one of
these changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple

from msgspec import DecodeError, Struct, field, json

from proof.scopes import SCOPES, Sources
from proof.table import Proof
from proof.tally import WORDS_MAX, Result, measured
from source_tree import ROOT

DIRECTORY: Final = ROOT / ".prove"
BYTES_MAX: Final = 4 * 1024 * 1024

#: Of the seeded bugs of a proof: not tried yet, each caught, or one that was not.
Seeded = Literal["untried", "caught", "missed"]


class Code(NamedTuple):
    """Two hashes: of what is counted about and the tool that counts, and of these with the tests of its seeded bugs."""

    counted: str
    seeded: str


class Standing(Struct, kw_only=True):
    """One proof over all runs. `broken`: why its last run ended without an account of itself."""

    counted_on: str = ""
    seeded_on: str = ""
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

    def about(self, code: Code) -> Standing:
        """What of it still holds for these sources."""
        if self.counted_on != code.counted:
            return Standing(counted_on=code.counted, seeded_on=code.seeded)
        if self.seeded_on != code.seeded:
            self.seeded, self.seeded_words, self.seeded_on = "untried", "", code.seeded
        return self


class Ledger(Struct, kw_only=True):
    """All of them."""

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


def load(directory: Path = DIRECTORY, *, codes: Mapping[str, Code]) -> Ledger:
    """What stands there about the sources as they are; from nothing where they have changed or it cannot be read."""
    file = directory / "ledger.json"
    try:
        found = json.decode(file.read_bytes()[:BYTES_MAX], type=Ledger)
    except (FileNotFoundError, DecodeError):
        found = Ledger()
    found.proofs |= {name: found.of(name).about(code) for name, code in codes.items()}
    return found


def codes(proofs: Iterable[Proof], root: Path = ROOT) -> dict[str, Code]:
    """The hashes of each, in the tree under `root`."""
    sources = Sources(root)
    return {
        proof.name: Code(
            sources.code(SCOPES[proof.name], [proof.tool]),
            sources.code(SCOPES[proof.name], [proof.tool, *proof.seeded_files]),
        )
        for proof in proofs
    }
