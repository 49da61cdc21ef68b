"""Configuration: typed TOML, one file, for both sides.

Rule: an unknown name or a value outside its bounds is an error with the file's name, never a silent default; limits
can only be lowered.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

from msgspec import DecodeError, Struct, field, structs, toml

from cosession.errors import ConfigError
from cosession.messages.limits import Limits, outside

_BYTES_MAX: Final = 64 * 1024


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: `level` is the least severe event written."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    log: LogConfig = field(default_factory=LogConfig)
    limits: Limits = field(default_factory=Limits)


def load(path: Path) -> Config:
    """The configuration at `path`; the defaults when there is no such file. Raises ConfigError."""
    try:
        # Not blocking: a pipe in its place must not hold up the start.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"cannot read {path}: it is no plain file; move it away")
            text = file.read(_BYTES_MAX + 1)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check its owner and mode") from error
    if len(text) > _BYTES_MAX:
        raise ConfigError(f"cannot read {path}: over {_BYTES_MAX} bytes; it is no configuration of cosession")
    try:
        config = toml.decode(text, type=Config)
    except (DecodeError, UnicodeError) as error:
        raise ConfigError(f"cannot use {path}: {error}; {_names()}") from error
    if wrong := outside(config.limits):
        raise ConfigError(f"cannot use {path}: {wrong}; correct it there, or remove it for the default")
    return config


def _names() -> str:
    """What may stand in the file."""
    tables = (f"[{each.name}] with {', '.join(each.type.__struct_fields__)}" for each in structs.fields(Config))
    return f"correct it: it may hold {' and '.join(tables)}"
