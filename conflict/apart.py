"""A solver in a process of its own: it runs beside the search and can be stopped at any moment.

Branch and cut cannot be interrupted from within, and prints to standard output; as a child it is killed when
it is no longer wanted, and what it prints goes nowhere. The child ends with its parent.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread
from typing import IO, Any

from conflict.programs import UNKNOWN, Program, Solved, Solver, solve


class Apart:
    """One program at a time. Started when first asked; a child that died answers UNKNOWN and is replaced."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: Thread | None = None
        self._answer: Solved | None = None

    def ask(self, program: Program, *, seconds: float, gap: float, absolute: float, seed: int) -> None:
        """Begin to solve by branch and cut. Whatever ran before is given up."""
        if self._child is None or self.busy or self._child.poll() is not None:
            self.close()
            self._child = self._start()
        child = self._child
        self._answer = None
        self._reader = Thread(
            target=self._talk, args=(child, (program, seconds, gap, absolute, seed)), daemon=True
        )
        self._reader.start()

    @property
    def busy(self) -> bool:
        return self._reader is not None and self._reader.is_alive()

    def wait(self, seconds: float) -> None:
        """Until it is no longer busy, but no longer than this."""
        if self._reader is not None:
            self._reader.join(max(seconds, 0.0))

    def answer(self) -> Solved:
        """What came back; waits for it."""
        if self._reader is not None:
            self._reader.join()
        return self._answer or UNKNOWN

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._reader is not None:
                self._reader.join()
            for pipe in (self._child.stdin, self._child.stdout):
                # what it had not read yet cannot be written any more
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        self._child = None

    def _talk(self, child: subprocess.Popen[bytes], job: object) -> None:
        try:
            _write(child.stdin, job)
            answer = _read(child.stdout)
            self._answer = answer if isinstance(answer, Solved) else UNKNOWN
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            self._answer = UNKNOWN
            child.kill()
            child.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", "from conflict.apart import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            start_new_session=True,
        )


def serve() -> None:
    """The child: solve what comes in until nothing does."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    Thread(target=_with_parent, args=(os.getppid(),), daemon=True).start()
    while True:
        try:
            program, seconds, gap, absolute, seed = _read(sys.stdin.buffer)
        except EOFError:
            return
        _write(answers, solve(program, Solver.HIGHS, seconds=seconds, gap=gap, absolute=absolute, seed=seed))


def _with_parent(parent: int) -> None:
    """Ends this process when its parent is gone, also in the middle of a program."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _write(pipe: IO[bytes] | None, what: object) -> None:
    if pipe is None:
        raise OSError("no pipe")
    pickle.dump(what, pipe, protocol=5)
    pipe.flush()


def _read(pipe: IO[bytes] | None) -> Any:
    if pipe is None:
        raise OSError("no pipe")
    return pickle.load(pipe)  # noqa: S301 - our own child or parent
