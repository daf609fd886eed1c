from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from headrace.context import Context
from headrace.errors import Cancelled, FatalError
from headrace.execution import NOT_TRIED_AGAIN, Execution, Failed, Operation, Outcome, Succeeded
from headrace.invoke import MESSAGE_CHARS_MAX, invoke_async, invoke_sync
from headrace.node import Node, Result
from headrace.registry import Implementation

EXECUTION = Execution(1, "r1", "b", "n", -1, 0, 1, "n", b"{}", b'{"x":1}', {}, None, None)


def run_sync(target: Callable[..., Any], ctx: Context | None = None, **changes: Any) -> Outcome:
    implementation = Implementation("n", target)
    assert implementation.kind == "sync"
    return invoke_sync(implementation, ctx or Context(EXECUTION._replace(**changes), value_bytes_max=100))


def run_async(target: Callable[..., Any], ctx: Context | None = None, **changes: Any) -> Outcome:
    ctx = ctx or Context(EXECUTION._replace(**changes), value_bytes_max=100)
    return asyncio.run(invoke_async(Implementation("n", target), ctx))


def as_async(target: Callable[[Context], Any]) -> Callable[[Context], Any]:
    async def node(ctx: Context) -> Any:
        await asyncio.sleep(0)
        return target(ctx)

    return node


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Runs a plain function of the context, as it is or behind ``async``."""
    if request.param == "sync":
        return run_sync
    return lambda target, **changes: run_async(as_async(target), **changes)


def failing(error: BaseException) -> Callable[[Context], Any]:
    def node(ctx: Context) -> None:
        raise error

    return node


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1]}, Succeeded(b'{"a":[1]}')),
        (None, Succeeded(b"null")),
        (0, Succeeded(b"0")),
        (Result(output=2, action="go"), Succeeded(b"2", "go")),
        (Result(action="göö"), Succeeded(b"null", "göö")),
    ],
)
def test_what_a_node_returns_becomes_its_output(run: Callable[..., Outcome], value: Any, expected: Outcome) -> None:
    assert run(lambda ctx: value) == expected


def test_a_function_may_do_without_the_context() -> None:
    async def node() -> int:
        return 2

    assert run_sync(lambda: 1) == Succeeded(b"1")
    assert run_async(node) == Succeeded(b"2")


def test_a_plain_function_can_run_in_a_loop_too() -> None:
    assert run_async(lambda ctx: ctx.input) == Succeeded(b'{"x":1}')


def test_writes_go_along_with_success(run: Callable[..., Outcome]) -> None:
    def node(ctx: Context) -> None:
        ctx.set("k", 1)
        ctx.increment("n")

    assert run(node) == Succeeded(b"null", None, (Operation("set", "k", b"1"), Operation("increment", "n", b"1")))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("broken"), Failed("broken")),
        (ValueError(), Failed("ValueError")),
        (KeyError("k"), Failed("'k'")),
        (FatalError("hopeless"), Failed("hopeless", "FATAL", fatal=True)),
        (Cancelled("stopped"), Failed("stopped", "CANCELLED")),
        (asyncio.CancelledError(), Failed("the attempt was cancelled", "CANCELLED")),
        (SystemExit(3), Failed("3")),
        (GeneratorExit(), Failed("GeneratorExit")),
        (MemoryError(), Failed("MemoryError")),
    ],
)
def test_whatever_a_node_raises_becomes_a_failure(
    run: Callable[..., Outcome], error: BaseException, expected: Failed
) -> None:
    assert run(failing(error)) == expected


def test_ctrl_c_is_the_operators() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_sync(failing(KeyboardInterrupt()))


@pytest.mark.parametrize(
    ("error", "message"),
    [("payment refused", "payment refused"), ("", "without a text"), ({"code": 5}, "{'code': 5}")],
)
def test_a_result_with_an_error_is_a_failure(run: Callable[..., Outcome], error: Any, message: str) -> None:
    outcome = run(lambda ctx: Result(output=1, error=error))

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.fatal) == ("RESULT_ERROR", False)
    assert message in outcome.message


@pytest.mark.parametrize("value", [{1}, float("nan"), "x" * 200, Result(action=5), Result(action="\ud800"), object()])  # type: ignore[arg-type]
def test_a_value_that_cannot_be_recorded_is_a_failure_that_a_fallback_may_mend(
    run: Callable[..., Outcome], value: Any
) -> None:
    outcome = run(lambda ctx: value)

    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.fatal) == ("VALUE_REFUSED", False)


def test_a_cyclic_value_is_refused() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    outcome = run_sync(lambda: cycle)

    assert isinstance(outcome, Failed)
    assert outcome.code == "VALUE_REFUSED"


def test_a_plain_function_that_gives_a_coroutine_is_told_to_be_async() -> None:
    async def other() -> int:
        return 1

    def plain() -> Any:
        return other()

    outcome = run_sync(plain)

    assert isinstance(outcome, Failed)
    assert "async def" in outcome.message
    assert run_async(plain) == Succeeded(b"1")


def test_a_message_is_the_errors_text_and_nothing_more(
    run: Callable[..., Outcome], caplog: pytest.LogCaptureFixture
) -> None:
    class Nameless(Exception):
        def __str__(self) -> str:
            raise OSError

    long = run(failing(ValueError("y" * 5_000)))
    surrogate = run(failing(ValueError("a\ud800b")))

    assert isinstance(long, Failed)
    assert len(long.message) == MESSAGE_CHARS_MAX
    assert surrogate == Failed("a?b")
    assert run(failing(Nameless())) == Failed("Nameless")


def test_the_traceback_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="headrace.node"):
        run_sync(failing(ValueError("broken")))
        run_sync(lambda: Result(error="refused"))

    raised, returned = caplog.records
    assert raised.getMessage() == "attempt 1 of node 'n' in run 'r1' failed: broken"
    assert raised.exc_info is not None
    assert returned.exc_info is None


async def test_cancelling_the_task_comes_back_as_an_outcome() -> None:
    started = asyncio.Event()

    async def node() -> None:
        started.set()
        await asyncio.sleep(3600)

    task = asyncio.create_task(invoke_async(Implementation("n", node), Context(EXECUTION)))
    await started.wait()
    task.cancel()

    assert await task == Failed("the attempt was cancelled", "CANCELLED")


# Class nodes.

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def calls() -> list[str]:
    CALLS.clear()
    return CALLS


class Story(Node):
    """Says what is called with what; *fails* says where to raise what."""

    fails: dict[str, BaseException] = {}  # noqa: RUF012 - never changed

    def say(self, phase: str, *values: Any) -> None:
        CALLS.append(" ".join([phase, *map(str, values)]))
        if phase in self.fails:
            raise self.fails[phase]

    def prep(self, ctx: Context) -> Any:
        ctx.increment("preps")
        self.say("prep")
        return ("p", 1)

    def exec(self, ctx: Context, prepared: Any) -> Any:
        self.say("exec", prepared)
        return "e"

    def fallback(self, ctx: Context, prepared: Any, error: Exception) -> Any:
        self.say("fallback", prepared, repr(error))
        return "f"

    def post(self, ctx: Context, prepared: Any, executed: Any) -> Any:
        self.say("post", prepared, executed)
        return Result(output=executed, action="done")

    def recover(self, ctx: Context, error: BaseException) -> Any:
        self.say("recover", repr(error))


def story(**fails: BaseException) -> type[Story]:
    return type("Scripted", (Story,), {"fails": fails})


def as_async_class(node: type[Story]) -> type[Story]:
    """The same node with every phase ``async``."""

    def wrap(name: str) -> Any:
        async def phase(self: Story, *arguments: Any) -> Any:
            await asyncio.sleep(0)
            return getattr(super(wrapped, self), name)(*arguments)

        return phase

    wrapped = type("Async", (node,), {name: wrap(name) for name in ("prep", "exec", "fallback", "post", "recover")})
    return wrapped


@pytest.fixture(params=["sync", "async"])
def live(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Runs a class node as it is, or with all its phases ``async``."""
    if request.param == "sync":
        return run_sync
    return lambda node, **changes: run_async(as_async_class(node), **changes)


