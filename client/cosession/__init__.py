"""One shared, versioned memory and one referee for the AI coding sessions of a machine: the Python library.

`connect` gives a `Client`; `help(cosession.Client)` says what it can be asked, and what all calls take and raise.

    with cosession.connect() as client:
        entry = client.put("plan/next", {"step": 1})
        client.merge("plan/next", {"owner": "otter"}).value  # -> {'step': 1, 'owner': 'otter'}

What is handed out: `Entry`, and `Written` where the value is known; `Version`, `Difference` and `Attribution` of what
was; a `Session` of this program, a `Claim` of what it holds, and each `Blocker` in the way of one; a `Letter`, and the
`Letters` that come; a `Watch` of every `Change`, with `Reset` where it begins anew; an `AuditTrail` of each
`AuditRecord`.

Every error is a `CosessionError` with a `code`, and has a class where programs act on it: `Conflict`, `Compacted`,
`EpochChanged`, `Claimed`, `Fenced`, `UnknownOutcome`, `TimedOut`, `Unreachable`, `Overloaded`, `NotAllowed`,
`TooLarge`, `InvalidRequest`, `ConfigError`, `Closed`.

`aio` has the same names, awaited; `sync` is where the blocking ones live. `__version__` is that of client and daemon.

Rule: importing this package loads nothing but itself; a name loads its module when it is first used (PEP 562), so that
the command line and the hooks pay only for what they need.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cosession import aio, sync
    from cosession._version import __version__
    from cosession.errors import (
        Claimed,
        Closed,
        Compacted,
        ConfigError,
        Conflict,
        CosessionError,
        EpochChanged,
        Fenced,
        InvalidRequest,
        NotAllowed,
        Overloaded,
        TimedOut,
        TooLarge,
        UnknownOutcome,
        Unreachable,
    )
    from cosession.exchange.cursor import Reset
    from cosession.model import Attribution, AuditRecord, Blocker, Change, Difference, Entry, Letter, Version, Written
    from cosession.sync import AuditTrail, Claim, Client, Letters, Session, Watch, connect

#: Where each public name lives; a module stands for itself.
_HOMES = {
    "aio": "cosession.aio",
    "sync": "cosession.sync",
    "__version__": "cosession._version",
    **dict.fromkeys(
        (
            "Claimed",
            "Closed",
            "Compacted",
            "ConfigError",
            "Conflict",
            "CosessionError",
            "EpochChanged",
            "Fenced",
            "InvalidRequest",
            "NotAllowed",
            "Overloaded",
            "TimedOut",
            "TooLarge",
            "UnknownOutcome",
            "Unreachable",
        ),
        "cosession.errors",
    ),
    "Reset": "cosession.exchange.cursor",
    **dict.fromkeys(
        ("Attribution", "AuditRecord", "Blocker", "Change", "Difference", "Entry", "Letter", "Version", "Written"),
        "cosession.model",
    ),
    **dict.fromkeys(("AuditTrail", "Claim", "Client", "Letters", "Session", "Watch", "connect"), "cosession.sync"),
}

__all__ = [
    "Attribution",
    "AuditRecord",
    "AuditTrail",
    "Blocker",
    "Change",
    "Claim",
    "Claimed",
    "Client",
    "Closed",
    "Compacted",
    "ConfigError",
    "Conflict",
    "CosessionError",
    "Difference",
    "Entry",
    "EpochChanged",
    "Fenced",
    "InvalidRequest",
    "Letter",
    "Letters",
    "NotAllowed",
    "Overloaded",
    "Reset",
    "Session",
    "TimedOut",
    "TooLarge",
    "UnknownOutcome",
    "Unreachable",
    "Version",
    "Watch",
    "Written",
    "__version__",
    "aio",
    "connect",
    "sync",
]


if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'cosession' has no attribute {name!r}")
        from importlib import import_module

        module = import_module(home)
        found: object = module if home == f"cosession.{name}" else getattr(module, name)
        globals()[name] = found
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
