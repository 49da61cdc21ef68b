"""`cosession demo`: the product in under a minute, for someone who has never seen it.

A private daemon in a temporary directory, three session processes, a watch; one session and then the daemon are killed
with SIGKILL. `home` is the place, `worker` what a session process does, `crew` the grip on those processes, `watching`
the watch and what it must have seen, `stage` what is told, `acts` the play itself. `tour` is the tutorial (`--tour`),
`lessons` what it teaches.

Rule: nothing is faked. Every number shown was measured in this run, every claim is checked, and a claim that does not
hold is told as such and makes the exit code 1.
"""

from __future__ import annotations

from cosession.cli.options import Given, Option, Verb, usage_error


def run(given: Given) -> int:
    """Play; 0 when everything was proved."""
    if given.flag("--no-spawn"):
        raise usage_error(given.verb, "it needs a daemon of its own, which --no-spawn forbids")
    if given.flag("--socket"):
        raise usage_error(given.verb, "it uses a daemon of its own, never the one at --socket")
    if given.flag("--no-pause") and not given.flag("--tour"):
        raise usage_error(given.verb, "only the tour pauses")
    if given.flag("--tour"):
        from cosession.cli.demo import tour

        return tour.play(given)
    from cosession.cli.demo import acts

    return acts.play(given)


DEMO = Verb(
    "demo",
    "",
    run,
    summary="See what cosession does: real processes, a private daemon, nothing faked, nothing left behind.",
    text="Three sessions update one plan at once; one of them is killed; then the daemon is killed while they write.\n"
    "What must hold is checked and summed up. It takes less than a minute, touches neither your daemon nor your\n"
    "data, and removes everything it made. Exit code 1 when something did not hold.",
    options=(
        Option("--tour", "", "a tutorial instead: explains, shows each command, runs it when you press Enter"),
        Option("--no-pause", "", "the tour without waiting"),
    ),
    examples=(
        ("cosession demo", "watch it"),
        ("cosession demo --tour", "learn it, command by command, in five minutes"),
        ("cosession demo --json", "only the summary: what was proved, with the numbers"),
    ),
)
