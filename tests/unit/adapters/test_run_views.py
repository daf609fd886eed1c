from __future__ import annotations

import orjson
import pytest

from headrace import commands as c
from headrace.errors import RecordRefused
from headrace_adapters.base.run_views import at_the_door, history_of, result_view, run_row
from headrace_topics.jobs_record import decode_command

HEAD = {"blueprintId": "f", "version": "2", "startedAt": 5}


def test_a_command_that_comes_from_a_program_is_checked_as_a_producers_is() -> None:
    command = c.Start("r", "f", input=b"[1]", request_id="q")

    assert decode_command(at_the_door(command, 100), value_bytes_max=100) == command
    with pytest.raises(RecordRefused, match="field 'input'"):
        at_the_door(c.Start("r", "f", input=b'"' + b"x" * 100 + b'"'), 100)
    with pytest.raises(RecordRefused, match="UTF-8"):
        at_the_door(c.Cancel("\ud800"), 100)
    with pytest.raises(RecordRefused, match="Start cannot be written as a record"):
        at_the_door(c.Start("r", "f", context=3), 100)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command", [c.RunNode("r", "f", "n"), c.ResumeApplied("r", "k"), c.ChildNews("r", "c", "n", False, ())]
)
def test_what_the_engine_says_to_itself_is_refused(command: c.Command) -> None:
    with pytest.raises(RecordRefused, match="no client may send it"):
        at_the_door(command, 100)


@pytest.mark.parametrize(
    ("flags", "status"),
    [({}, "running"), ({"awaiting": True}, "awaiting"), ({"paused": True, "awaiting": True}, "paused"),
     ({"parked": "why", "paused": True}, "parked")],
)  # fmt: skip
def test_a_row_has_the_state_that_the_flags_say(flags: dict[str, object], status: str) -> None:
    row = {"runId": "r", "flow": "f", "version": "2", "status": status, "startedAt": 5}

    assert run_row("r", orjson.dumps({**HEAD, **flags})) == row


def test_a_row_of_a_run_that_has_ended_says_when_and_one_that_cannot_be_read_says_so() -> None:
    assert run_row("r", orjson.dumps({**HEAD, "ended": "failed", "endedAt": 9}))["endedAt"] == 9
    for record in (b"{", b"[]", b"{}", b"null"):
        assert run_row("r", record)["status"] == "unreadable"


def test_a_result_is_shown_as_a_status() -> None:
    record = orjson.dumps({"runId": "r", "blueprintId": "f", "status": "completed", "output": 1})

    assert result_view(record) == {
        "runId": "r", "flow": "f", "status": "completed", "output": 1, "nodes": [], "awaiting": [],
    }  # fmt: skip


def test_events_of_a_record_are_numbered_and_rejections_are_not() -> None:
    decisions = [{"at": 5, "events": [{"type": "a"}, {"type": "b"}]}, {"at": 6, "events": [{"type": "c", "node": "n"}]}]
    rejected = {"command": "Cancel", "reason": "no", "at": 7}

    assert history_of(orjson.dumps({"v": 1, "seq": 3, "decisions": decisions})) == [
        {"seq": 3, "at": 5, "type": "a"}, {"seq": 4, "at": 5, "type": "b"}, {"seq": 5, "at": 6, "type": "c", "node": "n"},
    ]  # fmt: skip
    assert history_of(orjson.dumps({"v": 1, "rejected": rejected})) == [{"seq": None, "type": "commandRejected", **rejected}]
