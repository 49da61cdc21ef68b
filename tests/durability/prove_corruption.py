"""The corruption matrix, for `make prove`: of each seed one damage to one file, judged by all that can be asked.

Rule: an exception that nobody expected is a violation like an answer that is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cosessiond.store import sqlite
from durability import corruption
from proof.tally import counting, parser


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 when a promise was broken."""
    given = parser("Damage a file of the store, and judge what is served of it.").parse_args(arguments)
    sqlite.WAL_BYTES = corruption.WAL_BYTES  # type: ignore[misc]
    with counting(given) as tally:
        bases = [corruption.base(killed=killed) for killed in (False, True)]
        seed = given.seed
        while not tally.over:
            tally.begun(seed)
            try:
                found = corruption.judge(bases[seed % 2], seed)
            except Exception as error:  # noqa: BLE001 - whatever it is, it was not expected
                tally.violation(f"seed {seed}: {type(error).__name__}: {error}")
            else:
                tally.figure(f"{found.outcome}_sum", 1)
                if found.outcome == "served":
                    tally.violation(found.what)
                tally.count()
            seed += 1
        return tally.end()


if __name__ == "__main__":
    sys.exit(main())
