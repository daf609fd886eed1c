"""CPU-bound nodes: a few processes, each with a thread here that feeds it one execution at a time.

Every process has its own pipe, so one that dies takes only its own execution with it, and one whose execution is
withdrawn can be killed, which is the only way to stop code that computes. Both are replaced when there is work.

Processes are spawned, not forked: the engine's threads and a Kafka client do not survive a fork. So the other side
imports the node's module anew. A node there gets a snapshot of the run's context, no dependencies, and its heartbeats
come through.
"""

from __future__ import annotations

__all__ = ["ProcessExecutor"]

import contextlib
import multiprocessing
import pickle
import queue
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from headrace.context import Context
from headrace.execution import Execution, Failed, Outcome, Succeeded
from headrace.invoke import invoke_sync
from headrace.registry import Implementation
from headrace.values import Json
from headrace_adapters.execution.outbox import Outbox

_SPAWN = multiprocessing.get_context("spawn")

# A process that was killed, or whose pipe is closed, is gone at once; this only bounds a broken system.
_END_S_MAX = 5.0


class ProcessExecutor:
    """Runs implementations of kind ``process`` in at most *processes_max* processes, started when needed."""

    def __init__(self, outbox: Outbox, *, processes_max: int) -> None:
        if processes_max < 1:
            raise ValueError(f"processes_max must be at least 1, not {processes_max}")
        self._outbox = outbox
        self._processes_max = processes_max
        self._queue: queue.SimpleQueue[tuple[Implementation, Context, Execution] | None] = queue.SimpleQueue()
        self._slots: list[_Slot] = []
        self._queued = 0

    def submit(self, batch: Sequence[tuple[Implementation, Context]]) -> None:
        """Queue all of *batch*; never blocks. To be called from one thread."""
        for implementation, ctx in batch:
            # The live view of the context must be read in the thread that changes it.
            execution = ctx.execution._replace(context=dict(ctx.execution.context))
            self._queue.put((implementation, ctx, execution))
            self._queued += 1
            if len(self._slots) < min(self._processes_max, self._queued):
                self._slots.append(_Slot(self._serve, len(self._slots)))

    def cancel(self, withdrawn: Iterable[Context]) -> None:
        """Kill the processes that are inside of contexts that have been withdrawn; queued ones come back at once."""
        for ctx in withdrawn:
            if not any(slot.kill(ctx) for slot in self._slots) and self._outbox.give_up(ctx):
                self._outbox.tell()

    def close(self, timeout_s: float) -> bool:
        """Kill what runs and end all processes; False if that took longer than *timeout_s*."""
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                self._outbox.give_up(job[1])
        for _ in self._slots:
            self._queue.put(None)
        for slot in self._slots:
            slot.kill(slot.ctx)
            slot.thread.join(timeout_s)
        return not any(slot.thread.is_alive() for slot in self._slots)

    def _serve(self, slot: _Slot) -> None:
        while (job := self._queue.get()) is not None:
            implementation, ctx, execution = job
            if slot.enter(ctx):
                outcome = slot.run(implementation, ctx, execution)
                slot.leave()
                self._outbox.finish(ctx, outcome)
            else:
                self._outbox.give_up(ctx)
            self._outbox.tell()
        slot.stop()


class _Slot:
    """One process, its pipe, and the thread that feeds it."""

    def __init__(self, serve: Any, number: int) -> None:
        self.ctx: Context | None = None
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._killed = False
        # Between looking at what the process is inside of and killing it, it must not move on to something else.
        self._lock = threading.Lock()
        self.thread = threading.Thread(target=serve, args=(self,), name=f"headrace-process-{number}", daemon=True)
        self.thread.start()

    def enter(self, ctx: Context) -> bool:
        """Say that *ctx* comes next; False if it has been withdrawn meanwhile."""
        with self._lock:
            if ctx.cancelled:
                return False
            self.ctx = ctx
            return True

    def leave(self) -> None:
        """Say that nothing runs; a process that was killed late, after its outcome had come, is replaced."""
        with self._lock:
            self.ctx = None
            if self._killed:
                self.stop()

    def kill(self, ctx: Context | None) -> bool:
        """Kill the process if it is inside of *ctx*; whether it is."""
        with self._lock:
            if ctx is None or self.ctx is not ctx:
                return False
            self._killed = True
            if self._process is not None:
                self._process.kill()
            return True

    def run(self, implementation: Implementation, ctx: Context, execution: Execution) -> Outcome:
        """Send one execution over and wait for its outcome. Never raises."""
        try:
            job = pickle.dumps((implementation, execution, ctx.value_bytes_max))
        except Exception as error:  # noqa: BLE001 - whatever the code of a pickled object raises
            return Failed(f"{implementation.source} cannot be sent to a process: {error}", "PROCESS_FAILED")
        try:
            pipe = self._pipe or self._start()
            pipe.send_bytes(job)
            while isinstance(answer := pipe.recv(), _Progress):
                ctx.progress = answer.progress
        except (EOFError, OSError) as error:
            return self._ended(implementation, ctx, error)
        assert isinstance(answer, Succeeded | Failed), "a process answers with an outcome"
        return answer

    def stop(self) -> None:
        """End the process; it has nothing to do, or is being killed."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        self._killed = False
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(_END_S_MAX)
            process.kill()

    def _start(self) -> Connection:
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_serve_executions, args=(theirs,), name=self.thread.name, daemon=True)
        process.start()
        theirs.close()
        with self._lock:
            self._process, self._pipe = process, ours
            if self._killed:
                process.kill()
        return ours

    def _ended(self, implementation: Implementation, ctx: Context, error: Exception) -> Failed:
        process = self._process
        self.stop()
        if ctx.cancelled:
            return Failed("the attempt was cancelled and its process killed", "CANCELLED")
        code = str(error) if process is None else f"exit code {process.exitcode}"
        return Failed(f"the process that ran {implementation.source} ended ({code})", "PROCESS_DIED")


class _Progress:
    """A heartbeat on its way over the pipe."""

    __slots__ = ("progress",)

    def __init__(self, progress: Json | None) -> None:
        self.progress = progress


class _NoDependencies(Mapping[str, Any]):
    """Says why there is nothing."""

    def __getitem__(self, name: str) -> Any:
        raise KeyError(f"{name}: dependencies stay in the worker, and a cpu_bound node runs in a process of its own")

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _serve_executions(pipe: Connection) -> None:
    """What a process does until the worker closes its end or dies."""
    # Ctrl-C goes to all processes of a terminal; what is to happen then is the worker's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sending = threading.Lock()

    def on_heartbeat(progress: Json | None) -> None:
        with sending:
            pipe.send(_Progress(progress))

    with contextlib.suppress(EOFError, OSError):
        while True:
            outcome = _execute(pipe.recv_bytes(), on_heartbeat)
            with sending:
                pipe.send(outcome)


def _execute(job: bytes, on_heartbeat: Any) -> Outcome:
    try:
        implementation, execution, value_bytes_max = pickle.loads(job)  # noqa: S301 - the worker wrote it
    except Exception as error:  # noqa: BLE001 - importing the node's module runs code of its author
        return Failed(f"the node's module cannot be imported in a process of its own: {error!r}", "PROCESS_FAILED")
    ctx = Context(execution, _NoDependencies(), value_bytes_max=value_bytes_max, on_heartbeat=on_heartbeat)
    return invoke_sync(implementation, ctx)
