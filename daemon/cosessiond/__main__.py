"""The command `cosessiond`: run the daemon in the foreground, or detached.

Rule: exit codes are the catalogue's: 0 clean, 70 I/O, 75 already running, 78 configuration or damage.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # built in: nothing is read from disk before the next line

# Until the loop handles it, Ctrl-C ends the process at once and without a traceback; the state is safe at any moment.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import asyncio  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from pathlib import Path  # noqa: E402

from cosessiond.maintenance.acts import ACTS, run  # noqa: E402
from cosessiond.process.detach import Readiness, detach  # noqa: E402

#: As for a configuration: starting again changes nothing, so a service manager must not try.
EXIT_DAMAGED = 78
#: What a restart does not change (`RestartPreventExitStatus` of the unit): nobody who waits will be served.
_NO_RESTART = (75, 78)

_HELP = """usage: cosessiond [--detach] [--force] [--version] [--help]

The daemon of cosession. It serves one user on one Unix domain socket; see `cosession sockname`.

  --detach    run in the background; return when the socket answers
  --force     write again, though the disk has failed three times within 10 minutes
  --version   print the version
  --help      print this

On the files of a store that nobody serves, for the verbs of `cosession` that begin with these; one JSON object a line:

{acts}

Exit codes: 0 stopped in order, 64 unknown arguments, 70 I/O error, 75 already running,
78 configuration, permissions, schema or damage.

examples:
  cosessiond                                in the foreground, log on standard error
  cosessiond --detach                       in the background, log in the log directory
  COSESSION_HOME=/tmp/try cosessiond        everything under one directory, for a trial
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if set(given) <= {"--detach", "--force"}:
        is_forced = "--force" in given
        if "--detach" in given:
            return detach(lambda readiness: _run(detached=readiness, is_forced=is_forced))
        return _run(detached=None, is_forced=is_forced)
    if given == ["--version"]:
        from cosession._version import __version__  # the fast way out

        sys.stdout.write(f"cosessiond {__version__}\n")
        return 0
    if given in (["--help"], ["-h"]):
        sys.stdout.write(_HELP.format(acts="\n".join(f"  {name:<11} {about}" for name, (_, about) in ACTS.items())))
        return 0
    if given and given[0] in ACTS:
        return run(given[0], given[1:])
    sys.stderr.write(f"cosessiond: cannot use {' '.join(given)!r}: see cosessiond --help\n")
    return 64


def _run(*, detached: Readiness | None, is_forced: bool) -> int:
    # Imported here so that `--detach` forks a small process and its caller is answered by a small one.
    from cosession import paths
    from cosession.configfile import ConfigFile
    from cosession.errors import CosessionError
    from cosessiond import app
    from cosessiond.process.activation import Activation
    from cosessiond.process.configuration import Configuration
    from cosessiond.process.directories import private_directory
    from cosessiond.process.logs import Threshold, escape, open_log
    from cosessiond.process.sd_notify import Notices
    from cosessiond.store.engine import StoreBroken, StoreDamaged

    os.umask(0o077)  # nothing the daemon makes is for others
    ready: Callable[[], None] = detached.ready if detached else lambda: None
    abrupt = True
    activation, notices = None, Notices()
    try:
        activation = Activation()
        file = ConfigFile(Path(paths.config_file()))
        settings = file.load()
        log_file: Path | None = None
        if detached:
            directory = Path(paths.log_directory())
            private_directory(directory)
            log_file = directory / "daemon.log"
        threshold = Threshold(settings.log.level)
        log = open_log(threshold, file=log_file)
        configuration = Configuration(settings, load=file.load, path=str(file.path), log=log, threshold=threshold)
        served = app.serve(configuration, log, ready, is_forced=is_forced, activation=activation, notices=notices)
        asyncio.run(served)
    except CosessionError as error:
        code, failure, abrupt = error.exit_code, error, False
    except StoreDamaged as error:
        why = f"{error}; nothing was changed; see what is lost and what can be done: cosession doctor"
        code, failure = EXIT_DAMAGED, CosessionError(why, code="damaged")
    except StoreBroken as error:
        why = f"{error}; nothing was changed; put back a copy of the state directory, or move it away to begin anew"
        code, failure = app.EXIT_IO, CosessionError(why, code="io_error")
    except OSError as error:
        why = f"cannot run: {error}; see that the disk has room and answers"
        code, failure = app.EXIT_IO, CosessionError(why, code="io_error")
    except KeyboardInterrupt:
        return 130
    else:
        return 0
    notices.status(failure.message)
    if activation is not None and code in _NO_RESTART:
        activation.refuse(failure)
    line = f"cosessiond: {escape(failure.message)}"
    if detached:
        detached.failed(code, line)
    else:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    if abrupt:
        os._exit(code)  # an orderly end would close the database, and so write to what cannot be trusted
    return code


if __name__ == "__main__":
    sys.exit(main())
