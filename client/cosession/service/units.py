"""The text of the systemd units: what the shipped ones say, with the paths of one installation.

Rule: pure; the shipped units are the only place where a setting stands, and only the lines named here are replaced.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from cosession.service.place import Place

SERVICE: Final = "cosessiond.service"
SOCKET: Final = "cosessiond.socket"
DROP_IN: Final = f"{SERVICE}.d/namespace.conf"
#: The first version of systemd with a back-off between restarts.
_BACK_OFF_VERSION: Final = 254
#: What begins the lines that are written by `install`.
MARK: Final = "# Written by `cosession service install`, version"


def texts(place: Place, *, version: int, confined: bool) -> dict[str, str]:
    """What each file says, by its name under `systemd/user`. `version`: of systemd. `confined`: in namespaces too."""
    found = {
        SERVICE: _service(_shipped(SERVICE), place, version),
        SOCKET: _replaced(_shipped(SOCKET), {"ListenStream": [escaped(place.socket)]}),
    }
    if confined:
        run = place.socket.rpartition("/")[0]
        writable = (place.state, run, f"-{place.spool}")  # a spool that is not there yet is no obstacle
        lines = {
            "ReadWritePaths": [f"ReadWritePaths={quoted(each)}" for each in writable],
            "Environment": [f"Environment={quoted(f'TMPDIR={run}')}"],
        }
        found[DROP_IN] = _replaced(_shipped(DROP_IN), lines, whole=True)
    head = f"{MARK} {place.version}; changes belong into {SERVICE}.d/.\n"
    # In place of the first paragraph, which is for those who copy the file by hand.
    return {name: head + "\n" + text.partition("\n\n")[2] for name, text in found.items()}


def _service(text: str, place: Place, version: int) -> str:
    # Variables are expanded in the arguments and not in the program.
    command = [quoted(place.interpreter), *(quoted(each, in_command=True) for each in place.command[1:])]
    lines = [f"ExecStart={' '.join(command)} $COSESSIOND_ARGS"]
    lines += (f"Environment={quoted(f'{name}={value}')}" for name, value in place.environment.items())
    text = _replaced(text, {"ExecStart": lines}, whole=True)
    if version >= _BACK_OFF_VERSION:
        steps = ["RestartSec=200ms", "RestartSteps=5", "RestartMaxDelaySec=30s"]
        text = _replaced(text, {"RestartSec": steps}, whole=True)
    return text


def _replaced(text: str, values: dict[str, list[str]], *, whole: bool = False) -> str:
    """`text` with other values of some settings, each of which stands there once; `whole`: with other lines."""
    lines: list[str] = []
    left = dict(values)
    for line in text.splitlines():
        name, equals, _ = line.partition("=")
        if equals and name in left:
            lines += left.pop(name) if whole else [f"{name}={value}" for value in left.pop(name)]
        else:
            lines.append(line)
    assert not left, f"the shipped unit has no {', '.join(left)}"
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """`text` where systemd would look for specifiers."""
    return text.replace("%", "%%")


def quoted(text: str, *, in_command: bool = False) -> str:
    """`text` as one word of a setting, see "Quoting" in systemd.syntax(7); in a command line `$` is special too."""
    text = escaped(text).replace("\\", "\\\\").replace('"', '\\"')
    if in_command:
        text = text.replace("$", "$$")
    return f'"{text}"'


def _shipped(name: str) -> str:
    return (resources.files("cosession") / "_units" / "systemd" / name).read_text(encoding="utf-8")
