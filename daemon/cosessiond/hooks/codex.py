"""Codex: the events of Claude Code in the same form, and a patch format of its own.

Checked against payloads of 0.169. `apply_patch` names its files inside the patch, one line for each: add, update,
delete, and where to it is moved (https://github.com/openai/codex, apply_patch_tool_instructions.md).

Rule: see `event`.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from cosessiond.hooks import claude
from cosessiond.hooks.event import Event, bounded, inner

AGENT: Final = "codex"
_HEADS: Final = ("*** Add File: ", "*** Update File: ", "*** Delete File: ", "*** Move to: ")

render = claude.render


def parse(name: str, payload: dict[str, Any]) -> Event:
    """The event `name` with its payload."""
    event = claude.parse(name, payload)
    if event.tool != "apply_patch":
        return event
    paths, more = bounded(_patched(inner(payload, "tool_input")))
    return replace(event, paths=paths, more_paths=more)


def _patched(tool_input: dict[str, Any]) -> list[str]:
    """The files of a patch, whichever field it stands in."""
    texts = [each for value in tool_input.values() for each in (value if isinstance(value, list) else [value])]
    patches = [each for each in texts if isinstance(each, str) and "*** Begin Patch" in each]
    lines = (line for patch in patches for line in patch.splitlines())
    return [line[len(head) :].strip() for line in lines for head in _HEADS if line.startswith(head)]
