"""The proofs: what is proved of which promise, by which command, how often, and by which seeded bugs it can fail.

To add one: a script that takes the arguments of tally.py and counts in its file, tests that put its seeded bugs before
it, a row here, and its sources in scopes.py. tests/PROOF.md says what came of it.

Rule: a goal is a number that was promised; what was not reached is shown as not reached.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Proof(NamedTuple):
    """One row. `command` is a script under tests/ and its own arguments; `seeded` are arguments of pytest under tests/.

    `share`: of the time, in proportion to the others. `alone`: it judges delays or memory, so nothing runs beside it.
    `seeded` must pass, and skip nothing, for the seeded bugs to count as caught.
    """

    name: str
    promises: str
    what: str
    command: tuple[str, ...]
    goal: int
    unit: str
    seeded: tuple[str, ...]
    share: float = 1.0
    alone: bool = False

    @property
    def tool(self) -> str:
        """The file that counts."""
        return self.command[0]

    @property
    def seeded_files(self) -> list[str]:
        """The files of its seeded bugs."""
        return [each.partition("::")[0] for each in self.seeded if ".py" in each]


PROOFS: Final[tuple[Proof, ...]] = (
    Proof(
        name="kill",
        promises="P1 P2 P4 P5 P6 P8 P11",
        what="kill -9 under load on one state directory, also while it recovers, with slow watchers and backups",
        command=("durability/prove_kills.py",),
        goal=2_000,
        unit="kills",
        seeded=("durability/test_killloop.py", "-k", "catches"),
        share=3.0,
    ),
    Proof(
        name="history",
        promises="P2 P3 P4 P5",
        what="what concurrent clients saw, judged by revision and by a search for an order",
        command=("durability/prove_history.py",),
        goal=2_000_000,
        unit="requests",
        seeded=("durability/test_killloop.py", "durability/test_linear.py", "-k", "catches or not_found"),
        share=4.0,
    ),
    Proof(
        name="power",
        promises="P1 P4 P10 P14",
        what="every state that a power cut could leave of a recorded daemon, opened and judged",
        command=("power/prove_power.py",),
        goal=100_000,
        unit="states",
        seeded=("power/test_power.py", "-k", "show"),
        share=3.0,
    ),
    Proof(
        name="damage",
        promises="P14 P10",
        what="one file of a store damaged, opened as a daemon opens it, and everything asked of it",
        command=("durability/prove_corruption.py",),
        goal=2_000,
        unit="damages",
        seeded=("durability/test_corruption.py", "-k", "catches"),
    ),
    Proof(
        name="acts",
        promises="P10 P15",
        what="kill -9 at every system call of an upgrade and of a restore",
        command=("process/prove_acts.py",),
        goal=700,  # there are 668 with three schemas; all of them, and some in another order
        unit="kills",
        seeded=("data/test_upgrades.py", "process/test_restore.py", "-k", "noticed"),
    ),
    Proof(
        name="backups",
        promises="P10",
        what="kill -9 of a daemon that makes a backup: while it copies, proves and publishes it, each as often",
        command=("durability/prove_backups.py",),
        goal=300,
        unit="backups under kill",
        seeded=("durability/test_backupkill.py", "-k", "catches"),
    ),
    Proof(
        name="frames",
        promises="P16",
        what="bad frames on the live socket, short connections in both encodings",
        command=("fuzz/prove_frames.py",),
        goal=1_000_000,
        unit="frames",
        seeded=("fuzz/test_fuzz.py", "-k", "the_fuzzer_catches"),
        share=4.0,
        alone=True,
    ),
    Proof(
        name="decoder",
        promises="P16",
        what="the decoder under a fuzzer that is guided by coverage",
        command=("fuzz/prove_decoder.py",),
        goal=500_000,
        unit="inputs",
        seeded=("fuzz/test_fuzz.py", "-k", "decoder_fuzz_catches or guidance"),
        share=1.5,
    ),
    Proof(
        name="faults",
        promises="P1 P2 P4 P12 P13",
        what="SIGKILL, EIO and ENOSPC at each call by which the daemon touches its home",
        command=("faults/prove_faults.py",),
        goal=600,
        unit="fault points",
        seeded=("faults/test_faults.py", "-k", "caught"),
        share=3.0,
    ),
    Proof(
        name="floods",
        promises="P5 P16",
        what="10,000 half-open connections at once, no descriptors left, watchers that never read",
        command=("server/prove_floods.py",),
        goal=50_000,
        unit="connections",
        seeded=("server/test_floods.py", "-k", "floods_catch"),
        share=1.0,
        alone=True,
    ),
    Proof(
        name="claims",
        promises="P7 P8",
        what="seeds of the simulation in which every client claims, judged by the oracles of claims",
        command=("simulation/prove_claims.py",),
        goal=10_000,
        unit="seeds",
        seeded=("simulation/test_seeded.py", "-k", "claim or token or fence or past-those"),
        share=2.0,
    ),
    Proof(
        name="verdicts",
        promises="P7 P9",
        what="processes of sessions killed, stopped, left as zombies and followed by others with their pids",
        command=("durability/prove_detection.py",),
        goal=800,
        unit="processes",
        seeded=("durability/test_detection.py", "-k", "catches"),
    ),
)
