"""`python -m cosession.service.starting`: what a client runs in place of a daemon when a unit is installed.

It has the service manager start the daemon and returns when it is ready, with 0, or else with the exit code that the
daemon ended with and its reason on standard error, exactly as `cosessiond --detach` does.

Rule: what went wrong before still counts. A person who says `cosession start` begins anew; a client that needs a daemon
does not.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from cosession import paths
from cosession.errors import CosessionError
from cosession.service import manifest as manifests
from cosession.service.manifest import Manifest
from cosession.service.supervisor import supervisor_of

#: As TimeoutStartSec of the unit; a client gives up sooner, by its own time.
START_S: Final = 300.0
_CONFIG: Final = 78
_UNAVAILABLE: Final = 69
#: Exit codes of the daemon that are passed on.
_PASSED_ON: Final = (70, 75, 78)


def main() -> int:
    """Start it; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_UNAVAILABLE))  # with its own child, which asks the manager
    try:
        manifest = manifests.read(paths.state_directory())
        if manifest is None:
            return _say("cannot start: there is no unit any more; try again", _UNAVAILABLE)
        why = obstacle(manifest)
        return _say(why, _CONFIG) if why else _start(manifest)
    except CosessionError as error:
        return _say(error.message, error.exit_code)


def obstacle(manifest: Manifest) -> str:
    """Why no daemon can come of this installation, "" when one can."""
    if not Path(manifest.interpreter).exists():
        return (
            f"cannot start: its unit runs {manifest.interpreter}, which is not there any more; "
            "run: cosession service install"
        )
    return ""


def _start(manifest: Manifest) -> int:
    supervisor = supervisor_of(manifest.manager, os.environ)
    try:
        supervisor.start(START_S, anew=False)
    except CosessionError as error:
        report = supervisor.report()
        if report.exit_code in _PASSED_ON and report.said.startswith("cannot "):
            return _say(report.said, report.exit_code)
        return _say(error.message, error.exit_code)
    return 0


def _say(reason: str, code: int) -> int:
    sys.stderr.write(f"cosessiond: {reason}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
