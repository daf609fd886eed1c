"""Flows that were written for worlds: one for each kind of thing that a run may be in the middle of."""

from __future__ import annotations

__all__ = ["known_flows"]

from functools import cache
from typing import Any

from .case_types import Entry, Order
from .known_flow import KnownFlow, answer, batch, config, sleep, sub, wait

BOOM: Entry = {"raise": "boom"}
ECHO: list[Entry] = [{"echo": True}]


@cache
def known_flows() -> tuple[KnownFlow, ...]:
    """All of them."""
    return (*_plain(), *_with_failures(), *_with_time(), *_with_people(), *_with_children(), *_with_turns())


def _plain() -> list[KnownFlow]:
    branches = "start>b1>join, start>b2>join, start>b3>join"

    def parts(given: int) -> dict[str, Any]:
        return dict.fromkeys(("b1", "b2", "b3"), given + 2)

    return [
        KnownFlow("chained", "a>b>c>d", lambda given: given + 4),
        KnownFlow("ahead", "a>b>c>d>e", lambda given: given + 5, metadata={"runAhead": True}),
        KnownFlow("fanned", branches, parts, does={"join": ECHO}),
        KnownFlow(
            "raced",
            f"{branches}, b1>first, b2>first, b3>first",
            lambda given: {"join": parts(given), "first": "first"},
            special={"first": config(joinStrategy="any")},
            does={"join": ECHO, "first": [{"output": "first"}]},
        ),
        KnownFlow(
            "enough",
            "b1>two, b2>two, b3>two, two>after",
            lambda given: "enough",
            special={"two": config(joinStrategy={"atLeast": 2})},
            does={"two": [{"output": "enough"}], "after": ECHO},
        ),
        KnownFlow(
            "chosen",
            "a>left>end, a>right>end",
            lambda given: {"left": given + 2},
            does={"end": ECHO},
            on_edges={"a>left": {"condition": "result.output > 0"}, "a>right": {"condition": "result.output < 0"}},
            done={"right": 0},
        ),
    ]


def _with_failures() -> list[KnownFlow]:
    return [
        KnownFlow(
            "mended",
            "flaky>broken>after, rescue",
            lambda given: given + 13,
            special={
                "flaky": config(maxRetries=2, retryDelay=40),
                "broken": config(maxRetries=2, retryDelay=20, fallback="rescue"),
            },
            does={"flaky": [BOOM, {"add": 2}], "broken": [BOOM], "rescue": [{"add": 10}]},
            done={"broken": 0},
            attempts={"flaky": 2, "broken": 2, "rescue": 1, "after": 1},
        ),
        KnownFlow(
            "failed",
            "before>broken>never",
            lambda given: None,
            special={"broken": config(maxRetries=5)},
            does={"broken": [BOOM, {"raise": "for good", "fatal": True}]},
            done={"broken": 0, "never": 0},
            attempts={"broken": 2},
            failed=("broken",),
        ),
        KnownFlow(
            "poisoned",
            "a>good>join, a>bad>join, good>further",
            lambda given: None,
            does={"bad": [BOOM]},
            done={"bad": 0, "join": 0},
            attempts={"bad": 1, "join": 0},
            failed=("bad", "join"),
        ),
        KnownFlow(
            "hung",
            "hangs>after, rescue",
            lambda given: given + 2,
            special={"hangs": config(timeout=100, maxRetries=3, retryDelay=10, fallback="rescue")},
            does={"hangs": [{"hang": True}]},
            done={"hangs": 0},
            attempts={"hangs": 3, "rescue": 1},
        ),
        KnownFlow(
            "hung apart",
            "a>hangs 1>join, a>hangs 2>join, rescue 1, rescue 2",
            lambda given: {"hangs 1": given + 2, "hangs 2": given + 2},
            special={
                "hangs 1": config(timeout=40, maxRetries=4, fallback="rescue 1"),
                "hangs 2": config(timeout=60, maxRetries=3, fallback="rescue 2"),
            },
            does={"hangs 1": [{"hang": True}], "hangs 2": [{"hang": True}], "join": ECHO},
            done={"hangs 1": 0, "hangs 2": 0},
            attempts={"hangs 1": 4, "hangs 2": 3},
        ),
    ]


