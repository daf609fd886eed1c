"""Errors on their way over a link, and what it means that the worker is gone.

An error travels as the name of its class and its text, and is raised as the same class at the other end if it is one
of :mod:`headrace.errors`; any other name is raised as :class:`HeadraceError`, so no peer can choose what is made.
"""

from __future__ import annotations

__all__ = ["error_from_wire", "error_to_wire", "gone_error", "stopped_error", "stopping_error"]

from typing import Any

from headrace import errors
from headrace.commands import Command, Resume, Signal, Start
from headrace.errors import BlueprintInvalid, HeadraceError, Problem, RunEndedBadly, StartsFailed, StoreError

# Nobody reads a longer text.
MESSAGE_CHARS_MAX = 100_000

_CLASSES: dict[str, type[HeadraceError]] = {
    name: cls for name in errors.__all__ if isinstance(cls := getattr(errors, name), type) and issubclass(cls, HeadraceError)
}

_START_AGAIN = "start the worker again"


def error_to_wire(error: BaseException) -> dict[str, Any]:
    """*error* as it stands in a response; one that is not of Headrace is called by its class within the text."""
    name = next((cls.__name__ for cls in type(error).__mro__ if _CLASSES.get(cls.__name__) is cls), None)
    if name is None:
        text = f"the worker failed at this request ({type(error).__name__}: {error}); look into its log"
        return {"type": HeadraceError.__name__, "message": _clean(text)}
    wire: dict[str, Any] = {"type": name, "message": _clean(str(error))}
    if isinstance(error, BlueprintInvalid):
        wire["blueprintId"] = _clean(error.blueprint_id)
        wire["problems"] = [[_clean(p.code), _clean(p.where), _clean(p.message), p.warning] for p in error.problems]
    return wire


def error_from_wire(wire: Any) -> HeadraceError:
    """The error that a response holds, ready to be raised."""
    if not isinstance(wire, dict) or not isinstance(wire.get("message"), str):
        return HeadraceError("the worker answered with an error that cannot be read; use the same version of Headrace")
    cls = _CLASSES.get(wire.get("type", ""), HeadraceError)
    # Not through __init__, since two of the classes make their text out of what does not travel.
    error = cls.__new__(cls, wire["message"])
    if isinstance(error, BlueprintInvalid):
        error.blueprint_id = wire.get("blueprintId", "")
        error.problems = tuple(Problem(*problem) for problem in wire.get("problems", ()))
    if isinstance(error, RunEndedBadly):
        error.result = None
    if isinstance(error, StartsFailed):
        # Raised by the client that sent them, which knows which ones; a worker that did would not be asked for many.
        error.run_ids = ()
    return error


def stopped_error(command: Command | None) -> StoreError:
    """For a request that is left without an answer; *command* is what it handed over, if it did."""
    if command is None:
        return StoreError(f"the worker stopped before it answered; {_START_AGAIN}, then try again")
    lost = f"the worker stopped before it answered, so the outcome of this {type(command).__name__.lower()} is unknown"
    run = command.run_id
    if isinstance(command, Start):
        return StoreError(f"{lost}; {_START_AGAIN}, then try again: sending it again is safe, run {run!r} starts once")
    if isinstance(command, Resume) and command.key is not None:
        return StoreError(f"{lost}; {_START_AGAIN}, then try again: sending it again is safe, its key is applied once")
    if isinstance(command, Resume | Signal):
        return StoreError(
            f"{lost}; {_START_AGAIN}, then look at the status of run {run!r} before you try again: "
            "sent again it may be applied twice"
        )
    return StoreError(f"{lost}; {_START_AGAIN}, then try again: sending it again changes nothing more")


def gone_error() -> StoreError:
    """For a request that was not sent, because the worker is known to have stopped."""
    return StoreError(f"the worker stopped, so nothing was sent; {_START_AGAIN}, then try again")


def stopping_error() -> StoreError:
    """For a request that comes while the worker stops."""
    return StoreError(f"the worker is stopping and did nothing about this request; {_START_AGAIN}, then try again")


def _clean(text: str) -> str:
    """Text that UTF-8 can hold, for messages may quote what was refused for just that."""
    return text[:MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
