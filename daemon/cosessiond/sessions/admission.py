"""Who may register what: the checks on a registration before anything is decided, and the instance it stands for.

A session id becomes a key, a file name and a command-line argument somewhere, so its alphabet is narrow. Names and
other texts are shown on terminals, so none of them holds a control character. The process whose life is the
session's is the caller or an ancestor of it with the same user, as the kernel says; numbers from another pid
namespace mean nothing here, so a caller from there stands for itself and is judged by its heartbeat alone.

Rule: refuse with a typed error that says what to do; never repair what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from cosession.errors import InvalidRequest, NotAllowed, TooLarge
from cosession.messages.limits import (
    HEARTBEAT_S_MAX,
    HEARTBEAT_S_MIN,
    NAME_BYTES_MAX,
    PROJECT_BYTES_MAX,
    SESSION_ID_BYTES_MAX,
    TEXT_BYTES_MAX,
)
from cosession.messages.sessions import Register
from cosession.model import Instance, Session
from cosessiond.sessions.identity import Peer, ProcessRef, boot_id, owner, same_pid_namespace

_ID: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._:@-]{{0,{SESSION_ID_BYTES_MAX - 1}}}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_TEXTS: Final = ("agent", "model", "worktree", "branch", "cwd", "host", "transcript")


def draft(request: Register, instance: Instance, *, id: str, host: str) -> Session:
    """The record that a registration asks for. Raises InvalidRequest or TooLarge."""
    check_id(id, "id")
    if request.replaces:
        check_id(request.replaces, "replaces")
        if request.replaces == id:
            raise InvalidRequest(f"cannot register session {id}: it cannot replace itself; leave `replaces` empty")
    check_text(request.name, "name", NAME_BYTES_MAX)
    check_text(request.project, "project", PROJECT_BYTES_MAX)
    for field in _TEXTS:
        check_text(getattr(request, field), field, TEXT_BYTES_MAX)
    check_heartbeat(request.heartbeat_s)
    return Session(
        id=id,
        name=request.name,
        agent=request.agent,
        model=request.model,
        project=request.project,
        worktree=request.worktree,
        branch=request.branch,
        cwd=request.cwd,
        host=request.host or host,
        transcript=request.transcript,
        instances=(instance,),
        heartbeat_s=request.heartbeat_s,
        replaces=request.replaces,
        drills=request.drills,
    )


def check_id(id: str, field: str) -> None:
    """Raises InvalidRequest unless `id` can be the id of a session."""
    if not _ID.fullmatch(id):
        message = f"cannot use {id[:SESSION_ID_BYTES_MAX]!r} as `{field}`: a session id is 1 to {SESSION_ID_BYTES_MAX}"
        raise InvalidRequest(f"{message} of A-Z a-z 0-9 . _ : @ - and begins with a letter, digit or _; choose another")


def check_text(text: str, field: str, bytes_max: int) -> None:
    """Raises TooLarge or InvalidRequest unless `text` may stand in a record."""
    found = _CONTROL.search(text)
    if found:
        message = f"cannot use this `{field}`: it holds the control character U+{ord(found[0]):04X}; remove it"
        raise InvalidRequest(message)
    size = len(text.encode())
    if size > bytes_max:
        message = f"cannot use this `{field}`: it has {size} bytes, the limit is {bytes_max}; shorten it"
        raise TooLarge(message, data={"size": size, "limit": bytes_max})


def check_heartbeat(heartbeat_s: float) -> None:
    """Raises InvalidRequest unless this can be promised: 0 for nothing, else within bounds (never NaN)."""
    if heartbeat_s != 0 and not HEARTBEAT_S_MIN <= heartbeat_s <= HEARTBEAT_S_MAX:
        allowed = f"0 (no promise) or {HEARTBEAT_S_MIN:g} to {HEARTBEAT_S_MAX:g}"
        raise InvalidRequest(f"cannot promise a heartbeat every {heartbeat_s} s: allowed is {allowed}; choose one")


def instance_for(
    pid: int,
    peer: Peer | None,
    ancestry: Sequence[ProcessRef],
    *,
    owner_of: Callable[[int], int | None] = owner,
    namespace_is_ours: Callable[[int], bool] = same_pid_namespace,
) -> Instance:
    """The instance a registration stands for: process `pid`, or the caller itself for 0. Raises NotAllowed.

    `ancestry` is the caller's, itself first. An ancestor of another user is refused: what it does is not ours to say.
    """
    if peer is None:
        raise NotAllowed("cannot register: the kernel does not say who is calling; connect over the Unix socket")
    if peer.pid <= 0 or (ancestry and not namespace_is_ours(peer.pid)):
        return Instance(boot_id=boot_id(), pid=peer.pid, start_time=peer.start_time, judgeable=False)
    if not ancestry or ancestry[0] != ProcessRef(peer.pid, peer.start_time):
        raise NotAllowed(f"cannot register: the calling process {peer.pid} is over; register from one that runs")
    wanted = pid or peer.pid
    found = next((ref for ref in ancestry if ref.pid == wanted), None)
    if found is None:
        message = f"cannot register process {pid}: it is neither the caller ({peer.pid}) nor an ancestor of it"
        raise NotAllowed(f"{message}; name one of {', '.join(str(ref.pid) for ref in ancestry)}, or none")
    if found.pid != peer.pid and owner_of(found.pid) != peer.uid:
        message = f"cannot register process {pid}: it does not belong to user {peer.uid}"
        raise NotAllowed(f"{message}; name a process of your own, or none")
    return Instance(boot_id=boot_id(), pid=found.pid, start_time=found.start_time)
