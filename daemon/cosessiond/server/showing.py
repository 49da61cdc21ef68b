"""A frame of the socket as somebody may read it: decoded, and what it carries of others hidden.

Rule: pure, and an allow-list: what is shown has a name of the protocol that is listed here, anything else is shown as
what sort of thing it is. A session token is never shown, whatever is asked for.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import DecodeError, msgpack
from msgspec import json as fast_json

from cosession import hookwire
from cosession.callids import CallId
from cosession.wire import CALL, ERROR, EVENT, GOODBYE, REPLY, BadFrame, Codec

#: Credentials.
NEVER: Final = frozenset({"session_token"})
#: Names, positions, counts, times and words of ours.
SHOWN: Final = frozenset(
    """absent after age_s agent all at_revision audit_cut audit_records automatic backups_dropped before_revision
    behind bytes claim client code compact_revision config_error config_file conflicts_pending
    conflicts_resolved conflicts_unresolved connections count create_revision cut daemon_id damaged
    database_bytes detected_ms disk dry_run end ended ending engine ephemeral epoch expect_revision fence field
    first force free full give_back granted heartbeat_s hold id idle_hold_s ids importance in_flight instance interval_s
    judgeable key keys_only kind last layer left_s level limit lines live_bytes liveness lost max
    max_mod_revision message method methods mod_revision more name next oldest op operation outcome phase pid
    plan prefix project projects protocol protocol_max protocol_min purged read_only read_revision reason
    recoverability released renewed repeated replaced_by replaced_revision replaced_session replaces request_id
    restart_needed resume_revision retryable revision rows rule scrub_rows scrub_time seen_revision session
    shared signal silent_s size_bytes slow_ms socket space start_revision start_time state state_directory
    succeeded surplus_batches surplus_bytes targets thread time to to_revision token total_bytes ttl_s turn turns
    txn_revision unchanged unread until uptime_s used values_hidden version wait_s waited waited_s waits_s watch
    watches""".split()  # noqa: SIM905 (words)
)
#: What has such names inside.
OPENED: Final = frozenset(
    """backup backups blockers changes claim claims clients compares current data else
    entries entry facts instances layers letters queues records session sessions
    standing then usage versions waiters watches written""".split()  # noqa: SIM905 (words)
)
#: Of a list with more, what is beyond is counted.
ITEMS_MAX: Final = 20
_KINDS: Final = {REPLY: "reply", ERROR: "error", EVENT: "event", GOODBYE: "goodbye"}

_decode_params = msgpack.Decoder().decode
_decode_sent = msgpack.Decoder(tuple[int, int, Any]).decode


class Said:
    """What one frame says: `kind`, `id`, `method` of a call, and its `body`, nothing hidden yet."""

    __slots__ = ("body", "id", "kind", "method")

    def __init__(self, kind: str, id: CallId, method: str, body: Any) -> None:
        self.kind = kind
        self.id = id
        self.method = method
        self.body = body


def said_by_client(codec: Codec, frame: bytes) -> Said:
    """A frame that came."""
    try:
        call = codec.decode_call(frame)
    except BadFrame as bad:
        return Said("unreadable", bad.id, "", {"message": bad.error.message, "code": bad.error.code})
    try:
        return Said("call", call.id, call.method, _decode_params(call.params))
    except (DecodeError, RecursionError, UnicodeError, ValueError) as error:
        return Said("unreadable", call.id, call.method, {"message": str(error)[:200], "code": "invalid_params"})


def said_by_daemon(codec: Codec, frame: bytes) -> Said:
    """A frame of ours, with what leads it (its length, or the end of the line)."""
    try:
        if codec.name == "json":
            return _said_in_json(fast_json.decode(frame))
        if codec.name == "hook":
            return Said("reply", 1, "", hookwire.said(frame))
        kind, id, body = _decode_sent(frame[4:])
        return Said(_KINDS[kind], id, "", body)
    except (DecodeError, LookupError, RecursionError, UnicodeError, ValueError) as error:
        # Whoever looks must never be the end of what is looked at.
        return Said("unreadable", None, "", {"message": str(error)[:200], "code": "internal"})


def _said_in_json(message: dict[str, Any]) -> Said:
    if "result" in message:
        return Said("reply", message["id"], "", message["result"])
    if "error" in message:
        error = message["error"]
        return Said("error", message["id"], "", {"message": error["message"], **error["data"]})
    params = message["params"]
    if message["method"] == "goodbye":
        return Said("goodbye", None, "", params)
    return Said("event", params["watch"], "", {name: each for name, each in params.items() if name != "watch"})


def hidden(body: Any, *, values: bool) -> Any:
    """`body` as it may be shown; with `values` all of it but credentials."""
    if not isinstance(body, dict):
        return body if values else form(body)
    return {name: _hidden(name, each, values=values) for name, each in body.items() if isinstance(name, str)}


def _hidden(name: str, value: Any, *, values: bool) -> Any:
    if name in NEVER:
        return "<hidden>" if value else value
    if name in OPENED:
        if isinstance(value, dict):
            return hidden(value, values=values)
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            some = value if values else value[:ITEMS_MAX]
            found = [hidden(each, values=values) for each in some]
            return found if len(some) == len(value) else [*found, f"<{len(value) - len(some)} more>"]
    if values:
        return value
    if (name in SHOWN or name in OPENED) and not isinstance(value, dict):
        if not isinstance(value, list):
            return value
        if not any(isinstance(each, (dict, list)) for each in value):
            return value[:ITEMS_MAX]
    return form(value)


def form(value: Any) -> str | None:
    """What sort of thing `value` is, and how large."""
    match value:
        case None:
            return None
        case bool():
            return "<boolean>"
        case int():
            return "<integer>"
        case float():
            return "<number>"
        case str():
            return f"<string, {len(value)}>"
        case dict():
            return f"<map, {len(value)}>"
        case list():
            return f"<list, {len(value)}>"
    return "<bytes>"


assert CALL not in _KINDS, "what the daemon sends is no call"