Live = Callable[..., Outcome]


def test_a_class_node_lives_through_its_phases(live: Live, calls: list[str]) -> None:
    assert live(story()) == Succeeded(b'"e"', "done", (Operation("increment", "preps", b"1"),))
    assert calls == ["prep", "exec ['p', 1]", "post ['p', 1] e"]


def test_what_prep_gave_and_wrote_goes_to_the_next_attempt(live: Live, calls: list[str]) -> None:
    first = live(story(exec=OSError("down")), attempt=1, attempts_max=2)
    assert isinstance(first, Failed)
    assert (first.message, first.code, first.fatal) == ("down", "NODE_ERROR", False)
    assert first.prepared is not None

    second = live(story(), attempt=2, attempts_max=2, prepared=first.prepared)
    assert second == Succeeded(b'"e"', "done", (Operation("increment", "preps", b"1"),))
    assert calls == ["prep", "exec ['p', 1]", "exec ['p', 1]", "post ['p', 1] e"]


def test_the_fallback_comes_after_the_last_attempt(live: Live, calls: list[str]) -> None:
    outcome = live(story(exec=OSError("down")), attempt=2, attempts_max=2, prepared=b'["carried",[]]')

    assert outcome == Succeeded(b'"f"', "done")
    assert calls == [
        "exec carried",
        "fallback carried OSError('down')",
        "post carried f",
        "recover OSError('down')",
    ]


def test_a_fallback_that_fails_fails_the_node(live: Live, calls: list[str]) -> None:
    outcome = live(story(exec=OSError("down"), fallback=ValueError("too")))

    assert outcome == Failed("too")
    assert calls[-1] == "recover ValueError('too')"


