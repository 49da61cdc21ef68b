"""`cosession checkpoint`, `checkpoint list`, `checkpoint show`: what sessions save of their work.

Rule: git facts and hashes are those of where the caller stands; what is shown is quoted, since an agent wrote it.
"""

from __future__ import annotations

from time import time

from cosession.cli import data, render
from cosession.cli.line import Line, request_id
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.put import read_input
from cosession.cli.scope import project_of_command, session_of_command
from cosession.errors import InvalidRequest, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: `messages.limits.CHECKPOINT_BYTES_MAX`, which is not light, as JSON that escapes everything.
FILE_BYTES_MAX = 6 * 256 * 1024
LIMIT_MAX = 1_000
_FIELDS = (("--task", "task"), ("--next", "next_step"), ("--done", "done"), ("--pending", "pending"))
_TITLES = (
    ("done", "done"),
    ("pending", "pending"),
    ("failed", "failed"),
)


def run_save(given: Given) -> int:
    """Save what the session that runs this has done and is about to do."""
    state = _state(given)
    from cosession import gitfacts
    from cosession.project import worktree_of

    files = state.get("files")
    if isinstance(files, list) and all(isinstance(each, str) for each in files):
        state["files"] = gitfacts.hashes(worktree_of() or ".", files)
    params: dict[str, Any] = {"state": state, "request_id": request_id()}
    found = {} if given.flag("--no-git") else gitfacts.collect()
    if found:
        params["git"] = found
    session = session_of_command(given)
    if session:
        params["session"] = session
    reply = Line(given).ask("checkpoint.save", params)
    checkpoint = reply["checkpoint"]
    if given.flag("--json"):
        render.json_line({**checkpoint, "revision": reply["revision"]})
        return 0
    render.line(checkpoint["id"])
    if checkpoint["redacted"]:
        render.note(f"{render.count(checkpoint['redacted'], 'piece')} that looked like a secret was replaced")
    return 0


def run_list(given: Given) -> int:
    """Print checkpoints, newest first."""
    session = given.words[0] if given.words else session_of_command(given)
    params: dict[str, Any] = {"limit": given.integer("--limit", 200, low=1, high=LIMIT_MAX)}
    if session:
        params["session"] = session
    elif not given.flag("--all"):
        params["project"] = project_of_command(given)
    reply = Line(given).ask("checkpoint.list", params)
    if given.flag("--json"):
        render.json_line({name: reply[name] for name in ("checkpoints", "more", "revision")})
        return 0
    if not reply["checkpoints"]:
        render.line("no checkpoint" + ("" if session or given.flag("--all") else " here; all: checkpoint list --all"))
        return 0
    now = time()
    rows = [
        (
            str(each["number"]),
            render.ago(each["time"], now),
            f"DAMAGED: {each['damaged']}" if each["damaged"] else each["task"] or "-",
            each["next_step"] or "-",
            render.size(each["size_bytes"]),
            each["id"],
        )
        for each in reply["checkpoints"]
    ]
    render.table(("N", "WHEN", "TASK", "NEXT STEP", "SIZE", "ID"), rows)
    if reply["more"]:
        render.note(f"there are older ones: these are the newest {len(rows)} (--limit, at most {LIMIT_MAX:,})")
    return 0


def run_show(given: Given) -> int:
    """Print one checkpoint, or the newest of a session that is whole."""
    named = given.words[0] if given.words else session_of_command(given)
    if not named:
        raise usage_error(given.verb, "it takes a session or the id of a checkpoint; see `cosession checkpoint list`")
    reply = Line(given).ask("checkpoint.get", {"checkpoint": named})
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    show(reply)
    return 0


