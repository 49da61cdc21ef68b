"""`cosession debug record`: the traffic of one client, or of a command, into a file that `debug replay` takes.

Rule: what is recorded is whole, so values are in it (session tokens are not): the file is private, and it is said.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import convert

from cosession.cli import render
from cosession.cli.debug import recording
from cosession.cli.debug.tail import FILTERS, replies
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.messages.debug import Frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FOR_S = 60.0
#: What is still waited for when the command has ended: its last frames are on their way.
SETTLES_S = 0.5


def run(given: Given) -> int:
    """Record until the command ends, the time is over, or Ctrl-C."""
    path, *command = given.words
    if command and (given.flag("--client") or given.flag("--pid")):
        raise usage_error(given.verb, "a command is recorded by its own process, without --client and --pid")
    count = given.integer("--count", 0)
    writer = recording.Writer(Path(path), time.time())
    why = "the time is over"
    try:
        for frame in _frames(given, command, writer):
            writer.add(frame)
            if writer.is_full or writer.frames == count:
                why = "the file is full" if writer.is_full else "so many were asked for"
                break
        else:
            why = "the command has ended" if command else why
    except KeyboardInterrupt:
        why = "it was ended"
    finally:
        writer.close()
    said = {"path": path, "frames": writer.frames, "lost": writer.lost, "size_bytes": writer.bytes, "ended": why}
    if given.flag("--json"):
        render.json_line(said)
    else:
        lost = f", {writer.lost:,} others were lost" if writer.lost else ""
        render.line(f"{render.count(writer.frames, 'frame')} in {render.escape(path)}{lost}; {why}")
        render.note("values are in that file; look before you pass it on")
    return 0


def _frames(given: Given, command: list[str], writer: recording.Writer) -> Iterator[Frame]:
    """Those of the command, or those that fit the filter."""
    child: subprocess.Popen[bytes] | None = None
    ended_s = 0.0
    stream = replies(given, values=True, for_s=FOR_S, wait_s=SETTLES_S if command else 0.0)
    try:
        for reply in stream:
            writer.lost += reply["lost"]
            for each in reply["frames"]:
                if child is None or each["pid"] == child.pid:
                    yield _frame(each)
            if command and child is None:
                child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 (what the user asked to run)
            elif child is not None and child.poll() is not None:
                if ended_s and not reply["frames"]:
                    return
                ended_s = ended_s or time.monotonic()
    finally:
        if child is not None and child.poll() is None:
            child.terminate()
            try:
                child.wait(2.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _frame(each: dict[str, Any]) -> Frame:
    frame: Frame = convert(each, Frame)
    return frame


RECORD = Verb(
    "debug record",
    "FILE [-- COMMAND ...]",
    run,
    summary="Record what one client and the daemon say to each other, for `debug replay`.",
    text=f"Without a command it records what passes for {FOR_S:g} s (--for), of all clients or one. With a command it\n"
    "runs that and records the connections of its process until it ends. The file must not be there yet; it is\n"
    "private, and holds values but no session tokens. It ends at 64 MiB.",
    options=(
        *FILTERS,
        Option("--for", "S", f"end after so many seconds (default {FOR_S:g})"),
        Option("--count", "N", "end after N frames"),
    ),
    examples=(
        ("cosession debug record /tmp/put.rec -- cosession put k 1", "what a command says"),
        ("cosession debug record /tmp/seven.rec --client 7 --for 10", "ten seconds of one client"),
    ),
    words=(1, 1_000),
)
