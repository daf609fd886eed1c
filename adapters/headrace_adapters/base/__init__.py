"""What every adapter shares: the loop of a worker, and the port that carries its work. See ``README.md`` beside this."""

from headrace_adapters.base.carrier import Carrier, CommitUndone, Job, Owner
from headrace_adapters.base.loop_thread import LoopThread
from headrace_adapters.base.worker_loop import WorkerLoop

__all__ = ["Carrier", "CommitUndone", "Job", "LoopThread", "Owner", "WorkerLoop"]
