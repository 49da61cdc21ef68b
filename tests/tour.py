"""The tour of README.md: its blocks, run as written in two terminals, and what they print against what it shows.

A fence says where its block belongs: `sh setup`, `sh terminal 1`, `sh terminal 2`, `python terminal 2`. A `text` fence
right after a block shows what that prints; `text terminal 1` what the first terminal has printed in the end. `...`
stands for any text within a line, alone on a line for any number of lines.

Rule: nothing in a block is changed; only the setup is replaced, by a private home and the commands under test. Where
there is no `nc`, the commands have one of ours among them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import psutil

from harness import Daemon

#: What a reader does in both terminals; the runner does the same in its own way.
SETUP: Final = re.compile(r"\. \.venv/bin/activate\nexport COSESSION_HOME=/tmp/cosession-tour\b.*\n")
COMMANDS: Final = Path(sys.executable).parent
_STAND_IN: Final = Path(__file__).with_name("netcat.py")
BLOCK_S: Final = 60.0
_FENCE: Final = re.compile(r"^```(sh|python|text)(?: (setup|terminal [12]))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block to run; `shown` is what it prints, None where the document does not say."""

    language: str
    place: str
    code: str
    shown: str | None


def blocks(text: str) -> list[Block]:
    """The blocks of the tour in order, the text of the first terminal last as `text`.

    A block without a place is no part of it, and neither is the text that shows what that one prints.
    """
    found: list[Block] = []
    end = -1
    in_tour = False
    for match in _FENCE.finditer(text):
        language, place, code = match.groups()
        if language == "text" and not place and in_tour and text[end : match.start()].strip() == "":
            found[-1] = Block(found[-1].language, found[-1].place, found[-1].code, code)
        elif place:
            found.append(Block(language, place, code, None))
        in_tour = bool(place)
        end = match.end()
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether what was printed is what is shown."""
    pattern = ""
    for line in shown.splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*".join(map(re.escape, line.split("..."))) + r"\n"
    return re.fullmatch(pattern, printed) is not None


class Tour:
    """Runs the blocks in a private home; use as a context, which leaves no process behind."""

    def __init__(self, home: Path, directory: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COSESSION_", "XDG_"))}
        path = f"{COMMANDS}{os.pathsep}{kept.get('PATH', '')}"
        if not shutil.which("nc", path=path):
            path += f"{os.pathsep}{_stand_in(directory / 'bin')}"
        self._env = {**kept, "COSESSION_HOME": str(home), "PATH": path, "PYTHONUNBUFFERED": "1"}
        self._home = home
        self._directory = directory
        self._output = directory / "terminal-1"
        self._first: subprocess.Popen[bytes] | None = None

    def run(self, text: str) -> list[str]:
        """Go through the tour; what was not as shown."""
        wrong: list[str] = []
        for block in blocks(text):
            if block.place == "setup":
                if not SETUP.fullmatch(block.code):
                    wrong.append(f"the setup is another than the one replaced here: {block.code}")
            elif block.language == "text":
                self._end_first()
                wrong += _compare("terminal 1", block.code, self._output.read_text(encoding="utf-8"))
            elif block.place == "terminal 1":
                self._begin_first(block.code)
            else:
                wrong += self.try_out(block)
        return wrong

    def try_out(self, block: Block) -> list[str]:
        """Run one block of the second terminal; what it printed, where that is not as shown."""
        return _compare(block.code, block.shown, self._second(block))

    def _second(self, block: Block) -> str:
        command = [str(COMMANDS / "python"), "-c"] if block.language == "python" else ["bash", "-c"]
        done = subprocess.run(
            [*command, block.code],
            env=self._env,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=BLOCK_S,
            check=False,
        )
        return done.stdout.decode()

    def _begin_first(self, code: str) -> None:
        with self._output.open("wb") as output:
            self._first = subprocess.Popen(
                ["bash", "-c", code],
                env=self._env,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + BLOCK_S
        while not self._watched():
            assert time.monotonic() < deadline, self._output.read_text(encoding="utf-8")
            time.sleep(0.05)

    def _watched(self) -> bool:
        """Whether the first terminal watches; a reader sees that it does."""
        status = self._second(Block("sh", "terminal 2", "cosession status --json", None))
        with contextlib.suppress(ValueError):
            return bool(json.loads(status).get("watches"))
        return False

    def _end_first(self) -> None:
        assert self._first is not None, "the first terminal does nothing"
        os.killpg(self._first.pid, signal.SIGINT)
        assert self._first.wait(BLOCK_S) == 0, self._output.read_text(encoding="utf-8")
        self._first = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in Daemon(self._home).processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(BLOCK_S)


def _stand_in(directory: Path) -> Path:
    """A directory with a command `nc` that does what the tour asks of it."""
    directory.mkdir()
    command = directory / "nc"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{_STAND_IN}" "$@"\n', encoding="utf-8")
    command.chmod(0o700)
    return directory


def _compare(what: str, shown: str | None, printed: str) -> list[str]:
    if shown is None:
        return [f"{what.strip()}\nprinted a traceback:\n{printed}"] if "Traceback" in printed else []
    return [] if matches(shown, printed) else [f"{what.strip()}\nprinted\n{printed}\nand not\n{shown}"]
