"""Run one attempt of one node's code, and turn whatever happens into an outcome.

Nothing that a node does gets past here: what it returns becomes :class:`~headrace.execution.Succeeded` or
:class:`~headrace.execution.Failed`, and so does what it raises, ``SystemExit`` included. The message of a failure is
the error's text only; the traceback goes to the logger ``headrace.node``.

==================  ====================================================================================
code                the attempt failed because
==================  ====================================================================================
NODE_ERROR          the code raised
FATAL               it raised :class:`~headrace.errors.FatalError`: no further attempt, no fallback
RESULT_ERROR        its result has an ``error``
VALUE_REFUSED       its output, its action or a context value is not JSON, or too large. Not fatal: the
                    same value mostly comes again, but a fallback node can still help
CANCELLED           it noticed that it is no longer wanted
PREP_ERROR          ``prep`` of a class node failed, which is not to be tried again
POST_ERROR          ``post`` of a class node failed after ``exec`` had done its work; the same
==================  ====================================================================================

The life cycle of class nodes is written once, as a coroutine: in a thread its methods are plain, so it ends at its
first step without a loop.
"""

# Catching everything is what this module is for.
# ruff: noqa: BLE001

from __future__ import annotations

__all__ = ["invoke_async", "invoke_sync"]

import asyncio
import inspect
import logging
import threading
from types import CoroutineType
from typing import Any

from headrace.context import Context
from headrace.errors import Cancelled, FatalError, HeadraceError, ValueRefused
from headrace.execution import Failed, Outcome, Succeeded
from headrace.node import Node, Result
from headrace.registry import Implementation
from headrace.values import NULL, Json, check_name, decode, encode, join_array

MESSAGE_CHARS_MAX = 2_000

_LOGGER = logging.getLogger("headrace.node")


async def invoke_async(implementation: Implementation, ctx: Context) -> Outcome:
    """Run *implementation*, async or not, in the running loop. Never raises, whatever the code does.

    Cancelling the task that runs this reaches the code as ``CancelledError`` and comes back as an outcome too.
    """
    try:
        if implementation.is_class:
            return await _live(implementation.target(), ctx)
        value = implementation.target(ctx) if implementation.takes_context else implementation.target()
        if inspect.isawaitable(value):
            value = await value
        return _succeeded(value, ctx)
    except BaseException as error:
        return _failed(error, ctx)


def invoke_sync(implementation: Implementation, ctx: Context) -> Outcome:
    """Run *implementation*, which is not async, in this thread. Never raises, whatever the code does."""
    try:
        if implementation.is_class:
            return _run_without_loop(implementation.target(), ctx)
        value = implementation.target(ctx) if implementation.takes_context else implementation.target()
        return _succeeded(value, ctx)
    except BaseException as error:
        return _failed(error, ctx)


def _succeeded(value: Any, ctx: Context) -> Succeeded:
    action: str | None = None
    if isinstance(value, Result):
        if value.error is not None:
            raise _ResultError(value.error)
        action = value.action
        if action is not None:
            _check_action(action)
        value = value.output
    if value is None:
        return Succeeded(NULL, action, ctx.operations)
    if isinstance(value, CoroutineType):
        value.close()
        raise ValueRefused("output is a coroutine: define the node with 'async def'")
    return Succeeded(encode(value, bytes_max=ctx.value_bytes_max, what="output"), action, ctx.operations)


def _check_action(action: object) -> None:
    if not isinstance(action, str):
        raise ValueRefused(f"the action of a result is a text or None, not {type(action).__name__}")
    check_name(action, "the action of a result")


def _failed(error: BaseException, ctx: Context, code: str | None = None, prepared: Json | None = None) -> Failed:
    """The failure that *error* is; *code* stands for what is neither fatal nor a cancellation."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error  # The operator's Ctrl-C, which is not the node's doing.
    if isinstance(error, asyncio.CancelledError):
        return Failed("the attempt was cancelled", "CANCELLED")
    if isinstance(error, Cancelled):
        return Failed(_message(error), "CANCELLED")
    _log(error, ctx)
    if isinstance(error, FatalError):
        return Failed(_message(error), "FATAL", fatal=True)
    if code is None:
        code = _CODES.get(type(error), "NODE_ERROR")
    return Failed(_message(error), code, prepared=prepared)


def _log(error: BaseException, ctx: Context) -> None:
    """Log what went wrong, with its traceback where it has one of the node's own."""
    execution = ctx.execution
    # An error that the author returned, or raised as fatal on purpose, is an answer and not a surprise.
    trace = None if isinstance(error, _ResultError | FatalError) else error
    _LOGGER.warning(
        "attempt %d of node %r in run %r failed: %s",
        execution.attempt,
        execution.node_id,
        execution.run_id,
        _message(error),
        exc_info=trace,
    )


