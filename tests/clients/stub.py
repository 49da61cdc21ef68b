"""A model that says what a script says: a loopback server that speaks as much of the Messages API as Claude Code needs.

A conversation chooses its script by `[script:NAME]` in its first prompt, and its turn by how often the model has spoken
in it. A turn is ("text", TEXT) or (TOOL, INPUT). What the client sent with each turn is kept: what the model was told.

Rule: no network but the loopback, and no opinion of what is right; the tests judge.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Turn = tuple[str, Any]
_NAMED = re.compile(r"\[script:([\w-]+)\]")
_SERIAL = itertools.count(1)


class Model:
    """The server while this context lasts; `told` is what each script's conversation was told, as JSON, in order."""

    def __init__(self, scripts: Mapping[str, Sequence[Turn]]) -> None:
        self.scripts = scripts
        self.told: dict[str, list[str]] = {name: [] for name in scripts}
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                _send(self, "application/json", b"")

            def do_GET(self) -> None:
                _send(self, "application/json", b'{"data": []}')

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers.get("content-length") or 0))
                request = json.loads(raw or b"{}")
                if "count_tokens" in self.path or "/v1/messages" not in self.path:
                    _send(self, "application/json", b'{"input_tokens": 1}')
                else:
                    model.answer(self, request)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        """The next turn of the conversation; small talk of the client (which has no tools) gets "ok"."""
        history = request.get("messages", [])
        kind, what = "text", "ok"
        found = _NAMED.search(json.dumps(history[:1]))
        if request.get("tools") and found and found[1] in self.scripts:
            self.told[found[1]].append(json.dumps(history))
            script = self.scripts[found[1]]
            kind, what = script[min(sum(each["role"] == "assistant" for each in history), len(script) - 1)]
        _speak(handler, request, kind, what)


def _speak(handler: BaseHTTPRequestHandler, request: dict[str, Any], kind: str, what: Any) -> None:
    number = next(_SERIAL)
    if kind == "text":
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta, stop, whole = {"type": "text_delta", "text": what}, "end_turn", {"type": "text", "text": what}
    else:
        block = {"type": "tool_use", "id": f"toolu_{number}", "name": kind, "input": {}}
        delta, stop = {"type": "input_json_delta", "partial_json": json.dumps(what)}, "tool_use"
        whole = {**block, "input": what}
    message = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": request.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    if not request.get("stream"):
        _send(handler, "application/json", json.dumps({**message, "content": [whole], "stop_reason": stop}).encode())
        return
    events = [
        ("message_start", {"message": message}),
        ("content_block_start", {"index": 0, "content_block": block}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": stop, "stop_sequence": None}, "usage": {"output_tokens": 1}}),
        ("message_stop", {}),
    ]
    body = "".join(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n" for name, data in events)
    _send(handler, "text/event-stream", body.encode())


def _send(handler: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("content-type", kind)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
