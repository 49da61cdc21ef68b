"""The property list of the launchd agent: what the shipped one says, with the paths of one installation.

Rule: pure; every path in it is absolute, since launchd expands neither ~ nor $HOME. Never run on a Mac.
"""

from __future__ import annotations

import plistlib
from importlib import resources
from typing import Any, Final

from cosession.service.place import Place

LABEL: Final = "dev.cosession.daemon"
FILE: Final = f"{LABEL}.plist"
#: The name by which the daemon asks launchd for its socket (`launch_activate_socket`).
SOCKET_NAME: Final = "Listener"
_SOCKET_MODE: Final = 0o600  # a property list has decimal numbers


def properties(place: Place) -> dict[str, Any]:
    """What launchd.plist(5) calls the keys of a job."""
    shipped = (resources.files("cosession") / "_units" / "launchd" / FILE).read_bytes()
    return {
        **plistlib.loads(shipped),
        "ProgramArguments": list(place.command),
        "EnvironmentVariables": place.environment,
        "Sockets": {
            SOCKET_NAME: {
                "SockFamily": "Unix",
                "SockType": "stream",
                "SockPathName": place.socket,
                "SockPathMode": _SOCKET_MODE,
            }
        },
        "StandardErrorPath": f"{place.log}/daemon.log",
    }


def text(place: Place) -> bytes:
    """The file."""
    return plistlib.dumps(properties(place), sort_keys=False)
