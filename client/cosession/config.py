"""Configuration: its keys, typed, what each may be, and when a change of it applies.

Rule: every key has a default, a span and a row in `APPLIES`; limits can only be lowered. What stands in a file is read
by `configfile`.
"""

from __future__ import annotations

import shlex
from typing import Any, Final, Literal, TypeAlias, get_args

from msgspec import Struct, field, structs

from cosession.messages.admin import ConfigChange
from cosession.messages.limits import FLOORS, LIMITS, Limits

#: Least severe first.
LogLevelName: TypeAlias = Literal["debug", "info", "warning", "error"]
LEVELS: Final = get_args(LogLevelName)


class LogConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: `level` is the least severe event written."""

    level: LogLevelName = "info"


class StoreConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[store]`: `on_damage` is what a start does with a store that cannot be trusted: refuse, or put what is damaged
    aside and restore the newest backup that is whole. `scrub_interval_s` after a scrub comes the next; 0: only when it
    is asked for.
    """

    on_damage: Literal["refuse", "restore"] = "refuse"
    scrub_interval_s: int = 24 * 3600


#: What each number of `[store]` may be.
STORE_SPANS: Final[dict[str, tuple[int, int]]] = {"scrub_interval_s": (0, 366 * 24 * 3600)}


class BackupConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[backup]`: one is made every so many minutes in which something changed, and when the daemon stops (`every_min`
    0: only when asked for, or before something that cannot be undone). `bytes_max` 0: four times the newest, but never
    less than 256 MiB.
    """

    every_min: int = 60
    keep_last: int = 3
    keep_hourly: int = 24
    keep_daily: int = 7
    keep_weekly: int = 4
    bytes_max: int = 0


#: What each number of `[backup]` may be.
BACKUP_SPANS: Final[dict[str, tuple[int, int]]] = {
    "every_min": (0, 7 * 24 * 60),
    "keep_last": (1, 1_000),
    "keep_hourly": (0, 1_000),
    "keep_daily": (0, 1_000),
    "keep_weekly": (0, 1_000),
    "bytes_max": (0, 2**50),
}


class ServicesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[services]`: `patterns` are the names of the services that `cosession services` shows, with blanks between them,
    `target_percent` how many of them should be available.
    """

    patterns: str = "cosession* dev.cosession*"
    target_percent: float = 99.9


class PreflightConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[preflight]`: `compliance` is a command that `cosession preflight` runs in the worktree, as words of a shell,
    "" for none; it has so many seconds.
    """

    compliance: str = ""
    compliance_s: int = 60


#: What each number of those two may be.
SPANS: Final[dict[str, tuple[float, float]]] = {
    "services.target_percent": (0.0, 100.0),
    "preflight.compliance_s": (1, 3_600),
}
#: Characters of a text.
TEXT_CHARS_MAX: Final = 400


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    log: LogConfig = field(default_factory=LogConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)
    limits: Limits = field(default_factory=Limits)
    services: ServicesConfig = field(default_factory=ServicesConfig)
    preflight: PreflightConfig = field(default_factory=PreflightConfig)


#: "at_once": whoever uses it asks each time. "new_connections": what a connection was told by `hello` holds for its
#: life, so that a change cuts nobody off. "restart": built into the engine and what measures by it.
Applies: TypeAlias = Literal["at_once", "new_connections", "restart"]