def _with_time() -> list[KnownFlow]:
    return [
        KnownFlow("slept", "a>nap>b>doze>c", lambda given: given + 3, special={"nap": sleep(400), "doze": sleep(5)}),
        KnownFlow(
            "slept apart",
            "a>nap 1>join, a>nap 2>join, a>nap 3>join",
            lambda given: {"nap 1": given + 1, "nap 2": given + 1, "nap 3": given + 1},
            special={"nap 1": sleep(30), "nap 2": sleep(300), "nap 3": sleep(300)},
            does={"join": ECHO},
        ),
        KnownFlow(
            "late",
            "a>asks>after, asks>none",
            lambda given: "nobody",
            special={"asks": wait(event="answered", timeout=250)},
            on_edges={"asks>none": {"action": "timeout"}},
            does={"none": [{"output": "nobody"}]},
            done={"after": 0},
        ),
    ]


def _with_people() -> list[KnownFlow]:
    signal = Order("", "signal", event="answered", value=7)
    return [
        KnownFlow(
            "asked",
            "a>asks>after",
            lambda given: 8,
            special={"asks": wait(event="answered")},
            orders=(
                (answer("asks", 7),),
                (signal._replace(when="begun"),),
                (signal._replace(when="open", nodes=("asks",)),),
                # What comes after an answer is too late, under another key too.
                (answer("asks", 7), answer("asks", 9, key="late")._replace(when="resumed")),
            ),
        ),
        KnownFlow(
            "asked again",
            "a>first>b>second>c",
            lambda given: 6,
            special={"first": wait(), "second": wait()},
            orders=(
                (answer("first", 3), answer("second", 5)),
                # Its key was applied before, at another wait.
                (answer("first", 3), answer("second", 99)._replace(key="key first 1"), answer("second", 5)),
            ),
        ),
        KnownFlow(
            "told in turn",
            "a>first>b>second>c",
            lambda given: 6,
            special={"first": wait(event="answered"), "second": wait(event="answered")},
            does={"a": [{"add": 1, "sleep_ms": 30}]},
            # The first one is kept until somebody asks, and is then nobody else's.
            orders=((signal._replace(when="begun", value=3), signal._replace(when="open", nodes=("second",), value=5)),),
        ),
        KnownFlow(
            "asked apart",
            "one>join, two>join, a>join",
            lambda given: {"one": 1, "two": 2, "a": given + 1},
            special={"one": wait(), "two": wait(event="answered")},
            does={"join": ECHO},
            orders=(
                (answer("one", 1), answer("two", 2)),
                (answer("one", 1), signal._replace(when="begun", value=2)),
            ),
        ),
    ]


def _with_children() -> list[KnownFlow]:
    inner = KnownFlow("inner", "a>b", lambda given: given + 2)
    asking = KnownFlow("asking", "a>asks>b", lambda given: 6, special={"asks": wait(event="answered")})
    broken = KnownFlow("broken", "a>b", lambda given: None, does={"b": [BOOM]}, done={"b": 0}, failed=("b",))
    silent = KnownFlow("silent", "a>asks>b", lambda given: None, special={"asks": wait()}, done={"b": 0}, cancelled=True)
    middle = KnownFlow(
        "middle", "a>sub>b", lambda given: given + 4, special={"sub": sub(inner)}, children=(("sub", inner, 1),)
    )
    signal = Order("", "signal", event="answered", value=5)
    return [
        KnownFlow("outer", "a>sub>b", lambda given: given + 4, special={"sub": sub(inner)}, children=(("sub", inner, 1),)),
        KnownFlow(
            "outermost", "a>sub>b", lambda given: given + 6, special={"sub": sub(middle)}, children=(("sub", middle, 1),)
        ),
        KnownFlow(
            "twins",
            "a>one>join, a>two>join",
            lambda given: {"one": given + 3, "two": given + 3},
            special={"one": sub(inner), "two": sub(inner)},
            does={"join": ECHO},
            children=(("one", inner, 1), ("two", inner, 1)),
        ),
        KnownFlow(
            "outer asked",
            "a>sub>b",
            lambda given: 7,
            special={"sub": sub(asking)},
            children=(("sub", asking, 1),),
            orders=(
                (answer("sub/asks", 5),),
                (signal._replace(when="begun"),),
                (signal._replace(when="open", nodes=("sub/asks",)),),
            ),
        ),
        KnownFlow(
            "outer late",
            "a>sub>b, rescue",
            lambda given: given + 3,
            special={"sub": sub(silent, timeout=150, maxRetries=2, fallback="rescue")},
            attempts={"sub": 2},
            # The end of the first one, which was cancelled, comes when the second one works.
            children=(("sub", silent, 1), ("sub#2", silent, 1)),
        ),
        KnownFlow(
            "outer failed",
            "a>sub>b",
            lambda given: None,
            special={"sub": sub(broken, maxRetries=2)},
            done={"b": 0},
            attempts={"sub": 2},
            failed=("sub",),
            children=(("sub", broken, 1), ("sub#2", broken, 1)),
        ),
    ]


