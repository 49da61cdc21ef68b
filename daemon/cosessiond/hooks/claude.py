"""Claude Code: its events and what it takes for an answer (https://code.claude.com/docs/en/hooks).

Checked against payloads of 2.1.197. An answer is one JSON object on standard output with exit code 0: a refusal is a
`permissionDecision` of PreToolUse, text for the model an `additionalContext`, a note for the user a `systemMessage`.

Rule: see `event`.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import json

from cosessiond.hooks.event import Advice, Event, Kind, bounded, inner, text

AGENT: Final = "claude-code"
KINDS: Final[dict[str, Kind]] = {
    "SessionStart": "begin",
    "UserPromptSubmit": "prompt",
    "PreToolUse": "before",
    "PostToolUse": "after",
    "PreCompact": "compacting",
    "Stop": "turn_over",
    "SessionEnd": "end",
}
#: Where the tools that change files name the file.
_FILES: Final = {"Edit": "file_path", "Write": "file_path", "MultiEdit": "file_path", "NotebookEdit": "notebook_path"}
#: The events that take text for the model.
_LISTENS: Final = frozenset({"SessionStart", "UserPromptSubmit", "PostToolUse"})


def parse(name: str, payload: dict[str, Any]) -> Event:
    """The event `name` with its payload."""
    tool = text(payload, "tool_name")
    paths, more = bounded(_paths(tool, inner(payload, "tool_input")))
    return Event(
        name=name,
        kind=KINDS.get(name, "other"),
        session=text(payload, "session_id"),
        cwd=text(payload, "cwd"),
        transcript=text(payload, "transcript_path"),
        model=text(payload, "model"),
        source=text(payload, "source"),
        why=text(payload, "reason"),
        tool=tool,
        paths=paths,
        more_paths=more,
    )


def render(event: Event, advice: Advice) -> str:
    """What the hook prints: nothing when there is nothing to say."""
    answer: dict[str, Any] = {}
    if advice.note:
        answer["systemMessage"] = f"cosession: {advice.note}"
    if advice.denial and event.name == "PreToolUse":
        answer["hookSpecificOutput"] = {
            "hookEventName": event.name,
            "permissionDecision": "deny",
            "permissionDecisionReason": advice.denial,
        }
    elif advice.context and event.name in _LISTENS:
        answer["hookSpecificOutput"] = {"hookEventName": event.name, "additionalContext": advice.context}
    return json.encode(answer).decode() + "\n" if answer else ""


def _paths(tool: str, tool_input: dict[str, Any]) -> list[str]:
    field = _FILES.get(tool)
    return [text(tool_input, field)] if field else []
