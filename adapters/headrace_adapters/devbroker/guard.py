"""Processes that do not outlive this one, however it ends.

Beside each process stands a guard: a shell that reads from a pipe whose other end only this process holds. When this
process ends, even by SIGKILL, the pipe ends too, and the guard kills. A process that ended in the regular way is
reported to its guard, which then leaves by itself, so a number that the system gives out again is never hit.

* The process waits at a gate until its guard is there: there is no moment at which it would be left behind.
* ``PR_SET_PDEATHSIG`` would not do: it kills when the *thread* ends that started the process, and is Linux's only.
* Both have a session of their own, so that Ctrl-C in a terminal reaches this process alone, which then decides.
"""

from __future__ import annotations

__all__ = ["GuardedProcess"]

import os
import signal
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path

from headrace_adapters.devbroker.waits import Unwanted, beats, never

SHELL = "/bin/sh"
GATE = 'read -r go && exec "$@" </dev/null'
# The session's first process leads its group, so what it has started goes with it.
GUARD = 'read -r ended || kill -s KILL -- "-$1"'

_guarded: weakref.WeakSet[GuardedProcess] = weakref.WeakSet()


class GuardedProcess:
    """A running process; *console* is the file to which everything that it says is appended."""

    def __init__(self, command: Sequence[str | Path], *, folder: Path, console: Path) -> None:
        shell = [SHELL, "-c"]
        with console.open("ab") as said:
            self._process = subprocess.Popen(  # noqa: S603  (the caller's own command, without a shell's words)
                [*shell, GATE, "gate", *map(str, command)],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        # Leaving this block without the word closes the gate for good.
        with self._process.stdin as gate:
            self._guard = subprocess.Popen(  # noqa: S603  (the same)
                [*shell, GUARD, "guard", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            gate.write(b"go\n")
        _guarded.add(self)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._dismiss_guard()
        return code

    def wait(self, timeout_s: float, unwanted: Unwanted = never) -> int | None:
        """The exit code, or None where it still runs after *timeout_s*."""
        for _ in beats(timeout_s, unwanted):
            if self.poll() is not None:
                break
        return self.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        self._process.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP the process, and wait until none of its threads goes on: on other processors they do for a while."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(self.pid, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                # It ended just before. That is told only once, so it has to be passed on.
                self._process.returncode = os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """SIGKILL the process and what it has started, and wait until the system has taken everything away."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        if self._guard.returncode is None:
            self._guard.communicate(b"ended\n")

    def _let_go(self) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.close()


def _let_go_in_child() -> None:
    """A forked child holds the pipes too; were it to outlive its parent, the guards would wait for it."""
    for process in list(_guarded):
        process._let_go()


os.register_at_fork(after_in_child=_let_go_in_child)
