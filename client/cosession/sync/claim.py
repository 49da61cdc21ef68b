# Made from cosession/aio/claim.py by tests/client/unasync.py; change that one.
"""A claim that this program holds: renewed in the background, released at the end of its block.

Whether it still stands is known as of the last renewal, a third of its time ago at most. Only a write that carries its
`token` is safe beyond doubt: the daemon refuses it as Fenced once the claim has ended.

Rule: a claim that was lost is not claimed again in the background; `lost` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from cosession.errors import Claimed, Closed, CosessionError
from cosession.messages import Request
from cosession.messages.base import R
from cosession.messages.claims import Acquire, Release, Renew
from cosession.model import Claim as Record
from cosession.targets import resolve

from .io import Startable, aside, now


class Caller(Protocol):
    """What a claim needs of its client."""

    def call(self, request: Request[R], *, timeout_s: float | None = None) -> R:
        """See `Verbs.call`."""
        ...


class Renewals(Protocol):
    """Whoever renews claims in the background (`session.Beats`)."""

    def add_claim(self, claim: Claim) -> None:
        """Renew it from now on."""
        ...

    def remove_claim(self, id: str) -> None:
        """It is being released; harmless when done before."""
        ...


class Claim(Startable):
    """One claim of a session of this program.

    `record` is the daemon's record of it as last answered, None before it is granted. `lost` is "" while it stands,
    else why it does not. `waited_s` is how long it was waited for, in seconds.
    """

    record: Record | None
    lost: str
    waited_s: float

    def __init__(
        self,
        client: Caller,
        renewals: Renewals,
        request: Acquire,
        *,
        directory: str = ".",
        session_token: str = "",
        on_lost: Callable[[Claim], None] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.record = None
        self.lost = ""
        self.waited_s = 0.0
        self._client = client
        self._renewals = renewals
        self._request = request  # its targets as they were given: seen from the directory, when it is claimed
        self._directory = directory
        self._session_token = session_token
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._released = False

    @property
    def id(self) -> str:
        """The id of the claim."""
        return self._granted().id

    @property
    def token(self) -> int:
        """The fencing token: give it to writes as `fence=`."""
        return self._granted().token

    @property
    def targets(self) -> Sequence[str]:
        """What is claimed, as the daemon knows it."""
        return self._granted().targets

    @property
    def session(self) -> str:
        """The id of the session that has it."""
        return self._request.session

    def renew(self, *, timeout_s: float | None = None) -> None:
        """Give it its full time again, which happens by itself, too; `timeout_s` as for all calls. Raises Claimed when
        it is lost.
        """
        reply = self._client.call(self.renewal(), timeout_s=timeout_s)
        self.renewed(reply.claims)
        if self.lost:
            raise Claimed(f"cannot renew claim {self.id}: {self.lost}; claim again")

    def release(self, *, timeout_s: float | None = None) -> None:
        """Give it up. Harmless when done before, and when it was lost. Raises what kept the daemon from hearing of it
        within `timeout_s`, see `Client`.
        """
        if self._released or self.record is None:
            return
        self._renewals.remove_claim(self.record.id)
        self._client.call(Release(ids=[self.record.id], session=self.session), timeout_s=timeout_s)
        self._released = True

    def close(self) -> None:
        """`release`, at the end of a block; an ended session has released it already."""
        try:
            self.release()
        except CosessionError as error:
            if error.code not in {"session_ended", "not_found", "not_allowed"}:
                raise

    def renewal(self) -> Renew:
        """The request that renews it."""
        return Renew(ids=[self.id], session=self.session, session_token=self._session_token)

    @property
    def period_s(self) -> float:
        """How often it is renewed, in seconds."""
        record = self._granted()
        lasts_s = record.ttl_s if record.automatic else max(record.ttl_s, record.idle_hold_s)
        return min(20.0, lasts_s / 3)

    def renewed(self, claims: Sequence[Record]) -> None:
        """Take the answer to a renewal: the `claims` that stand. The client does this by itself."""
        found = next((each for each in claims if each.id == self.id), None)
        if found is not None:
            self.record = found
        else:
            self.lose("it ended, or is no longer of this session")

    def lose(self, why: str) -> None:
        """It stands no more; `why` is kept as `lost`. The client does this by itself."""
        self._renewals.remove_claim(self.id)
        if not self.lost and not self._released:
            self.lost = why
            if self._on_lost is not None:
                self._on_lost(self)

    def _start(self) -> None:
        if self._released:
            raise Closed(f"cannot begin claim {self.id} again: it was released; claim anew")
        if self.record is not None:
            return
        began = now()
        targets, worktree = aside(partial(resolve, self._request.targets, self._directory))
        request = replace(self._request, targets=targets, worktree=worktree)
        left_s = None if self._timeout_s is None else max(0.0, self._timeout_s - (now() - began))
        reply = self._client.call(request, timeout_s=left_s)
        self.record = reply.claim
        self.waited_s = reply.waited_s
        self._renewals.add_claim(self)

    def _granted(self) -> Record:
        if self.record is None:
            raise Closed("cannot use a claim before it is granted: enter its block, or it")
        return self.record
