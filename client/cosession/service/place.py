"""What of this installation a service manager must know: the interpreter, the environment, the socket.

Rule: all of it is absolute. A unit outlives the shell that wrote it, and knows neither its PATH nor its directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from cosession import paths, reach
from cosession._version import __version__
from cosession.errors import ConfigError

#: What decides where the daemon's files lie: it must find them where the clients look.
_PLACES: Final = ("COSESSION_HOME", "COSESSION_SOCKET", "COSESSION_SPOOL", "XDG_STATE_HOME", "XDG_CONFIG_HOME")
_ALWAYS: Final = ("/usr/local/bin", "/usr/bin", "/bin")
_PATH_CHARS_MAX: Final = 4_000


class Place(Struct, frozen=True, kw_only=True):
    """One installation and its places. `command` starts the daemon in the foreground."""

    command: tuple[str, ...]
    environment: dict[str, str]
    socket: str
    state: str
    log: str
    spool: str
    home: str
    config_home: str
    version: str = __version__

    @property
    def interpreter(self) -> str:
        """The Python that the daemon runs with."""
        return self.command[0]


def this_place(env: Mapping[str, str] = os.environ) -> Place:
    """The installation that runs this. Raises ConfigError where it cannot be written down."""
    *command, _ = reach.spawn_command()  # without --detach
    home = _home(env)
    xdg = env.get("XDG_CONFIG_HOME", "")
    place = Place(
        command=tuple(command),
        environment=_environment(env),
        socket=paths.socket_path(env),
        state=paths.state_directory(env),
        log=paths.log_directory(env),
        spool=paths.spool_directory(env),
        home=home,
        config_home=xdg if os.path.isabs(xdg) else os.path.join(home, ".config"),  # noqa: PTH117, PTH118 - as paths.py
    )
    _refuse_unwritable(place)
    return place


def kind() -> str:
    """How this was installed, for people: pipx, an environment of its own, or beside the system's packages."""
    if sys.prefix != sys.base_prefix:
        return "pipx" if f"{os.sep}pipx{os.sep}venvs{os.sep}" in sys.prefix + os.sep else "virtual environment"
    return "pip install --user" if "-E" in reach.spawn_command() else "pip"


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    kept = reach.spawn_environment(env)
    found = {name: kept[name] for name in _PLACES if os.path.isabs(kept.get(name, ""))}  # noqa: PTH117
    own = os.path.dirname(sys.executable)  # noqa: PTH120
    given = [each for each in env.get("PATH", "").split(os.pathsep) if os.path.isabs(each)]  # noqa: PTH117
    found["PATH"] = os.pathsep.join(dict.fromkeys((own, *given, *_ALWAYS)))
    if len(found["PATH"]) > _PATH_CHARS_MAX:
        found["PATH"] = os.pathsep.join(dict.fromkeys((own, *_ALWAYS)))
    return found


def _home(env: Mapping[str, str]) -> str:
    home = env.get("HOME", "")
    if os.path.isabs(home):  # noqa: PTH117
        return home
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_dir


def _refuse_unwritable(place: Place) -> None:
    """Raises ConfigError for what no unit can say: a line break, or what is no text, or a program with quotes in it."""
    for each in (*place.command, *place.environment.values(), place.socket, place.state):
        if not each.isprintable():
            raise ConfigError(f"cannot write a unit with {each!a} in it; move the installation to a plain path")
    if set(place.interpreter) & set("\"'\\"):
        raise ConfigError(
            f"cannot write a unit that runs {place.interpreter}: systemd takes no quote and no backslash in the path "
            "of a program; move the installation to a plain path"
        )
    if not os.path.isabs(place.interpreter):  # noqa: PTH117
        raise ConfigError("cannot write a unit: this program does not know its Python; run it by its full path")