def _with_turns() -> list[KnownFlow]:
    items: list[Entry] = [{"output": [1, 2, 3, 4, 5]}]
    turn = {
        "rounds>turn": {"action": "continue"},
        "rounds>nap": {"action": "continue"},
        "rounds>asks": {"action": "continue"},
        "rounds>after": {"action": "break"},
    }
    loop = {"uses": "loop-controller", "params": {"condition": "input < 20", "maxIterations": 9}}
    three = "!has(context.counted) || context.counted < 4"
    return [
        KnownFlow(
            "looped",
            "a>rounds>turn>rounds, rounds>after",
            lambda given: 24,
            special={"rounds": loop},
            on_edges=turn,
            does={"a": [{"output": 3}], "turn": [{"add": 5}]},
            done={"turn": 4},
        ),
        KnownFlow(
            "looped napping",
            "a>rounds>nap>turn>rounds, rounds>after",
            lambda given: 24,
            special={"rounds": loop, "nap": sleep(150)},
            on_edges=turn,
            does={"a": [{"output": 3}], "turn": [{"add": 5}]},
            done={"turn": 4},
        ),
        KnownFlow(
            "looped out",
            "a>rounds>turn>rounds, rounds>after, turn>join, a>nap 1>join, a>nap 2>join",
            # An edge out of the body is taken by the first turn that takes it, whatever the others do.
            lambda given: {"after": 24, "join": {"turn": 8, "nap 1": 3, "nap 2": 3}},
            special={"rounds": loop, "nap 1": sleep(50), "nap 2": sleep(400)},
            on_edges=turn,
            does={"a": [{"output": 3}], "turn": [{"add": 5}], "join": ECHO},
            done={"turn": 4},
        ),
        KnownFlow(
            "looped late",
            "a>rounds>asks>turn>rounds, rounds>after",
            # The first wait is answered, or is too late as well: the timer of a turn is nothing to the next one.
            lambda given: 8,
            special={"rounds": {**loop, "params": {"condition": three}}, "asks": wait(event="answered", timeout=300)},
            on_edges=turn,
            done={"turn": 3},
            does={"turn": [{"output": 7}]},
            orders=((Order("", "signal", "open", nodes=("asks",), event="answered"),),),
        ),
        KnownFlow(
            "looped asking",
            "a>rounds>asks>turn>rounds, rounds>after",
            lambda given: 35,
            special={"rounds": {**loop, "params": {"condition": three}}, "asks": wait()},
            on_edges=turn,
            done={"turn": 3},
            does={"turn": [{"add": 1}]},
            orders=((answer("asks", 31, 1), answer("asks", 32, 2), answer("asks", 33, 3)),),
        ),
        KnownFlow(
            "batched",
            "items>work split>work gather>after",
            lambda given: [2, 3, 4, 5, 6],
            special=batch("work", chunkSize=2),
            does={"items": items, "after": ECHO},
            done={"work": 5},
        ),
        KnownFlow(
            "batched all",
            "items>work split>work gather>after",
            lambda given: [11, {"error": {"message": "boom", "index": 1}}, 13, 14, 15],
            special=batch("work", onItemError="collect"),
            does={"items": items, "after": ECHO, "work": [{"by_input": {"2": BOOM}, "add": 10}]},
            done={"work": 4},
        ),
    ]
