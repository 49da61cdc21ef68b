"""The coverage-guided fuzz of the decoder, for `make prove`: counts inputs that were decoded whole and in pieces.

Rule: an input that breaks a rule ends the run, and is shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import decoder
from fuzz.guided import Guided
from proof.tally import counting, parser


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Fuzz the decoder, guided by coverage.").parse_args(arguments)
    with counting(given) as tally:
        guided = Guided(
            decoder.target,
            files=decoder.FILES,
            corpus=decoder.beginnings(),
            mutate=decoder.mutated,
            seed=given.seed,
        )
        while not tally.over:
            try:
                guided.one()
            except Exception as error:  # noqa: BLE001 - whatever it is, it should not have been
                tally.violation(f"seed {given.seed}: {error!r} on {guided.last[:300].hex()}")
            else:
                tally.count()
        tally.figure("corpus", len(guided.corpus))
        tally.figure("lines_reached_max", len(guided.lines))
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