def test_without_a_fallback_the_error_stays(calls: list[str]) -> None:
    class Bare(Node):
        def exec(self, ctx: Context, prepared: Any) -> Any:
            raise OSError("down")

        def recover(self, ctx: Context, error: BaseException) -> None:
            CALLS.append(f"recover {error}")

    assert run_sync(Bare) == Failed("down")
    assert calls == ["recover down"]


def test_a_fatal_error_ends_at_once_without_a_fallback(live: Live, calls: list[str]) -> None:
    outcome = live(story(exec=FatalError("no")), attempt=1, attempts_max=3)

    assert outcome == Failed("no", "FATAL", fatal=True)
    assert calls == ["prep", "exec ['p', 1]", "recover FatalError('no')"]


def test_a_cancelled_exec_is_recovered_from_and_nothing_else(live: Live, calls: list[str]) -> None:
    assert live(story(exec=Cancelled("stop"))) == Failed("stop", "CANCELLED")
    assert live(story(exec=asyncio.CancelledError())) == Failed("the attempt was cancelled", "CANCELLED")
    assert calls[2::3] == ["recover Cancelled('stop')", "recover CancelledError()"]


def test_a_prep_that_fails_goes_to_recover_and_is_not_tried_again(live: Live, calls: list[str]) -> None:
    outcome = live(story(prep=OSError("no file")), attempts_max=3)

    assert outcome == Failed("no file", "PREP_ERROR")
    assert "PREP_ERROR" in NOT_TRIED_AGAIN
    assert calls == ["prep", "recover OSError('no file')"]


def test_a_post_that_fails_is_not_tried_again(live: Live, calls: list[str]) -> None:
    outcome = live(story(post=OSError("late")), attempts_max=3)

    assert outcome == Failed("late", "POST_ERROR")
    assert "POST_ERROR" in NOT_TRIED_AGAIN
    assert calls[-1] == "recover OSError('late')"


def test_what_prep_returns_has_to_be_json(calls: list[str]) -> None:
    class Unsendable(Story):
        def prep(self, ctx: Context) -> Any:
            return object()

    outcome = run_sync(Unsendable)

    assert isinstance(outcome, Failed)
    assert outcome.code == "PREP_ERROR"
    assert "what prep returned" in outcome.message
    assert len(calls) == 1


def test_an_error_result_of_exec_is_a_failed_attempt(calls: list[str]) -> None:
    class Refusing(Story):
        def exec(self, ctx: Context, prepared: Any) -> Any:
            return Result(error="refused")

    first = run_sync(Refusing, attempts_max=2)
    last = run_sync(Refusing)

    assert isinstance(first, Failed)
    assert (first.message, first.code) == ("refused", "RESULT_ERROR")
    assert last == Succeeded(b'"f"', "done", (Operation("increment", "preps", b"1"),))


def test_a_recover_that_fails_changes_nothing(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    outcome = live(story(exec=ValueError("first"), fallback=ValueError("second"), recover=SystemExit("third")))

    assert outcome == Failed("second")
    assert "third" in caplog.text


def test_every_kind_of_write_of_prep_is_carried() -> None:
    class Writing(Node):
        def prep(self, ctx: Context) -> None:
            ctx.set("a", None)
            ctx.append("l", {"x": 1})
            ctx.delete("a")

        def exec(self, ctx: Context, prepared: Any) -> Any:
            if ctx.attempt == 1:
                raise OSError
            return [ctx.has("a"), ctx.get("l")]

    first = run_sync(Writing, attempts_max=2)
    assert isinstance(first, Failed)
    second = run_sync(Writing, attempt=2, attempts_max=2, prepared=first.prepared)

    operations = (Operation("set", "a", b"null"), Operation("append", "l", b'{"x":1}'), Operation("delete", "a"))
    assert second == Succeeded(b'[false,[{"x":1}]]', None, operations)


def test_every_execution_has_a_node_object_of_its_own() -> None:
    class Counting(Node):
        def __init__(self) -> None:
            self.count = 0

        def exec(self, ctx: Context, prepared: Any) -> int:
            self.count += 1
            return self.count

    assert [run_sync(Counting), run_sync(Counting)] == [Succeeded(b"1")] * 2


def test_a_plain_method_that_returns_something_to_wait_for_is_told_to_be_async() -> None:
    class Lazy(Node):
        def exec(self, ctx: Context, prepared: Any) -> Any:
            return forever()

    class Never:
        def __await__(self) -> Any:
            yield

    async def forever() -> None:
        await Never()

    outcome = run_sync(Lazy)
    assert isinstance(outcome, Failed)
    assert "define its method with 'async def'" in outcome.message


def test_a_constructor_that_fails_is_a_failure() -> None:
    class Broken(Node):
        def __init__(self) -> None:
            raise OSError("no")

    assert run_sync(Broken) == Failed("no")
