"""`cosession debug replay`: a recorded conversation held again, its answers compared by their shape.

Each recorded connection gets one of its own, in its encoding; calls are sent in their order, each when the one before
was answered. Request ids are new ones, the same where the recording has the same twice.

Rule: it writes only when told to, and finds that out before it sends anything. Every wait has an end.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec import json as fast_json

from cosession.cli import render
from cosession.cli.debug import recording
from cosession.cli.debug.peer import Heard, Peer
from cosession.cli.debug.shape import differences
from cosession.cli.options import Given, Option, Verb
from cosession.errors import NotAllowed
from cosession.wire import CALL

if TYPE_CHECKING:
    from typing import Any

    from cosession.messages.debug import Frame

#: What changes nothing, so that it may be repeated without a word.
READS: Final = frozenset(
    """hello ping status get range history revision_at audit backup.list watch unwatch session.list session.explain
    session.why_not claim.list claim.check claim.explain debug.clients debug.watches debug.tasks debug.queues
    debug.locks debug.metrics checkpoint.list checkpoint.get""".split()  # noqa: SIM905 (words)
)
#: How long events of a watch are waited for that the recording has.
EVENTS_S: Final = 1.0
#: Of what a call is about, that is for one run only.
_HIDDEN: Final = "<hidden>"


class Difference(Struct, frozen=True):
    """What one call was answered otherwise, or what else is not as it was."""

    number: int
    method: str
    what: list[str]


def run(given: Given) -> int:
    """Replay and say what differs; exit 1 when something does."""
    found = recording.read(Path(given.words[0]))
    calls = [frame for frame in found.frames if frame.kind == "call" and not frame.left_out]
    writes = sorted({frame.method for frame in calls} - READS)
    if writes and not given.flag("--writes"):
        raise NotAllowed(
            f"cannot replay {given.words[0]}: it does more than read ({', '.join(writes)}); do: --writes, against a "
            "daemon of its own: COSESSION_HOME=/tmp/try cosession debug replay FILE --writes",
            data={"methods": writes},
        )
    replay = Replay(given, found)
    began_s = monotonic()
    try:
        different = replay.run(calls)
    finally:
        replay.close()
    _show(given, found, different, calls=len(calls), took_s=monotonic() - began_s)
    return 1 if different else 0


class Replay:
    """The connections of one replay."""

    def __init__(self, given: Given, found: recording.Recording) -> None:
        self._given = given
        self._timeout_s = given.timeout_s()
        self._answers = {(frame.client, frame.id): frame for frame in found.frames if frame.kind in ("reply", "error")}
        self._events: dict[int, list[Frame]] = {}
        for frame in found.frames:
            if frame.kind == "event":
                self._events.setdefault(frame.client, []).append(frame)
        self._peers: dict[int, Peer] = {}
        self._heard: dict[int, list[Heard]] = {}
        self._request_ids: dict[str, str] = {}

    def run(self, calls: list[Frame]) -> list[Difference]:
        """Send each, and compare."""
        found: list[Difference] = []
        for frame in calls:
            what = self._one(frame)
            if what:
                found.append(Difference(frame.number, frame.method, what))
        for client, events in self._events.items():
            what = self._compare_events(client, events)
            if what:
                found.append(Difference(0, f"events of client {client}", what))
        return found

    def close(self) -> None:
        """Hang up."""
        for peer in self._peers.values():
            peer.close()

    def _one(self, frame: Frame) -> list[str]:
        was = self._answers.get((frame.client, frame.id))
        peer = self._peers.get(frame.client)
        if peer is None:
            peer = self._peers[frame.client] = Peer(self._given)
        peer.send(_encoded(frame.encoding, frame.id, frame.method, self._params(frame.body)))
        if frame.id is None:
            return []  # a notification, which nobody answers
        now = self._answer(frame.client, peer, frame.id)
        if was is None or was.left_out:
            return []  # the recording ended before its answer, or has only its size
        if now is None:
            return ["no answer: the daemon hung up" if peer.is_over else f"no answer within {self._timeout_s:g} s"]
        if now.kind != was.kind:
            return [f"it was answered by {_brief(was.kind, was.body)}, now by {_brief(now.kind, now.body)}"]
        return differences(was.body, now.body)

    def _answer(self, client: int, peer: Peer, id_: Any) -> Heard | None:
        until_s = monotonic() + self._timeout_s
        while (heard := peer.hear(until_s - monotonic())) is not None:
            if heard.kind in ("reply", "error") and heard.id == id_:
                return heard
            self._heard.setdefault(client, []).append(heard)
        return None

    def _params(self, body: Any) -> Any:
        """What is sent again: another request id, and no session token, which the recording does not have."""
        if not isinstance(body, dict):
            return body
        params = {name: each for name, each in body.items() if each != _HIDDEN}
        if isinstance(request_id := params.get("request_id"), str) and request_id:
            params["request_id"] = self._request_ids.setdefault(request_id, os.urandom(16).hex())
        return params

    def _compare_events(self, client: int, was: list[Frame]) -> list[str]:
        peer = self._peers.get(client)
        if peer is None:
            return []
        until_s = monotonic() + EVENTS_S
        heard = self._heard.setdefault(client, [])
        while sum(each.kind == "event" for each in heard) < len(was):
            more = peer.hear(max(0.0, until_s - monotonic()))
            if more is None:
                break
            heard.append(more)
        now = [each for each in heard if each.kind == "event"]
        found = [f"there were {len(was)} events, now {len(now)}"] if len(now) < len(was) else []
        for index, (before, after) in enumerate(zip(was, now, strict=False), 1):
            found += [f"event {index}: {each}" for each in differences(before.body, after.body)]
        return found


def _encoded(encoding: str, id_: Any, method: str, params: Any) -> bytes:
    if encoding == "json":
        call = {"jsonrpc": "2.0", "method": method, "params": params, **({} if id_ is None else {"id": id_})}
        return fast_json.encode(call) + b"\n"
    from msgspec import msgpack

    body = msgpack.encode((CALL, id_, method, params))
    return len(body).to_bytes(4) + body


def _brief(kind: str, body: Any) -> str:
    return f"the error {body.get('code', '?')}" if kind == "error" and isinstance(body, dict) else f"a {kind}"


def _show(given: Given, found: recording.Recording, different: list[Difference], *, calls: int, took_s: float) -> None:
    if given.flag("--json"):
        shown = [{"number": each.number, "method": each.method, "differences": each.what} for each in different]
        whole = {"calls": calls, "whole": found.is_whole, "lost": found.lost, "took_s": round(took_s, 3)}
        render.json_line({**whole, "different": shown})
        return
    for each in different:
        where = f"frame {each.number}, {each.method}" if each.number else each.method
        render.line(render.escape(where))
        for what in each.what:
            render.line(f"    {render.escape(what)}")
    same = "all answered as they were" if not different else f"{len(different):,} not as they were"
    render.line(f"{render.count(calls, 'call')} in {render.span(took_s)}: {same}")
    if not found.is_whole or found.lost:
        render.note("the recording is not whole: what is missing was not compared")


REPLAY = Verb(
    "debug replay",
    "FILE",
    run,
    summary="Hold a recorded conversation again, and show which answers are of another shape.",
    text="Compared are kinds, members and codes, not what they say: times, revisions and ids differ in every run.\n"
    "What does more than read is refused without --writes, before anything is sent: it is done again then, for real.\n"
    "A recording of a newer format or protocol is refused. Exit code 1 when something differs.",
    options=(Option("--writes", "", "repeat what writes as well"),),
    examples=(
        ("cosession debug replay /tmp/seven.rec", "does this version still answer so"),
        ("COSESSION_HOME=/tmp/try cosession debug replay /tmp/put.rec --writes", "in a trial home of its own"),
    ),
    words=(1, 1),
)
