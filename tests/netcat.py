"""As much of `nc -N -U PATH` as the tour of README.md uses: standard input to a Unix socket, and what comes to standard
output. Stands in where that command is not installed.

Rule: the standard library only; it knows nothing of what it carries.
"""

from __future__ import annotations

import shutil
import socket
import sys


def main(arguments: list[str]) -> int:
    """Run; see the head of this file."""
    *options, path = arguments
    if sorted(options) != ["-N", "-U"]:
        print(f"cannot do {' '.join(options)!r}: only -N -U PATH; install the real nc", file=sys.stderr)
        return 64
    with socket.socket(socket.AF_UNIX) as peer, peer.makefile("rb") as answers:
        peer.connect(path)
        peer.sendall(sys.stdin.buffer.read())
        peer.shutdown(socket.SHUT_WR)
        shutil.copyfileobj(answers, sys.stdout.buffer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
