"""What log records of nodes and adapters look like while a command works in its own process."""

from __future__ import annotations

__all__ = ["quiet_logs", "worker_logs"]

import logging

from headrace_adapters.cli.output import Output

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _NoteHandler(logging.Handler):
    """Writes warnings as remarks, above the live progress where there is one."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "headrace.node" and record.module == "invoke":
            return  # That an attempt failed is shown as progress.
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            self.handleError(record)  # Its arguments do not fit its text: told as logging does it.
        else:
            self._output.note((f"{record.levelname.lower()} ", "yellow"), message)


def quiet_logs(output: Output, *, debug: bool) -> None:
    """For ``run``: warnings, one line each; failures of nodes are shown as progress, their tracebacks with *debug*."""
    if debug:
        worker_logs(debug=True)
        return
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(_NoteHandler(output))


def worker_logs(*, debug: bool) -> None:
    """For ``worker``: whole records on standard error, for whatever collects logs; an app's own set-up goes first."""
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, format=_FORMAT)
    # The loop tells of every selector and slow callback.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
