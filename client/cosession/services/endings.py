"""Why a process ended, in words: exit codes, signals, and what a service manager says beside them.

Rule: a number is always shown with its meaning, and never without the number.
"""

from __future__ import annotations

import signal
from typing import Final

#: Of this daemon (`cosession.errors.CATALOGUE`), else of sysexits.h.
_CODES: Final = {
    1: "failed",
    2: "wrong use of a shell, or failed",
    64: "its arguments are wrong",
    65: "its input is wrong",
    66: "its input cannot be read",
    69: "something that it needs is not there",
    70: "a fault of the disk, or of the program",
    71: "the system refused something",
    73: "it cannot write its output",
    74: "a fault of input or output",
    75: "it is running already, or cannot work for now",
    76: "the other side speaks another protocol",
    77: "it may not do that",
    78: "its configuration, permissions, schema or store forbid the start",
    126: "it may not be executed",
    127: "there is no such program",
    130: "Ctrl-C",
    137: "killed, as by kill -9",
    143: "asked to end",
    # Of systemd itself, before the program began: systemd.exec(5).
    200: "its working directory cannot be entered",
    203: "its program cannot be executed: it, or the interpreter it names, is not there",
    208: "its input or output cannot be set up",
    209: "its standard output cannot be opened",
    216: "its group does not exist",
    217: "its user does not exist",
    218: "the system refused its capabilities",
    226: "its name spaces cannot be set up",
    233: "its run time directory cannot be made",
    238: "its state directory cannot be made",
}
_SIGNALS: Final = {
    signal.SIGHUP: "hung up",
    signal.SIGINT: "Ctrl-C",
    signal.SIGQUIT: "asked to end at once",
    signal.SIGILL: "an instruction that there is not: built for another processor",
    signal.SIGABRT: "it gave up by itself, or did not answer the service watchdog",
    signal.SIGBUS: "a file that it had mapped became shorter, or memory failed",
    signal.SIGFPE: "arithmetic",
    signal.SIGKILL: "killed by somebody, or by the system for want of memory",
    signal.SIGSEGV: "it touched memory that is not its own: a fault of the program",
    signal.SIGPIPE: "nobody read its output any more",
    signal.SIGTERM: "asked to end",
    signal.SIGXCPU: "it used more processor time than it may",
    signal.SIGSYS: "a system call that its sandbox forbids",
}
#: `Result` of systemd, where that says more than code and signal.
_RESULTS: Final = {
    "timeout": "it took longer to start or to stop than it may",
    "watchdog": "it did not answer the service watchdog",
    "oom-kill": "the system killed it for want of memory",
    "start-limit-hit": "it failed so often that it is not started any more",
    "resources": "the service manager had no means to start it",
    "protocol": "it ended before it said that it is ready",
    "exec-condition": "its own condition forbade the start",
    "condition": "a condition of its unit does not hold",
}


def of_code(code: int) -> str:
    """An exit code in words; one above 128 may be what a shell says of a signal."""
    meaning = _CODES.get(code, "")
    if not meaning and code > 128 and code - 128 in {int(each) for each in signal.Signals}:  # noqa: PLR2004 - of sh(1)
        meaning = signal.Signals(code - 128).name
    return f"exit code {code}" + (f" ({meaning})" if meaning else "")


def of_signal(number: int) -> str:
    """A signal in words."""
    try:
        found = signal.Signals(number)
    except ValueError:
        return f"signal {number}"
    meaning = _SIGNALS.get(found, "")
    return f"signal {number}, {found.name}" + (f" ({meaning})" if meaning else "")


def of_result(result: str) -> str:
    """What systemd calls the result of a unit, in words; "" where code or signal say it all."""
    return _RESULTS.get(result, "")
