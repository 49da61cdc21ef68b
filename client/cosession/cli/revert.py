"""`cosession revert` and `purge`: what stood is put back; what must not be kept goes for good.

Rule: each is one request with one request id, and prints what it did, not what it hoped for.
"""

from __future__ import annotations

from cosession.cli import render
from cosession.cli.line import Line
from cosession.cli.moment import FORMS, revision_of
from cosession.cli.options import Given, Option, Verb, usage_error
from cosession.cli.progress import Progress
from cosession.cli.put import expectation
from cosession.cli.scope import write_params

#: How long a purge may take unless told otherwise: it writes the whole database anew.
PURGE_S = 600.0


def run_revert(given: Given) -> int:
    """Put back, and print what that changed."""
    word = given.words[0]
    if not given.flag("--to"):
        raise usage_error(given.verb, f"it needs --to REV: {FORMS}")
    line = Line(given)
    of_prefix = given.flag("--prefix") or word.endswith("/")
    params = {**write_params(given), **expectation(given), "prefix" if of_prefix else "key": word}
    params["to_revision"] = revision_of(given, "--to", line)
    if given.flag("--dry-run"):
        params["dry_run"] = True
    with Progress(given, "reverting"):
        reply = line.ask("revert", params)
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    written, to = reply["written"], reply["to_revision"]
    if not written:
        render.line(f"nothing to revert: {render.count(reply['unchanged'], 'key')} as of revision {to}")
        return 0
    at = "would change" if given.flag("--dry-run") else f"at revision {written[0]['mod_revision']}"
    same = f", {reply['unchanged']:,} unchanged" if reply["unchanged"] else ""
    render.line(f"back to revision {to}: {render.count(len(written), 'key')} {at}{same}")
    for each in written:
        render.line(render.escape(f"  {each['kind']:<6}  {each['key']}"))
    return 0


def run_purge(given: Given) -> int:
    """Purge, and print what is gone and what may not be."""
    params = {"key": given.words[0], **write_params(given)}
    line = Line(given, timeout_s=given.timeout_s() if given.flag("--timeout") else PURGE_S)
    if given.flag("--before"):
        params["before_revision"] = given.integer("--before", 0, low=1)
    with Progress(given, "purging"):
        reply = line.ask("purge", params)
    if given.flag("--json"):
        render.json_line(reply)
        return 0
    if reply["written"]:
        render.line(f"deleted at revision {reply['written']['mod_revision']}")
    render.line(f"{render.count(reply['purged'], 'value')} purged")
    if reply.get("backups_dropped"):
        render.line(f"{render.count(len(reply['backups_dropped']), 'backup')} that held it removed; a new one made")
    for backup in reply["backups"]:
        render.line(render.escape(f"still in backup {backup}"))
    render.note("copies that were made outside (of the state directory, by other programs) are not known and stay")
    return 0


REVERT = Verb(
    "revert",
    "KEY",
    run_revert,
    summary="Put back what KEY was at an earlier revision; with a slash at its end, everything under it.",
    text="All of it is one change, or nothing is: at most 128 keys and 960 KiB at once. What was not there then is\n"
    "deleted, and the history keeps what stands now. A lease stays as it is now. The log window has every revision;\n"
    "below it one key can go back as far as `cosession history` shows.",
    options=(
        Option("--to", "REV", "the revision, or a time as in `get --at`"),
        Option("--prefix", "", "everything under KEY, also without a slash"),
        Option("--dry-run", "", "only print what would change"),
        Option("--expect", "REV", "only if this mod_revision stands (of one key); else exit 3"),
    ),
    examples=(
        ("cosession revert plan/next --to 41", "one key"),
        ("cosession revert plan/ --to '2h ago' --dry-run", "what it would take to undo two hours"),
    ),
    words=(1, 1),
)

PURGE = Verb(
    "purge",
    "KEY",
    run_purge,
    summary="Delete KEY and take its values out of history, log and files, for good.",
    text="Who wrote it and when stays, and so do the hashes that prove the rest unchanged. It ends with writing the\n"
    "whole database anew, while which nothing else is written; with a backup of that; and with the removal of those\n"
    "that hold a value of it. When it was interrupted, run it again.",
    options=(Option("--before", "REV", "only versions below this revision; KEY stays if it is newer"),),
    examples=(
        ("cosession purge notes/token", "a secret that should never have been written"),
        ("cosession purge plan/next --before 41", "old versions only"),
    ),
    words=(1, 1),
)