def show(reply: dict[str, Any]) -> None:
    """A checkpoint with what it is worth."""
    checkpoint = reply["checkpoint"]
    style = {"VERIFIED": "green", "RECONSTRUCTED": "yellow"}.get(reply["standing"], "red")
    render.line(render.paint(reply["standing"], style))
    for text in reply["evidence"]:
        render.line(f"  {render.escape(text)}")
    if checkpoint is None:
        return
    render.line(f"checkpoint {checkpoint['id']}  {render.ago(checkpoint['time'], time())}")
    for title, name in (("task", "task"), ("next", "next_step")):
        if checkpoint[name]:
            render.line(f"  {title:<8} {render.escape(checkpoint[name])}")
    for title, name in _TITLES:
        for text in checkpoint[name]:
            render.line(f"  {title:<8} {render.escape(text)}")
    for each in checkpoint["decisions"]:
        why = f": {each['rationale']}" if each.get("rationale") else ""
        render.line(f"  {'decided':<8} {render.escape(each['choice'] + why)}")
    git = checkpoint["git"] or {}
    if git:
        dirty = len(git.get("dirty", ())) + git.get("more", 0)
        where = f"{git.get('branch') or 'detached'} at {git.get('head', '')[:12] or 'no commit'}"
        render.line(f"  {'git':<8} {render.escape(where)}, {render.count(dirty, 'dirty file')}")
    for each in checkpoint["files"]:
        render.line(
            f"  {'file':<8} {render.escape(each['path'])} {each.get('sha256', '')[:12] or each.get('note', '')}"
        )
    for each in checkpoint["claims"]:
        render.line(f"  {'claimed':<8} {render.escape(', '.join(each['targets']))}")
    if checkpoint["extra"]:
        render.line(f"  {'extra':<8} {render.brief(checkpoint['extra'])}")


def _state(given: Given) -> dict[str, Any]:
    state: dict[str, Any] = {}
    if given.words:
        text = _read(given.words[0])
        try:
            found = data.loads(text)
        except ValueError as error:
            raise InvalidRequest(f"cannot read the state: {error}; give a JSON object") from None
        if not isinstance(found, dict):
            raise InvalidRequest('cannot save that: the state is no JSON object; give one like {"task": "..."}')
        state = found
    for option, name in _FIELDS:
        if given.flag(option):
            state[name] = given.text(option)
    if not state:
        raise usage_error(given.verb, "it takes a file with the state, - for standard input, or --task and --next")
    return state


def _read(name: str) -> str:
    if name == "-":
        return read_input()
    import os
    import stat

    descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidRequest(f"cannot read {name!r}: it is no plain file; use - for standard input")
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise TooLarge(f"cannot save {name!r}: a checkpoint has at most 256 KiB; keep what the next step needs")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest(f"cannot read {name!r}: it is not UTF-8; save it as that") from None


SAVE = Verb(
    "checkpoint",
    "[FILE|-]",
    run_save,
    summary="Save what the session that runs this has done and is about to do, so that another can go on from it.",
    text="""
FILE is a JSON object with any of task, done, pending, next_step, decisions, failed, files, and whatever else is to be
kept. Files named by their paths get their hashes, and it is noted where the git worktree stands.
""",
    options=(
        Option("--task", "TEXT", "what it is about"),
        Option("--next", "TEXT", "the next step"),
        Option("--done", "TEXT", "what is done"),
        Option("--pending", "TEXT", "what is left"),
        Option("--no-git", "", "do not ask git"),
    ),
    examples=(
        ("cosession checkpoint --task 'rewrite the parser' --next 'error messages'", "in two words"),
        ("cosession checkpoint state.json", "from a file"),
    ),
    words=(0, 1),
)

LIST = Verb(
    "checkpoint list",
    "[SESSION]",
    run_list,
    summary="List checkpoints of a session, or of this project, newest first.",
    options=(
        Option("--all", "", "of every project"),
        Option("--limit", "N", "the newest N, at most 1000 (default 200)"),
    ),
    examples=(("cosession checkpoint list otter", "of one session, by id or name"),),
    words=(0, 1),
)

SHOW = Verb(
    "checkpoint show",
    "SESSION|CHECKPOINT",
    run_show,
    summary="Show a checkpoint, or the newest of a session that is whole, and what it is worth.",
    examples=(("cosession checkpoint show otter", "what otter was about to do"),),
    words=(0, 1),
)
