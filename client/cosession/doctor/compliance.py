"""The check that is the user's own: a command from the user's configuration, run in the worktree before an action.

Rule: it comes from the user's file only, never from a repository; it is no shell's text but words; it has a deadline,
and its whole process group ends with it.
"""

from __future__ import annotations

import shlex
from typing import Final

from cosession import commands
from cosession.doctor.engine import CRITICAL, OK, Ground, Seen
from cosession.errors import CosessionError, TimedOut
from cosession.project import worktree_of

_SAID_CHARS_MAX: Final = 200


def compliance(ground: Ground) -> Seen:
    """Run it; anything but exit code 0 is critical, since the user made it a condition."""
    config = ground.config().preflight
    words = shlex.split(config.compliance)
    if not words:
        return Seen(OK, "no command is configured (preflight.compliance)")
    shown = f"`{config.compliance}`"
    remedy = "do what it asks for, or change preflight.compliance in the configuration"
    directory = worktree_of(ground.directory) or ground.directory
    try:
        done = commands.run(words, timeout_s=config.compliance_s, env=ground.env, directory=directory)
    except TimedOut:
        return Seen(CRITICAL, f"{shown} did not end within {config.compliance_s} s and was killed", remedy)
    except CosessionError as error:
        return Seen(CRITICAL, f"{shown}: {error.message.rpartition('; ')[0]}", remedy)
    if done.code:
        said = (done.err.strip() or done.out.strip()).splitlines()[-1:] or ["it said nothing"]
        return Seen(CRITICAL, f"{shown} ended with {done.code}: {said[0][:_SAID_CHARS_MAX]}", remedy)
    return Seen(OK, f"{shown} has nothing against it")
