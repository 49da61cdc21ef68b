"""`cosession services` and `services restart`: the user's services by pattern, how each is, and what that comes to.

Rule: it asks the service manager of the system and never the daemon; every answer has a deadline.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from time import localtime, strftime, time
from typing import TYPE_CHECKING

from cosession import paths
from cosession.cli import asking, render
from cosession.cli.options import Given, Option, Verb
from cosession.cli.progress import Progress
from cosession.configfile import load
from cosession.errors import CosessionError
from cosession.nearest import nearest
from cosession.services import finding, judging
from cosession.services.judging import Service

if TYPE_CHECKING:
    from typing import Final

_STYLES: Final = {"HEALTHY": "green", "FAILED": "red", "IDLE": "dim", "UNKNOWN": "yellow", "DEGRADED": "yellow"}
LINES: Final = 50


def run(given: Given) -> int:
    """Print the services; exit 0 when all are available, 1 when some are not, 2 when none is."""
    config = load(Path(paths.config_file())).services
    patterns = given.words or shlex.split(config.patterns)
    with Progress(given, "asking the service manager"):
        found = finding.found(patterns, timeout_s=_timeout_s(given))
    if given.flag("--logs"):
        return _print_log(given, _named(given.text("--logs"), found))
    total = judging.summed(found, config.target_percent)
    shown = [each for each in found if judging.is_wanted(each, failed_only=given.flag("--failed-only"))]
    if given.flag("--json"):
        render.json_line({"services": [each._asdict() for each in shown], **total.plain(), "patterns": patterns})
    else:
        for each in shown:
            _print(each)
        _print_sum(total, patterns)
    return judging.EXIT[total.overall]


def run_restart(given: Given) -> int:
    """Restart one service that the patterns find."""
    config = load(Path(paths.config_file())).services
    with Progress(given, "asking the service manager"):
        service = _named(given.words[0], finding.found(shlex.split(config.patterns), timeout_s=_timeout_s(given)))
    asking.agree(given, f"restart {service.name} ({service.reason})?")
    with Progress(given, f"restarting {service.name}"):
        finding.restart(service.name)
        after = _named(service.name, finding.found([service.name]))
    if given.flag("--json"):
        render.json_line({"restarted": service.name, "state": after.state, "reason": after.reason, "pid": after.pid})
    else:
        render.line(f"restarted {render.escape(service.name)}: {after.state}, {render.escape(after.reason)}")
    return 0 if after.state in ("HEALTHY", "IDLE") else judging.EXIT["FAILED"]


def _timeout_s(given: Given) -> float:
    """How long each question to the service manager may take."""
    return given.timeout_s() if given.flag("--timeout") else finding.ANSWER_S


def _named(name: str, found: list[Service]) -> Service:
    """The service of that name, with or without its ending."""
    for each in found:
        if name in (each.name, each.name.removesuffix(".service")):
            return each
    near = nearest(name, [each.name for each in found])
    guess = f", did you mean {near}?" if near else ""
    raise CosessionError(
        f"cannot find the service {name!r}{guess}; those known here: cosession services (services.patterns in the "
        "configuration says which)",
        code="not_found",
    )


def _print(service: Service) -> None:
    state = render.paint(f"{service.state:<8}", _STYLES[service.state])
    facts = [service.reason, f"pid {service.pid}" if service.pid else ""]
    if service.since_s:
        facts.append(f"since {strftime('%Y-%m-%d %H:%M', localtime(service.since_s))}")
    render.line(f"{state} {render.escape(service.name)}  {render.escape(', '.join(filter(None, facts)))}")
    rows = [
        ("purpose", service.purpose),
        ("starts", service.trigger + _next(service)),
        ("log", service.log),
        *(
            (name, command)
            for name, command in service.commands.items()
            if name != "status" or service.state != "HEALTHY"
        ),
    ]
    for name, text in rows:
        if text:
            render.line(f"         {render.paint(f'{name:<8}', 'dim')} {render.escape(text)}")


def _next(service: Service) -> str:
    if not service.next_s:
        return ""
    at = strftime("%Y-%m-%d %H:%M", localtime(service.next_s))
    left = service.next_s - time()
    return f", next {at}" + (f", in {render.span(left)}" if left > 0 else "")


def _print_sum(total: judging.Sum, patterns: list[str]) -> None:
    if total.availability is None or total.budget_left is None:
        render.line(
            f"no service is called {render.escape(' or '.join(patterns))}; services.patterns says which to show"
        )
        return
    overall = render.paint(total.overall, _STYLES[total.overall])
    render.line()
    render.line(
        f"{overall}: {total.running} of {total.total} running, {total.idle} idle, {total.failed} failed, "
        f"{total.unknown} unknown"
    )
    render.line(
        f"available {total.availability:.1f} % of a target of {total.target:g} %; "
        f"{total.budget_left:.0f} % of the error budget is left, as of now"
    )


def _print_log(given: Given, service: Service) -> int:
    lines = given.integer("--lines", LINES, low=1, high=finding.LOG_LINES_MAX)
    text = finding.log_of(service, lines)
    if given.flag("--json"):
        render.json_line({"service": service.name, "lines": text.splitlines()})
    else:
        for line in text.splitlines():
            render.line(render.escape(line))
    return 0


SERVICES = Verb(
    "services",
    "[PATTERN ...]",
    run,
    summary="Show your services (systemd user units, LaunchAgents) by pattern: healthy, failed and why, idle, unknown.",
    text="Which ones is `services.patterns` of the configuration, or the words. Availability counts a service that\n"
    "waits for its time as available. Exit code 0 when all are available, 1 when some are not, 2 when none is.",
    options=(
        Option("--failed-only", "", "only those that failed, or of which nobody can tell"),
        Option("--logs", "NAME", "the newest lines of its log"),
        Option("--lines", "N", f"so many of them (default {LINES})"),
    ),
    examples=(
        ("cosession services", "how are they"),
        ("cosession services 'backup-*' --failed-only", "of these, what is wrong"),
        ("cosession services --logs cosessiond", "why"),
    ),
    words=(0, 32),
)

RESTART = Verb(
    "services restart",
    "NAME",
    run_restart,
    summary="Restart one of your services and say how it is then.",
    text="NAME is one that `cosession services` shows. It asks first; --yes does not.",
    options=(asking.YES,),
    examples=(("cosession services restart cosessiond --yes", "the daemon, as a unit"),),
    words=(1, 1),
)
