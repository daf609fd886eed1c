"""The plans of an owner: versions that never change, and what is lacking for a run."""

from __future__ import annotations

import pytest

from headrace.blueprint import Blueprint, from_json
from headrace.errors import BlueprintInvalid, DefinitionError
from headrace.plans import Plans


def blueprint(version: str = "1", uses: str = "f", blueprint_id: str = "flow") -> Blueprint:
    return from_json(
        {"id": blueprint_id, "nodes": [{"id": "a", "uses": uses}], "edges": [], "metadata": {"version": version}}
    )


def test_a_version_is_added_once() -> None:
    plans = Plans({"f"})

    assert plans.add(blueprint())
    assert not plans.add(blueprint())
    assert plans.blueprints() == [blueprint()]


def test_without_a_version_the_one_that_was_added_last_is_meant() -> None:
    plans = Plans({"f"})
    for version in ("1", "3", "2"):
        plans.add(blueprint(version))
    newest = plans.get("flow", None)

    assert newest is not None
    assert newest.version == "2"
    plans.add(blueprint("1"))
    for unsaid in (None, ""):
        again = plans.get("flow", unsaid)
        assert again is not None
        assert again.version == "1", "adding it again makes it the newest, as when an app goes back"
    third = plans.get("flow", "3")
    assert third is not None
    assert third.version == "3"


def test_what_is_not_known_is_none() -> None:
    plans = Plans({"f"})
    plans.add(blueprint())

    assert plans.get("flow", "2") is None
    assert plans.get("other", None) is None


def test_the_same_version_with_other_content_is_refused_and_changes_nothing() -> None:
    plans = Plans({"f", "g"})
    plans.add(blueprint("1"))
    plans.add(blueprint("2"))

    with pytest.raises(DefinitionError, match=r"'flow' version '1' is known with other content.*give.*another version"):
        plans.add(blueprint("1", uses="g"))
    newest = plans.get("flow", None)
    assert newest is not None
    assert newest.version == "2"


def test_a_blueprint_that_cannot_run_is_refused() -> None:
    plans = Plans({})
    with pytest.raises(BlueprintInvalid):
        plans.add(from_json({"id": "f", "nodes": [], "edges": [{"source": "a", "target": "b"}]}))
    assert plans.blueprints() == []


def test_what_is_lacking_is_said_with_what_to_do() -> None:
    plans = Plans({"f"})
    plans.add(blueprint("1", uses="f"))
    plans.add(blueprint("2", uses="g"))

    assert plans.lacks("flow", "1") == ""
    assert "no implementation of 'g'" in plans.lacks("flow", "2")
    assert "no implementation of 'g'" in plans.lacks("flow", None)
    assert "does not know version '3' of blueprint 'flow'" in plans.lacks("flow", "3")
    assert "does not know blueprint 'other'" in plans.lacks("other", None)
    for reason in (plans.lacks("flow", "2"), plans.lacks("other", None)):
        assert reason.endswith("start a worker with an app that has it")


def test_nodes_of_the_engine_lack_nothing() -> None:
    plans = Plans({})
    plans.add(from_json({"id": "w", "nodes": [{"id": "w", "uses": "wait"}], "edges": []}))

    assert plans.lacks("w", None) == ""