def _message(error: BaseException) -> str:
    """The error's text, or its class's name where it has none; text that UTF-8 cannot hold is replaced."""
    try:
        text = str(error)
    except Exception:
        text = ""
    text = text.strip() or type(error).__name__
    if len(text) > MESSAGE_CHARS_MAX:
        text = text[: MESSAGE_CHARS_MAX - 1] + "…"
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


class _ResultError(HeadraceError):
    """A result with an error, as the error that it is."""

    def __init__(self, error: object) -> None:
        super().__init__(error or "the result has an error without a text")


_CODES: dict[type[BaseException], str] = {_ResultError: "RESULT_ERROR", ValueRefused: "VALUE_REFUSED"}


# Class nodes.


async def _live(node: Node, ctx: Context) -> Outcome:
    """Lead *node* through the part of its life that is this attempt; ``recover`` comes last, if anything went wrong."""
    seen: list[BaseException] = []
    try:
        outcome = await _live_through(node, ctx, seen)
    except BaseException as error:
        seen.append(error)
        outcome = _failed(error, ctx)
    if seen:
        await _recover(node, ctx, seen[-1])
    return outcome


async def _live_through(node: Node, ctx: Context, seen: list[BaseException]) -> Outcome:
    """The outcome; adds to *seen* the errors that end the node's life, not those that are tried again."""
    execution = ctx.execution
    try:
        prepared = await _prepare(node, ctx)
        value = decode(prepared)[0]
    except Exception as error:
        seen.append(error)
        return _failed(error, ctx, "PREP_ERROR")
    try:
        executed = await _settle(node.exec(ctx, value))
        if isinstance(executed, Result) and executed.error is not None:
            raise _ResultError(executed.error)
    except (FatalError, Cancelled):
        raise
    except Exception as error:
        if execution.attempt < execution.attempts_max:
            return _failed(error, ctx, prepared=prepared)
        seen.append(error)
        executed = await _settle(node.fallback(ctx, value, error))
    try:
        return _succeeded(await _settle(node.post(ctx, value, executed)), ctx)
    except Exception as error:
        seen.append(error)
        return _failed(error, ctx, "POST_ERROR")


async def _prepare(node: Node, ctx: Context) -> Json:
    """What ``prep`` gave and wrote, as ``[value, [[kind, key, value], ...]]``: of an earlier attempt, or of now.

    The writes go along because those of a failed attempt are discarded, and ``prep`` is not going to make them again.
    """
    carried = ctx.execution.prepared
    if carried is not None:
        ctx.replay(decode(carried)[1])
        return carried
    value = encode(
        await _settle(node.prep(ctx)),
        bytes_max=ctx.value_bytes_max,
        what="what prep returned, which has to reach the next attempt,",
    )
    writes = [join_array((encode(kind), encode(key), written or NULL)) for kind, key, written in ctx.operations]
    return join_array((value, join_array(writes)))


async def _settle(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _recover(node: Node, ctx: Context, error: BaseException) -> None:
    try:
        await _settle(node.recover(ctx, error))
    except BaseException as trouble:
        _failed(trouble, ctx)  # Logs it; what became of the node is settled already.


def _run_without_loop(node: Node, ctx: Context) -> Outcome:
    """Drive the life cycle of a node without ``async`` methods: nothing in it waits, so one step is all."""
    life = _live(node, ctx)
    try:
        life.send(None)
    except StopIteration as stop:
        outcome: Outcome = stop.value
        return outcome
    life.close()
    raise ValueRefused(f"{type(node).__name__} returned something to wait for: define its method with 'async def'")
