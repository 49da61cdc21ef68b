"""A small coverage-guided fuzzer: an input that reaches a new step of the code is kept and mutated further.

Steps are pairs of lines executed after one another in the files under test, counted in powers of two, as AFL has it
(https://github.com/google/AFL/blob/master/docs/technical_details.txt). It traces with sys.settrace, so it needs
nothing but the interpreter; a package with native instrumentation would be faster, not different.

Rule: the same seed makes the same inputs, and the corpus is bounded.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable, Sequence
from types import CodeType, FrameType
from typing import Any, Final

CORPUS_MAX: Final = 2_000
INPUT_BYTES_MAX: Final = 4_096
#: Of the inputs, so many are made of the newest finds: they lead further.
NEWEST: Final = 0.4

Step = tuple[CodeType, int, int, int]


class Guided:
    """Runs `target` on mutated inputs. `files`: which code is looked at, by file name."""

    def __init__(
        self,
        target: Callable[[bytes], None],
        *,
        files: Iterable[str],
        corpus: Sequence[bytes],
        mutate: Callable[[random.Random, bytes], bytes],
        seed: int,
        guided: bool = True,
    ) -> None:
        self._target = target
        self._files = frozenset(files)
        self._mutate = mutate
        self._random = random.Random(seed)
        self._guided = guided
        self._seen: set[Step] = set()
        self._steps: dict[tuple[CodeType, int, int], int] = {}
        self.lines: set[tuple[str, int]] = set()
        self.corpus: list[bytes] = []
        self.inputs = 0
        self.last = b""
        for each in corpus:
            self.run(each)
            if each not in self.corpus:
                self.corpus.append(each)

    def one(self) -> None:
        """Make one input, run it, and keep it if it got somewhere new. What the target raises goes to the caller."""
        rng = self._random
        newest = max(1, len(self.corpus) // 8)
        source = rng.choice(self.corpus[-newest:] if rng.random() < NEWEST else self.corpus)
        if rng.random() < 0.15:
            other = rng.choice(self.corpus)
            source = source[: rng.randrange(len(source) + 1)] + other[rng.randrange(len(other) + 1) :]
        self.last = self._mutate(rng, source)[:INPUT_BYTES_MAX]
        if self.run(self.last) and self._guided:
            if len(self.corpus) >= CORPUS_MAX:
                self.corpus.pop(rng.randrange(len(self.corpus) // 2))
            self.corpus.append(self.last)

    def run(self, data: bytes) -> bool:
        """Run one input; whether it took a step that none had taken before."""
        self._steps.clear()
        self.inputs += 1
        sys.settrace(self._trace_calls)
        try:
            self._target(data)
        finally:
            sys.settrace(None)
        found = {(code, before, line, count.bit_length()) for (code, before, line), count in self._steps.items()}
        if found <= self._seen:
            return False
        self._seen |= found
        self.lines |= {(code.co_filename, line) for code, _, line, _ in found}
        return True

    def _trace_calls(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if event != "call" or frame.f_code.co_filename not in self._files:
            return None
        code, steps, before = frame.f_code, self._steps, 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                step = (code, before, frame.f_lineno)
                steps[step] = steps.get(step, 0) + 1
                before = frame.f_lineno
            return trace

        return trace
