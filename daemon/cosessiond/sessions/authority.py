"""Who may act for a session: its own processes and what they start, or whoever presents its session token.

Rule: proof comes from the kernel (ancestry) or from the secret; a session id or a pid that a client names proves
nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from cosession.errors import NotAllowed
from cosessiond.sessions.identity import ProcessRef
from cosessiond.sessions.view import View, unknown

SECRET_BYTES_MIN: Final = 16
SESSION_TOKEN_CHARS: Final = 32


class Authority:
    """Answers for the sessions of a `View`. `secret` (16 to 64 bytes) keys the session tokens."""

    def __init__(self, view: View, *, secret: bytes, boot: str) -> None:
        assert SECRET_BYTES_MIN <= len(secret) <= blake2b.MAX_KEY_SIZE, "a secret has 16 to 64 bytes"
        self._view = view
        self._secret = secret
        self._boot = boot

    def session_token(self, id: str) -> str:
        """What proves session `id` from where the kernel cannot: a keyed hash of the id, 32 hexadecimal digits."""
        return blake2b(id.encode(), key=self._secret, digest_size=SESSION_TOKEN_CHARS // 2).hexdigest()

    def token_holds(self, id: str, token: str) -> bool:
        """Whether `token` is the session token of `id`; takes the same time whatever the answer."""
        return hmac.compare_digest(self.session_token(id).encode(), token.encode("utf-8", "surrogatepass"))

    def may_act(self, ancestry: Sequence[ProcessRef], id: str, token: str = "") -> bool:
        """Whether a process of `ancestry` is an instance of session `id`, or `token` is its session token.

        Raises not_found.
        """
        held = self._view.get(id)
        if held is None:
            raise unknown(id)
        if token and self.token_holds(id, token):
            return True
        own = {(i.pid, i.start_time) for i in held.session.instances if i.judgeable and i.boot_id == self._boot}
        return any((ref.pid, ref.start_time) in own for ref in ancestry)

    def sessions_of(self, ancestry: Sequence[ProcessRef]) -> frozenset[str]:
        """The live sessions of the nearest process of `ancestry` that has any."""
        hosted = (self._view.hosted_by((self._boot, ref.pid, ref.start_time)) for ref in ancestry)
        return next((ids for ids in hosted if ids), frozenset())

    def require_may_act(self, ancestry: Sequence[ProcessRef], id: str, token: str = "") -> None:
        """Raises NotAllowed, which says who may, unless `may_act`; not_found when there is no such session."""
        if self.may_act(ancestry, id, token):
            return
        held = self._view.get(id)
        pids = ", ".join(str(i.pid) for i in held.session.instances if i.judgeable) if held else ""
        caller = f"process {ancestry[0].pid}" if ancestry else "your process"
        who = f"only process {pids} and what it starts may" if pids else "its processes are not visible here"
        message = f"cannot act for session {id}: {caller} is not part of it, {who}"
        if token:
            remedy = "and the session token that was presented is not its own; pass the one its registration answered"
            raise NotAllowed(f"{message}, {remedy} ($COSESSION_TOKEN)")
        remedy = "run this inside the session, or pass its id and session token ($COSESSION_SESSION, $COSESSION_TOKEN)"
        raise NotAllowed(f"{message}; {remedy}")
