"""session.why_not: what stands in the way of targets now, and the last denials about them, from the audit.

The audit is read in slices of the store's thread, as by `audit`. A denial is about the targets when its subject, the
target that was refused, overlaps one of them. Comparing globs can take long, so a slice has a budget: what is beyond
it counts when it is the very same text.

Rule: reads and tells; who is in the way is said in the words of the referee.
"""

from __future__ import annotations

from typing import Final

from cosession.errors import CosessionError
from cosession.messages import sessions as messages
from cosession.messages.limits import AUDIT_LOOKED_MAX, DENIALS_SHOWN_MAX
from cosession.model import AuditRecord, Blocker, Claim
from cosessiond.audit.paging import SLICE_ROWS, Query, Slice, look
from cosessiond.claims.refusal import remedy
from cosessiond.claims.targets import Targets, cost, meet, read
from cosessiond.server import admission
from cosessiond.server.conversation import Call
from cosessiond.server.core import Core
from cosessiond.server.table import Access, Row

#: Denials of so long ago say nothing of now.
SINCE_MS: Final = 24 * 3600 * 1000
#: The work of comparing the denials of one slice, in about microseconds.
SLICE_COST: Final = 4_096
_SLICE_BYTES: Final = 1 << 20


def why_not(core: Core, call: Call, request: messages.WhyNot) -> None:
    """What a caller should know who was refused a claim."""
    admission.check_project(request.project)
    wanted = Claim(
        id="",
        session=admission.acting_session(core, call, request.session),
        project=request.project,
        worktree=request.worktree,
        targets=tuple(request.targets),
        shared=request.shared,
    )
    _Look(core, call, wanted, read(wanted.targets, wanted.worktree)).go_on()


class _Look:
    """One call: through the audit from its newest record, then to the referee."""

    __slots__ = ("_call", "_core", "_found", "_looked", "_position", "_query", "_targets", "_wanted")

    def __init__(self, core: Core, call: Call, wanted: Claim, targets: Targets) -> None:
        self._core = core
        self._call = call
        self._wanted = wanted
        self._targets = targets
        project = "" if targets.on_machine else wanted.project
        since_ms = max(1, core.clock.wall_ms() - SINCE_MS)
        self._query = Query(kind="denial", project=project, since_ms=since_ms)
        self._position = 0
        self._looked = 0
        self._found: list[AuditRecord] = []

    def go_on(self) -> None:
        """Read the next slice."""
        self._core.store.run(
            lambda engine: look(engine, self._query, self._position, records_max=SLICE_ROWS, bytes_max=_SLICE_BYTES),
            self._read,
        )

    def _read(self, part: Slice | CosessionError) -> None:
        if isinstance(part, CosessionError):
            self._call.fail(part)
            return
        self._looked += part.looked
        self._position = part.reached
        budget = SLICE_COST
        for record in part.records:
            about, budget = is_about(record, self._targets, budget)
            if about or (self._wanted.session and record.session == self._wanted.session):
                self._found.append(record)
        enough = len(self._found) >= DENIALS_SHOWN_MAX
        del self._found[DENIALS_SHOWN_MAX:]
        try:
            if part.done or enough or self._looked >= AUDIT_LOOKED_MAX:
                self._ask(more=not (part.done or enough))
            else:
                self.go_on()
        except CosessionError as error:  # too many reads wait
            self._call.fail(error)

    def _ask(self, *, more: bool) -> None:
        def done(blockers: list[Blocker], count: int) -> None:
            self._call.reply(
                messages.WhyNotReply(
                    revision=self._core.store.revision,
                    free=not count,
                    blockers=blockers,
                    count=count,
                    remedy=remedy(blockers[0]) if blockers else "",
                    denials=self._found,
                    more=more,
                )
            )

        self._core.referee.check(self._wanted, done)


def is_about(record: AuditRecord, wanted: Targets, budget: int) -> tuple[bool, int]:
    """Whether a denial is about any of the targets, and what is left of the budget."""
    if any(record.subject == target.text for target in wanted.each):
        return True, budget - 1
    if budget <= 0 or record.operation != "claim.acquire" or not record.subject:
        return False, budget - 1
    try:
        subject = read((record.subject,), wanted.worktree or "/")
    except CosessionError:  # of a text that was cut
        return False, budget - len(record.subject)
    steps = len(record.subject) + cost(subject, wanted)
    return steps <= budget and meet(subject, wanted), budget - steps


ROWS: Final = (Row(messages.WhyNot, Access.READ, why_not),)
