"""Where everything lies on this machine: the socket, and the directories of state, configuration, and logs.

Both sides ask here, so a client and the daemon it starts agree without talking. Every function takes the environment
and is pure apart from `stat`: nothing is created. `$COSESSION_HOME` moves all of it under one directory
(`run/ state/ config/ log/`); a relative value counts from the working directory, while relative `XDG_*` values
are ignored, as the XDG base directory specification asks.

Rule: standard library only and light; the command line imports this on its fast path.
"""

# pathlib costs more to import than this module to run.
# ruff: noqa: PTH100, PTH116, PTH117, PTH118
from __future__ import annotations

import os
import stat
import sys

from cosession.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

#: Bytes a Unix socket path may have: `sun_path` holds 104 on macOS and 108 on Linux, the last is the NUL.
SOCKET_PATH_BYTES_MAX: Final = 103 if sys.platform == "darwin" else 107


def socket_path(env: Mapping[str, str] = os.environ) -> str:
    """The path of the daemon's socket; the first that applies.

    `$COSESSION_SOCKET`; `$COSESSION_HOME/run/d.sock`; `$XDG_RUNTIME_DIR/cosession/d.sock` and
    `/run/user/UID/cosession/d.sock` where those directories are ours; on macOS Application Support; else
    `~/.local/state/cosession/run/d.sock`. A path over the limit of the system is replaced by a short hashed one, except
    `$COSESSION_SOCKET`, which was chosen by hand. Raises ConfigError for that, or when the short place is not safe.
    """
    chosen = _absolute(env, "COSESSION_SOCKET")
    if chosen:
        check_socket_path(chosen)
        return chosen
    path = _natural_socket_path(env)
    return path if _fits(path) else _short_socket_path(path, env)


def state_directory(env: Mapping[str, str] = os.environ) -> str:
    """The directory of the store and the lock."""
    return _directory(env, "state", "XDG_STATE_HOME", ".local/state")


def spool_directory(env: Mapping[str, str] = os.environ) -> str:
    """Where clients leave calls for the daemon when they cannot reach its socket, and where it looks for them."""
    named = _absolute(env, "COSESSION_SPOOL")
    if named:
        return named
    home = _absolute(env, "COSESSION_HOME")
    return os.path.join(home, "spool") if home else os.path.join(state_directory(env), "spool")


def lock_file(env: Mapping[str, str] = os.environ) -> str:
    """What the running daemon holds locked; it says where the daemon listens. Never unlinked."""
    return os.path.join(state_directory(env), "daemon.lock")


def stop_latch(env: Mapping[str, str] = os.environ) -> str:
    """The file whose recent modification time says that the daemon was stopped on purpose."""
    return os.path.join(state_directory(env), "stopped")


def service_manifest(env: Mapping[str, str] = os.environ) -> str:
    """What `cosession service install` wrote; where it is there, a service manager starts the daemon."""
    return os.path.join(state_directory(env), "service.json")


def config_file(env: Mapping[str, str] = os.environ) -> str:
    """The user's configuration file; it need not exist."""
    return os.path.join(_directory(env, "config", "XDG_CONFIG_HOME", ".config"), "config.toml")


def config_origin(env: Mapping[str, str] = os.environ) -> str:
    """The environment variable that decides where `config_file` is, "" when none does."""
    if _absolute(env, "COSESSION_HOME"):
        return "COSESSION_HOME"
    return "XDG_CONFIG_HOME" if os.path.isabs(env.get("XDG_CONFIG_HOME", "")) else ""


def log_directory(env: Mapping[str, str] = os.environ) -> str:
    """Where the daemon writes its log when no service manager takes it."""
    if _absolute(env, "COSESSION_HOME") or sys.platform == "darwin":
        return _directory(env, "log", "", "")
    return os.path.join(state_directory(env), "log")


def check_socket_path(path: str) -> None:
    """Raise ConfigError when a Unix socket cannot have this path, or would have a name that is none: Linux takes what
    begins with NUL for a name without a file, which any user can bind.
    """
    if "\0" in path:
        raise ConfigError(f"cannot use the socket path {path!a}: it has a NUL in it; name a file")
    if not _fits(path):
        size = len(os.fsencode(path))
        raise ConfigError(
            f"cannot use the socket path {path}: it has {size} bytes, the limit is {SOCKET_PATH_BYTES_MAX}; "
            "set COSESSION_SOCKET to a shorter path",
            data={"path": path, "size": size, "limit": SOCKET_PATH_BYTES_MAX},
        )


def _natural_socket_path(env: Mapping[str, str]) -> str:
    home = _absolute(env, "COSESSION_HOME")
    if home:
        return os.path.join(home, "run", "d.sock")
    runtime = _runtime_directory(env)
    if runtime:
        return os.path.join(runtime, "cosession", "d.sock")
    if sys.platform == "darwin":
        return os.path.join(_application_support(env), "run", "d.sock")
    return os.path.join(_user_home(env), ".local/state/cosession/run/d.sock")


def _short_socket_path(path: str, env: Mapping[str, str]) -> str:
    """A place for `path`'s socket that fits and that nobody else can have prepared.

    The user's runtime directory is ours alone. In /tmp anybody can take a name first, so there the whole place is one
    directory, made with one mkdir: it is either ours with mode 0700, or refused.
    """
    import hashlib

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    runtime = _runtime_directory(env)
    if runtime:
        short = os.path.join(runtime, f"cosession-{name}", "d.sock")
        if _fits(short):
            return short
    directory = f"/tmp/cosession-{os.geteuid()}-{name}"  # noqa: S108 - checked by _refuse_squatter
    _refuse_squatter(directory, path)
    return os.path.join(directory, "d.sock")


def _refuse_squatter(directory: str, instead_of: str) -> None:
    try:
        found = os.lstat(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"cannot look at {directory}: {error}; set COSESSION_SOCKET to a short path") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise ConfigError(
            f"cannot use {directory} in place of the socket path {instead_of} ({len(os.fsencode(instead_of))} bytes, "
            f"the limit is {SOCKET_PATH_BYTES_MAX}): it is not a private directory of yours; remove it, or set "
            "COSESSION_SOCKET to a short path"
        )


def _directory(env: Mapping[str, str], name: str, xdg: str, fallback: str) -> str:
    """One of the directories by its name under `$COSESSION_HOME`; `xdg` is "" for those XDG does not know."""
    home = _absolute(env, "COSESSION_HOME")
    if home:
        return os.path.join(home, name)
    base = env.get(xdg, "") if xdg else ""
    if os.path.isabs(base):
        return os.path.join(base, "cosession")
    if sys.platform == "darwin":
        return os.path.join(_application_support(env), name)
    return os.path.join(_user_home(env), fallback, "cosession")


def _runtime_directory(env: Mapping[str, str]) -> str:
    """The user's runtime directory, "" when there is none that is ours."""
    for place in (env.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        if os.path.isabs(place) and _is_our_directory(place):
            return place
    return ""


def _is_our_directory(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _application_support(env: Mapping[str, str]) -> str:
    return os.path.join(_user_home(env), "Library/Application Support/cosession")


def _user_home(env: Mapping[str, str]) -> str:
    home = env.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise ConfigError("cannot find your home directory: HOME is not set; set HOME or COSESSION_HOME") from None


def _absolute(env: Mapping[str, str], name: str) -> str:
    """The value of a variable of ours as an absolute path, "" when it is not set."""
    value = env.get(name, "")
    return os.path.abspath(value) if value else ""


def _fits(path: str) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX
