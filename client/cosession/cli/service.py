"""`cosession service install`, `uninstall`, `status`, `restart`, `logs`: the daemon as a unit of systemd or launchd.

Rule: nothing is written that was not shown, and every verb ends by looking whether it is as it said.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

from cosession import paths
from cosession._version import __version__
from cosession.cli import asking, life, render
from cosession.cli.line import Line
from cosession.cli.logs import LINES, LINES_MAX
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.cli.restore import refuse_socket
from cosession.errors import CosessionError, TimedOut, Unreachable
from cosession.service import installing, manifest, place
from cosession.service.supervisor import Supervisor, supervisor_of, this_supervisor

if TYPE_CHECKING:
    from typing import Any

    from cosession.service.installing import Plan
    from cosession.service.manifest import Manifest
    from cosession.service.place import Place
    from cosession.service.supervisor import Report

_COLOURS = {"running": "green", "idle": "green", "starting": "yellow", "stopping": "yellow", "stopped": "yellow"}


def run_install(given: Given) -> int:
    """Show what will be written, write it, and wait until the daemon answers on the socket of the unit."""
    refuse_socket(given)
    life.refuse_no_spawn(given)
    here, supervisor = place.this_place(), this_supervisor(os.environ)
    plan = installing.plan(here, supervisor, confined=given.flag("--confined"), force=given.flag("--force"))
    if given.flag("--dry-run"):
        _show_plan(given, here, plan)
        return 0
    if not given.flag("--json"):
        _show_plan(given, here, plan)
    began = time.monotonic()
    before = _version_now(given)
    with Progress(given, "installing") as bar:
        if plan.is_needed:
            bar.now("stopping the daemon")
            life.stop(given)
        bar.now("writing the unit")
        written = installing.write(plan, here)
        supervisor.register(given.timeout_s(), changed=plan.is_needed)
        installing.note_links(here, written, supervisor.links())
        bar.now("waiting for the daemon")
        life.forget_stop()
        answer = _answer(given, supervisor)
        if answer["version"] != here.version:  # the files are the same, and the daemon still is the one of before
            supervisor.restart(given.timeout_s())
            answer = _answer(given, supervisor)
    took_s = time.monotonic() - began
    if given.flag("--json"):
        facts = {"installed": True, "manager": plan.manager, "files": list(plan.files), "pid": answer["pid"]}
        render.json_line({**facts, "version": answer["version"], "was": before, "seconds": round(took_s, 3)})
        return 0
    came = f"version {before} -> {answer['version']}" if before not in ("", answer["version"]) else answer["version"]
    render.line(f"installed: pid {answer['pid']}, {came}, socket {render.escape(here.socket)} ({took_s:.1f} s)")
    for line in _advice(supervisor):
        render.line(line)
    return 0


def run_uninstall(given: Given) -> int:
    """Stop the daemon, remove what the manifest lists, and see that nothing of it is left."""
    refuse_socket(given)
    here = place.this_place()
    found = manifest.read(here.state)
    if found is None:
        raise CosessionError(
            "cannot uninstall: nothing is installed, or not by this command; see: cosession service status",
            code="not_found",
        )
    if not given.flag("--force"):
        installing.refuse_changed(found)
    if given.flag("--dry-run"):
        _show_removal(given, found)
        return 0
    supervisor = supervisor_of(found.manager, os.environ)
    with Progress(given, "stopping the daemon") as bar:
        supervisor.unregister(given.timeout_s())
        bar.now("removing the unit")
        removed = installing.remove(found, here)
        supervisor.forget(given.timeout_s())
        report = supervisor.report()
    if report.state != "unknown":
        raise CosessionError(
            f"cannot uninstall all of it: the service manager still knows a unit of this name, {report.state}; "
            "see where it comes from: systemctl --user status cosessiond",
            code="io_error",
        )
    if given.flag("--json"):
        render.json_line({"uninstalled": True, "removed": removed})
        return 0
    for path in removed:
        render.line(f"removed {render.escape(path)}")
    render.line("uninstalled: nothing of it is left; the store stays, and clients start the daemon as they need it")
    return 0


def run_status(given: Given) -> int:
    """How the daemon stands with its service manager; exit 0 when it runs or will be started, 1 when not."""
    here = place.this_place()
    found = manifest.read(here.state)
    if found is None:
        if given.flag("--json"):
            render.json_line({"installed": False})
        else:
            render.line("not installed; clients start the daemon as they need it. To have it done by the service")
            render.line("manager of this machine: cosession service install")
        return 1
    supervisor = supervisor_of(found.manager, os.environ)
    report = supervisor.report()
    changed = installing.changed(found)
    trouble = _trouble(found, report, changed)
    facts = _facts(given, found, report)
    if given.flag("--json"):
        render.json_line({"installed": True, **facts, "changed": changed, "trouble": trouble})
        return 1 if trouble else 0
    facts["files"] = len(found.files)
    facts["enabled"] = "yes" if report.enabled else "no"
    for name, value in facts.items():
        text = render.escape(str(value))
        if value or name == "restarts":
            render.line(f"{name:<12} {render.paint(text, _COLOURS.get(text, 'red')) if name == 'state' else text}")
    for each in trouble:
        render.line(render.paint(f"{'trouble':<12} {render.escape(each)}", "red"))
    return 1 if trouble else 0


def run_restart(given: Given) -> int:
    """End the daemon in order and start it with what is installed now; those who connect meanwhile wait."""
    refuse_socket(given)
    supervisor = _installed()
    before = _version_now(given)
    began = time.monotonic()
    with Progress(given, "restarting the daemon"):
        supervisor.restart(given.timeout_s())
        answer = _answer(given, supervisor)
    took_s = time.monotonic() - began
    if given.flag("--json"):
        facts = {"restarted": True, "pid": answer["pid"], "version": answer["version"], "was": before}
        render.json_line({**facts, "seconds": round(took_s, 3)})
        return 0
    came = f"version {before} -> {answer['version']}" if before not in ("", answer["version"]) else answer["version"]
    render.line(f"restarted: pid {answer['pid']}, {came} ({took_s:.1f} s)")
    return 0


def run_logs(given: Given) -> int:
    """Hand over to what shows the log: journalctl, or `cosession logs`."""
    follow = given.flag("--follow") or given.flag("-f")
    name = "--lines" if given.text("--lines") else "-n"
    lines = given.integer(name, LINES, low=0, high=LINES_MAX)
    command = _installed().log_command(lines, follow=follow, as_json=given.flag("--json"))
    if command[0] == "cosession":
        from cosession.cli.main import main

        return main(command[1:])
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - the service manager's own command
    except OSError as error:
        raise CosessionError(f"cannot run {command[0]}: {error.strerror}; install it", code="not_found") from None


# -- what is asked -----------------------------------------------------------------------------------------------------


def _installed() -> Supervisor:
    found = manifest.read(paths.state_directory())
    if found is None:
        raise CosessionError(
            "cannot ask for the service: it is not installed; run: cosession service install", code="not_found"
        )
    return supervisor_of(found.manager, os.environ)


def _version_now(given: Given) -> str:
    """The version of the daemon that runs, "" when none does."""
    try:
        version: str = Line(given, spawn=False, timeout_s=min(5.0, given.timeout_s())).ask("status", {})["version"]
    except CosessionError:
        return ""
    return version


def _answer(given: Given, supervisor: Supervisor) -> dict[str, Any]:
    """What the daemon behind the unit answers, within the time; else why there is none."""
    try:
        return Line(given, spawn=False).ask("ping", {})
    except (Unreachable, TimedOut) as error:
        report = supervisor.report()
        why = f"the unit runs {report.missing}, which is not there" if report.missing else report.said or report.result
        raise CosessionError(
            f"cannot start the daemon as a service: {why or error.message}; see: cosession service logs",
            code=error.code,
            data={"state": report.state, "exit_code": report.exit_code},
        ) from None


def _facts(given: Given, found: Manifest, report: Report) -> dict[str, Any]:
    running = _version_now(given) if report.state == "running" else ""
    return {
        "manager": found.manager,
        "state": report.state,
        "pid": report.pid,
        "says": report.said if report.pid or report.exit_code else "",
        "version": running,
        "installed": __version__,
        "socket": found.socket,
        "enabled": report.enabled,
        "restarts": report.restarts,
        "interpreter": found.interpreter,
        "files": [each.path for each in found.files],
    }


def _trouble(found: Manifest, report: Report, changed: list[str]) -> list[str]:
    """What is wrong with an installation, each with what to do."""
    trouble = []
    missing = report.missing or ("" if os.path.exists(found.interpreter) else found.interpreter)  # noqa: PTH110
    if missing:
        trouble.append(f"the unit runs {missing}, which is not there; run: cosession service install")
    if changed:
        trouble.append(f"not as it was written: {', '.join(changed)}; run: cosession service install --force")
    if report.state == "unknown":
        trouble.append(f"{report.result}; run: cosession service install")
    if report.state in ("failed", "stopped"):
        why = report.said if report.exit_code else ""
        trouble.append(f"{why or report.result or 'it is stopped'}; run: cosession start")
    if not report.enabled and report.state != "unknown":
        trouble.append("it will not come back by itself; run: cosession service install")
    return trouble


def _advice(supervisor: Supervisor) -> list[str]:
    """What the user may want to know: a service manager without a login ends with it."""
    if supervisor.kind != "systemd" or os.path.exists(f"/var/lib/systemd/linger/{_user()}"):  # noqa: PTH110
        return []
    return ["it ends with your last login; to let it run on: loginctl enable-linger"]


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


# -- what is shown -----------------------------------------------------------------------------------------------------


def _show_plan(given: Given, here: Place, plan: Plan) -> None:
    """Every file with what becomes of it, and the commands; with --dry-run also what is written."""
    dry = given.flag("--dry-run")
    listed = os.path.join(here.state, manifest.NAME)  # noqa: PTH118 - as paths.py
    if given.flag("--json"):
        files = [
            {"path": path, "change": plan.changes[path], "content": content.decode()}
            for path, content in plan.files.items()
        ]
        remove = list(plan.obsolete)
        render.json_line({"manager": plan.manager, "files": files, "remove": remove, "run": list(plan.steps)})
        return
    would = "would write" if dry else "write"
    render.line(f"{place.kind()}, {here.interpreter}")
    render.line(f"{would:<12} {render.escape(listed)}, the list of what follows")
    for path, content in plan.files.items():
        render.line(f"{would:<12} {render.escape(path)} ({plan.changes[path]}, {len(content):,} bytes)")
        if dry:
            for line in content.decode().splitlines():
                render.line(f"    {render.escape(line)}")
    for path in plan.obsolete:
        render.line(f"{'would remove' if dry else 'remove':<12} {render.escape(path)}")
    for step in plan.steps:
        render.line(f"{'would run' if dry else 'run':<12} {step}")


def _show_removal(given: Given, found: Manifest) -> None:
    files = [each.path for each in found.files]
    if given.flag("--json"):
        render.json_line({"remove": files, "directories": list(found.directories)})
        return
    for path in files:
        render.line(f"would remove {render.escape(path)}")
    for path in found.directories:
        render.line(f"would remove {render.escape(path)}, if it is empty then")


INSTALL = Verb(
    "service install",
    "",
    run_install,
    summary="Make the daemon a service of yours: a unit of systemd, or an agent of launchd.",
    text="It is started by whoever connects to its socket, restarted after a crash or when it hangs, and logs to the\n"
    "journal. What is written is shown, and listed for `uninstall`. Your interpreter and PATH are written into the\n"
    "unit; after an upgrade run it again.",
    options=(
        asking.DRY_RUN,
        Option("--confined", "", "in namespaces of its own too, where the system allows that (systemd)"),
        Option("--force", "", "replace units of that name that this command did not write"),
    ),
    examples=(
        ("cosession service install --dry-run", "see every line it would write"),
        ("cosession service install", "do it, and wait until the daemon answers"),
    ),
)

UNINSTALL = Verb(
    "service uninstall",
    "",
    run_uninstall,
    summary="Take the service away again: exactly what install wrote. The store stays.",
    options=(asking.DRY_RUN, Option("--force", "", "also files that were changed after they were written")),
    examples=(
        ("cosession service uninstall --dry-run", "what would be removed"),
        ("cosession service uninstall", "remove it, and see that nothing is left"),
    ),
)

STATUS = Verb(
    "service status",
    "",
    run_status,
    summary="How the daemon stands with its service manager, and what is wrong with that.",
    text="Exit code 0 when it runs or will be started by whoever connects, 1 when not.",
    examples=(("cosession service status --json", '{"installed": true, "manager": "systemd", "state": ...}'),),
)

RESTART = Verb(
    "service restart",
    "",
    run_restart,
    summary="End the daemon in order and start it again, with the version that is installed now.",
    text="The socket stays: who connects meanwhile waits, clients go on where they were.",
    examples=(("cosession service restart", "after an upgrade"),),
)

LOGS = Verb(
    "service logs",
    "",
    run_logs,
    summary="What the service manager has of the daemon: its log, its starts and its ends.",
    options=(
        Option("--follow", "", "go on with what comes; Ctrl-C ends it"),
        Option("-f", "", "the same"),
        Option("--lines", "N", f"so many of the newest (default {LINES})"),
        Option("-n", "N", "the same"),
    ),
    examples=(("cosession service logs -f", "what happens now"),),
)
