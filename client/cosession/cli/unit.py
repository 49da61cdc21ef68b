"""The unit of the daemon, for the verbs that start and stop it: where one is installed, it is the one that is asked.

Rule: without a manifest nothing of the service managers is loaded, let alone asked.
"""

from __future__ import annotations

import os

from cosession import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cosession.cli.options import Given
    from cosession.service.supervisor import Supervisor


def installed(given: Given) -> Supervisor | None:
    """The service manager that the daemon of this place is a unit of, None when there is no unit. Raises ConfigError
    for a manifest that is damaged.
    """
    if given.text("--socket") or not os.path.exists(paths.service_manifest()):  # noqa: PTH110 - of the light half
        return None
    from cosession.service import manifest
    from cosession.service.supervisor import supervisor_of

    found = manifest.read(paths.state_directory())
    return supervisor_of(found.manager, os.environ) if found else None
