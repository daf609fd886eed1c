"""Ids, keys and names of any Unicode, from the door to the store and back."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import App, Flow
from headrace import commands as c
from headrace.blueprint import from_json
from headrace.errors import DefinitionError, RecordRefused, ValueRefused
from headrace.validation import check
from tests.contract.places import Place
from tests.contract.waiting import RESULT_S, eventually

ODD = {
    "emoji": "\U0001f469\u200d\U0001f4bb\U0001f600",
    "NUL": "a\x00b",
    "quotes": "\"'`\\",
    "right to left": "\u202e\u05d0\u0628\u200f",
    "combining": "e\u0301\u0323",
    "lines": "one\ntwo\r\n\ttab\x1b[31mred",
    "paths": "../../etc/passwd",
    "a comma and brackets": '","x"],[',
    "dots": "..a.b.",
    "a slash": "a/b//c",
    "a space": " ",
    "percent and braces": "%s {0} ${x} %00",
    "the last characters": "\uffff\U0010ffff",
    "a byte order mark": "\ufeffid",
    "1 KiB of letters": "k" * 1_024,
    "1 KiB of emoji": "\U0001f600" * 256,
}
odd = pytest.mark.parametrize("name", list(ODD.values()), ids=list(ODD))
SURROGATES = ["\ud800", "a\udfff", "\udc80\ud800"]


@odd
async def test_one_name_for_everything_goes_through_and_survives_its_worker(place: Place, name: str) -> None:
    """Run, flow, node, wait, event, action, context key, resume key and reason all have this name."""
    wait = name[:-1] + "w" if len(name) > 1 else name + "w"
    flow = Flow(name).node(name, lambda ctx: ctx.set(name, ctx.input)).wait(wait, event=name, after=name)
    flow.node("end", lambda ctx: [ctx.get(name), ctx.input], uses="end").edge(wait, "end", action=name)
    app = App("odd").add(flow)
    async with place.work(app) as client:
        assert (await client.submit(c.Start(name, name, input=b'"v"', context={name: b"1"}))).outcome == "applied"
        assert (await client.submit(c.Start(name, name))).outcome == "duplicate"
        assert (await client.submit(c.Signal(name + "x" if len(name.encode()) < 1_024 else "x", name))).outcome == "unknown"
        assert (await client.submit(c.Pause(name, name))).outcome == "applied"
        assert (await client.submit(c.Unpause(name))).outcome == "applied"

    async with place.work(app) as client:
        status = await client.status(name)
        assert status is not None
        assert (status["runId"], status["flow"]) == (name, name)
        assert {node["id"] for node in status["nodes"]} == {name, wait, "end"}

        async def resumed() -> bool:
            return (await client.submit(c.Resume(name, wait, name, b"2", name))).outcome == "applied"

        await eventually(resumed)
        result = await client.result(name, RESULT_S)
        assert result is not None
        assert result.status == "completed", result.errors
        assert result.output == ["v", 2]
        assert result.context == {name: "v"}
        assert [row["runId"] for row in await client.runs(flow=name)] == [name]
        assert (await client.submit(c.Resume(name, wait, None, b"3", name))).outcome == "ignored"


async def test_ids_that_look_alike_are_different_runs(place: Place) -> None:
    ids = ["e\u0301", "\u00e9", "K", "\u212a", "a", "a\x00", "a\u200b", " a", "A"]
    flow = Flow("f").node("give", lambda ctx: ctx.input)
    async with place.work(App("odd").add(flow)) as client:
        for number, run_id in enumerate(ids):
            assert (await client.submit(c.Start(run_id, "f", input=str(number).encode()))).outcome == "applied"
        outputs = [getattr(await client.result(run_id, RESULT_S), "output", None) for run_id in ids]

    assert outputs == list(range(len(ids)))


async def test_a_child_of_a_run_with_a_long_id_has_an_id_of_its_own_within_the_limit(place: Place) -> None:
    child = Flow("child").node("give", lambda ctx: ctx.input)
    nodes = [
        {"id": name, "uses": "subflow", "params": {"blueprintId": "child"}}
        for name in ("\U0001f600" * 256, "\U0001f600" * 255 + "x")
    ]
    parent = {"id": "parent", "nodes": nodes, "edges": []}
    run_id = "\U0001f600" * 256
    async with place.work(App("odd").add(child).add(parent)) as client:
        await client.submit(c.Start(run_id, "parent", input=b"7"))
        result = await client.result(run_id, RESULT_S)
        assert result is not None
        assert list(result.output.values()) == [7, 7]
        rows = await client.runs()

    assert len({row["runId"] for row in rows}) == 3
    assert all(len(row["runId"].encode()) <= 1_024 for row in rows)


@pytest.mark.parametrize("name", SURROGATES, ids=ascii)
async def test_lone_surrogates_are_refused_wherever_they_come_in(place: Place, name: str) -> None:
    app = App("odd").add(Flow("f").wait("w", event="e"))
    async with place.work(app) as client:
        app._enter(client, {})
        for refused in (app.start("f", run_id=name), app.start("f", context={name: 1}), app.start("f", {name: 1})):
            with pytest.raises((ValueRefused, RecordRefused)):
                await refused
        handle = await app.start("f", run_id="r")
        calls = [
            lambda: handle.signal(name),
            lambda: handle.resume(name),
            lambda: handle.resume("w", name),
            lambda: handle.resume("w", key=name),
            lambda: handle.cancel(name),
            lambda: handle.pause(name),
        ]
        for call in calls:
            with pytest.raises((ValueRefused, RecordRefused), match="UTF-8"):
                await call()
        for look in (client.status(name), client.result(name, 0), anext(client.events(name))):
            with pytest.raises(RecordRefused, match="UTF-8"):
                await look
        assert (await handle.signal("e")).outcome == "applied", "the worker and the run go on"
        assert await client.result("r", RESULT_S) is not None


@pytest.mark.parametrize(
    ("place_of", "name"),
    [
        *((place_of, name) for place_of in ("flow", "node", "event", "edge", "action", "key") for name in SURROGATES),
        *((place_of, "n" * 1_025) for place_of in ("flow", "node", "edge")),
    ],
    ids=lambda name: ascii(name)[:12],
)
async def test_a_definition_with_a_name_that_cannot_be_is_refused(place_of: str, name: str) -> None:
    blueprint: dict[str, Any] = {
        "id": "f",
        "nodes": [{"id": "a", "uses": "one"}, {"id": "w", "uses": "wait", "params": {"event": "e"}}],
        "edges": [{"source": "a", "target": "w"}],
    }
    if place_of == "flow":
        blueprint["id"] = name
    elif place_of == "node":
        blueprint["nodes"].append({"id": name, "uses": "one"})
    elif place_of == "event":
        blueprint["nodes"][1]["params"]["event"] = name
    elif place_of == "edge":
        blueprint["edges"].append({"source": "a", "target": name})
    elif place_of == "action":
        blueprint["edges"][0]["action"] = name
    else:
        blueprint["nodes"][0]["inputs"] = {"x": name}

    with pytest.raises(DefinitionError):
        check(from_json(blueprint))
