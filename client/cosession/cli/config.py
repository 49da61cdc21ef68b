"""`cosession config show`, `check`, `path`: what the configuration says, where it says it, and whether it is right.

Rule: they read the file by themselves and never start a daemon; a running one is only asked what it goes by.
"""

from __future__ import annotations

import os

from cosession import paths
from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.options import Given, Option, Verb
from cosession.errors import ConfigError, CosessionError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from cosession.config import Config
    from cosession.messages.admin import ConfigChange


def run_path(given: Given) -> int:
    """Print the path as it is, for use in `$(...)`."""
    path = paths.config_file()
    if given.flag("--json"):
        render.json_line({"path": path, "exists": os.path.lexists(path), "origin": paths.config_origin()})
    else:
        render.line(path)
    return 0


def run_show(given: Given) -> int:
    """Print every key; exit 78 when the file cannot be used."""
    from cosession.config import values
    from cosession.configfile import origins

    path, text, config = _read(paths.config_file())
    found = values(config)
    where = dict.fromkeys(found, "default") | (origins(text, path) if text is not None else {})
    running = _running(given)
    if given.flag("--json"):
        body = {"path": str(path), "exists": text is not None, "origin": paths.config_origin()}
        render.json_line({**body, "values": found, "origins": where, "daemon": _compared(running, config, path)})
        return 0
    if given.flag("--origin"):
        render.table(("KEY", "VALUE", "ORIGIN"), [(key, _text(value), where[key]) for key, value in found.items()])
        render.line(render.escape(f"file: {path}{_why_there()}{'' if text is not None else ', which is not there'}"))
    else:
        render.table(("KEY", "VALUE"), [(key, _text(value)) for key, value in found.items()])
    for said in _difference(running, config, path):
        render.note(said)
    return 0


def run_check(given: Given) -> int:
    """Say what the file would change; exit 78 with every problem when it cannot be used."""
    from cosession.config import changes

    named = given.words[0] if given.words else ""
    try:
        path, text, config = _read(named or paths.config_file())
    except ConfigError as error:
        _print_problems(given, error)
        raise
    if named and text is None:
        raise ConfigError(f"cannot read {path}: there is no such file; name one, or leave the name out")
    running = _running(given)
    found = changes(_in_force(running), config)
    against = f"the running daemon (pid {running['pid']})" if _is_known(running) else "the defaults"
    if given.flag("--json"):
        body = [
            {"key": each.key, "before": each.before, "after": each.after, "applies": each.applies} for each in found
        ]
        render.json_line({"path": str(path), "exists": text is not None, "against": against, "changes": body})
        return 0
    there = "is right" if text is not None else "is not there, so the defaults hold"
    render.line(render.escape(f"{path} {there}; against {against} it changes {'this' if found else 'nothing'}"))
    for change in found:
        render.line(f"  {_said(change)}")
    return 0


def _read(name: str) -> tuple[Path, bytes | None, Config]:
    """The file, its bytes (None: not there) and what it says. Raises ConfigError."""
    from pathlib import Path

    from cosession.config import Config
    from cosession.configfile import parse, read

    path = Path(name)
    text = read(path)
    return path, text, Config() if text is None else parse(text, path)


def _print_problems(given: Given, error: ConfigError) -> None:
    """All problems where there are several: the error itself tells the first."""
    problems = error.data.get("problems", [])
    if len(problems) > 1 and not given.flag("--json"):
        rows = [(str(each["line"] or "?"), each["why"]) for each in problems]
        render.table(("LINE", "PROBLEM"), rows)


# -- the running daemon ------------------------------------------------------------------------------------------------


def _running(given: Given) -> dict[str, Any]:
    """The status of the running daemon; empty when there is none, `error` when there is and it does not answer."""
    try:
        return Line(given, spawn=False).ask("status", {})
    except Unreachable as error:
        return {} if error.data.get("running") is False else {"error": error.message}
    except CosessionError as error:
        return {"error": error.message}


def _is_known(running: dict[str, Any]) -> bool:
    return bool(running.get("config"))  # a daemon of an older version does not say


def _in_force(running: dict[str, Any]) -> Config:
    """What the daemon goes by, as far as this version knows its keys; the defaults where there is none to ask."""
    from msgspec import convert

    from cosession.config import Config, values

    tables: dict[str, dict[str, Any]] = {}
    for key in values(Config()):
        if key in running.get("config", {}):
            table, _, name = key.partition(".")
            tables.setdefault(table, {})[name] = running["config"][key]
    return convert(tables, Config)


def _compared(running: dict[str, Any], config: Config, path: Path) -> dict[str, Any] | None:
    """What `--json` says of the running daemon: null when there is none."""
    from cosession.config import changes

    if not running or "error" in running:
        return running or None
    found = changes(_in_force(running), config) if _is_known(running) else []
    differs = [{"key": each.key, "daemon": each.before, "file": each.after, "applies": each.applies} for each in found]
    return {
        "pid": running["pid"],
        "config_file": running.get("config_file", ""),
        "config_error": running.get("config_error", ""),
        "differs": differs,
        "same": not differs and running.get("config_file") == str(path),
    }


def _difference(running: dict[str, Any], config: Config, path: Path) -> list[str]:
    """What there is to say when the running daemon goes by something else than this file says."""
    from cosession.config import changes

    if "error" in running:
        return [f"a daemon is there and was not compared: {running['error']}"]
    if not _is_known(running):
        return []
    who = f"the running daemon (pid {running['pid']})"
    if running["config_file"] != str(path):
        return [f"{who} reads another file, {running['config_file']}"]
    found = changes(_in_force(running), config)
    said = [f"{who} goes by another value: {_said(each)}" for each in found]
    if any(each.applies == "restart" for each in found):
        said.append("do: cosession restart")
    if any(each.applies != "restart" for each in found):
        said.append("it reads the file again within moments; to have it now: cosession debug call admin.reload")
    return said


def _said(change: ConfigChange) -> str:
    from cosession.config import WHEN

    return f"{change.key}: {_text(change.before)} -> {_text(change.after)}, {WHEN[change.applies]}"


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value) if value != "" else '""'


def _why_there() -> str:
    origin = paths.config_origin()
    return f" ({origin})" if origin else ""


SHOW = Verb(
    "config show",
    "",
    run_show,
    summary="Show every key of the configuration with its value, and whether a running daemon goes by it.",
    text="Only your own file is read, never one of a repository. It works without a daemon and starts none.",
    options=(Option("--origin", "", "where each value comes from: FILE:LINE, or default"),),
    examples=(
        ("cosession config show --origin", "what holds, and why"),
        ("cosession config show --json", "values, origins, and what the daemon goes by"),
    ),
)

CHECK = Verb(
    "config check",
    "[FILE]",
    run_check,
    summary="Check the configuration (or FILE, before it is put in place) and say what it would change, and when.",
    text="Compared with the running daemon, else with the defaults. Exit code 78 when it cannot be used.",
    words=(0, 1),
    examples=(
        ("cosession config check", "is the file right"),
        ("cosession config check new.toml", "would this one be"),
    ),
)

PATH = Verb(
    "config path",
    "",
    run_path,
    summary="Print the path of the configuration file, whether or not it is there.",
    examples=(('"$EDITOR" "$(cosession config path)"', "edit it; a running daemon takes it up by itself"),),
)