APPLIES: Final[dict[str, Applies]] = {
    "log.level": "at_once",
    "store.on_damage": "restart",
    "store.scrub_interval_s": "at_once",
    **{f"backup.{name}": "at_once" for name in BACKUP_SPANS},
    "limits.key_bytes_max": "at_once",
    "limits.value_bytes_max": "at_once",
    "limits.frame_bytes_max": "new_connections",
    "limits.connections_max": "at_once",
    "limits.in_flight_max": "new_connections",
    "limits.watches_max": "new_connections",
    "limits.unsent_bytes_max": "new_connections",
    "limits.frame_finish_s": "new_connections",
    "limits.live_bytes_max": "at_once",
    "limits.live_entries_max": "at_once",
    "limits.project_bytes_max": "at_once",
    "limits.project_entries_max": "at_once",
    "limits.session_bytes_max": "at_once",
    "limits.session_entries_max": "at_once",
    "limits.database_bytes_max": "at_once",
    "limits.log_window_revisions": "restart",
    "limits.log_window_bytes": "restart",
    "limits.request_ids_max": "restart",
    "limits.request_id_s": "restart",
    "limits.audit_bytes_max": "restart",
    "limits.audit_s": "restart",
    "services.patterns": "at_once",
    "services.target_percent": "at_once",
    "preflight.compliance": "at_once",
    "preflight.compliance_s": "at_once",
}
#: The limits that hold for a connection as they were when it began.
OF_CONNECTION: Final = tuple(key.removeprefix("limits.") for key, when in APPLIES.items() if when == "new_connections")

#: How `Applies` is said to people.
WHEN: Final[dict[str, str]] = {
    "at_once": "applies at once",
    "new_connections": "applies to new connections",
    "restart": "applies at a restart",
}


_SHOWN_MAX: Final = 48


def values(config: Config) -> dict[str, Any]:
    """Every key with its value, as `TABLE.KEY`, in the order of the code."""
    return {
        f"{part.name}.{name}": value
        for part in structs.fields(Config)
        for name, value in structs.asdict(getattr(config, part.name)).items()
    }


def changes(before: Config, after: Config) -> list[ConfigChange]:
    """What differs, key by key."""
    then, now = values(before), values(after)
    return [
        ConfigChange(key=key, before=then[key], after=now[key], applies=APPLIES[key])
        for key in then
        if then[key] != now[key]
    ]


def taken(before: Config, after: Config) -> Config:
    """What is in force when `after` is read while `before` is in force: the keys that need a restart stay."""
    kept: dict[str, dict[str, Any]] = {}
    for change in changes(before, after):
        if change.applies == "restart":
            table, _, name = change.key.partition(".")
            kept.setdefault(table, {})[name] = change.before
    return structs.replace(
        after, **{table: structs.replace(getattr(after, table), **names) for table, names in kept.items()}
    )


def wrong_value(key: str, value: Any) -> str:
    """Why `key` cannot have this value, as the file gave it; "" when it can."""
    table, _, name = key.partition(".")
    if table == "limits":
        least, most = getattr(FLOORS, name), getattr(LIMITS, name)
        return _wrong_number(key, value, least=least, most=most)
    if span := {"backup": BACKUP_SPANS, "store": STORE_SPANS}.get(table, {}).get(name):
        least, most = span
        return _wrong_number(key, value, least=least, most=most)
    if key in SPANS:
        low, high = SPANS[key]
        return _wrong_number(key, value, least=low, most=high)
    if table in ("services", "preflight"):
        return _wrong_text(key, value)
    part = StoreConfig if table == "store" else LogConfig
    words = next(get_args(each.type) for each in structs.fields(part) if each.name == name)
    return "" if value in words else f"{key} = {shown(value)}, allowed is {', '.join(words[:-1])} or {words[-1]}"


def _wrong_number(key: str, value: Any, *, least: float, most: float) -> str:
    kind = type(most)
    if type(value) is not int and not (kind is float and type(value) is float):
        what = "a number" if kind is float else "a whole number"
    elif least <= value <= most:
        return ""
    else:
        what = ""
    return f"{key} = {shown(value)}, allowed is {f'{what} from ' if what else ''}{least} to {most}"


def _wrong_text(key: str, value: Any) -> str:
    """Texts are words as a shell reads them, so that each can be taken apart."""
    if not isinstance(value, str) or len(value) > TEXT_CHARS_MAX or not value.isprintable():
        return f"{key} = {shown(value)}, allowed is a text of at most {TEXT_CHARS_MAX} printable characters"
    try:
        shlex.split(value)
    except ValueError as error:
        return f"{key} = {shown(value)}, which no shell can read: {error}"
    return ""


def shown(value: Any) -> str:
    """A value of the file in few and printable characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = ascii(value)
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
