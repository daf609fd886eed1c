"""The errors of Headrace, one small tree, split by who has to act.

    HeadraceError
    ├── DefinitionError         the author of a flow: a blueprint or a node is not usable
    │   └── BlueprintInvalid    every problem of a blueprint, with its code and its place
    ├── ValueRefused            whoever gave a value: it is not JSON, or larger than the limit
    ├── ExpressionFailed        the author of an expression: it could not be evaluated
    ├── RecordRefused           whoever wrote a record: which field, and what was expected
    ├── CommandRefused          the caller: a command that this run does not take
    ├── RunEndedBadly           the caller of ``Flow.run``: the run ended failed or cancelled
    ├── FatalError              raised by a node: no further attempt and no fallback helps
    ├── Cancelled               raised inside a node whose attempt is no longer wanted
    └── StoreError              the operator: the store cannot be used as it is
        ├── StoreLocked         another worker holds the folder
        ├── StoreTooNew         a newer version of Headrace wrote it
        ├── StoreFull           nothing more can be written
        ├── StoreDamaged        its files cannot be read any more
        └── StartsFailed        of many starts, some are not known to be durable

Errors that an operator sees end with what to do.
"""

from __future__ import annotations

__all__ = [
    "BlueprintInvalid",
    "Cancelled",
    "CommandRefused",
    "DefinitionError",
    "ExpressionFailed",
    "FatalError",
    "HeadraceError",
    "Problem",
    "RecordRefused",
    "RunEndedBadly",
    "StartsFailed",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "ValueRefused",
]

from typing import Any, NamedTuple


class HeadraceError(Exception):
    """Root of everything that Headrace raises on purpose."""


class Problem(NamedTuple):
    """One thing that is wrong with a blueprint.

    *code* is one of SEMANTICS section 1; *where* names the node (``node 'A'``), the edge
    (``edge 'A' -> 'B'``) or is ``blueprint``; *warning* does not keep the blueprint from running.
    """

    code: str
    where: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.code} at {self.where}: {self.message}"


class DefinitionError(HeadraceError):
    """Raised when a flow, a node or a setting is defined in a way that cannot work."""


class BlueprintInvalid(DefinitionError):
    """Raised when a blueprint has problems; all of them are in *problems*."""

    def __init__(self, blueprint_id: str, problems: tuple[Problem, ...]) -> None:
        self.blueprint_id = blueprint_id
        self.problems = problems
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"blueprint {blueprint_id!r} cannot run:\n{lines}")


class ValueRefused(HeadraceError):
    """Raised when a value is not JSON, is nested too deeply, or is larger than the limit."""


class ExpressionFailed(HeadraceError):
    """Raised when a condition or a transform could not be evaluated, or would cost too much."""


class RecordRefused(HeadraceError):
    """Raised when a record cannot be read: says which field, and what was expected."""


class CommandRefused(HeadraceError):
    """Raised when a command does not fit the state of its run; nothing was changed."""


class RunEndedBadly(HeadraceError):
    """Raised when a run that somebody waits for ended failed or cancelled; *result* is all of it."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class FatalError(HeadraceError):
    """Raised by a node when no further attempt and no fallback would help."""


class Cancelled(HeadraceError):
    """Raised inside a node whose attempt timed out or whose run was cancelled."""


class StoreError(HeadraceError):
    """Raised when the local store cannot be used as it is."""


class StoreLocked(StoreError):
    """Raised when another worker holds the folder of the store."""


class StoreTooNew(StoreError):
    """Raised when the store was written by a newer version of Headrace."""


class StoreFull(StoreError):
    """Raised when the disk takes no more; nothing that was acknowledged is lost."""


class StoreDamaged(StoreError):
    """Raised when files of the store are damaged or gone."""


class StartsFailed(StoreError):
    """Raised when of many starts some were refused or are not known to be durable: *run_ids* names them.

    All others are durable. One that is not known to be may have been taken all the same; to start it again under the same
    run id is harmless.
    """

    def __init__(self, message: str, run_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.run_ids = run_ids
