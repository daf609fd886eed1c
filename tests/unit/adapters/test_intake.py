"""Commands on their way to the loop."""

from __future__ import annotations

from headrace import commands as c
from headrace_adapters.base.intake import Intake


def filled(*commands: c.Command) -> Intake:
    intake = Intake()
    for command in commands:
        intake.put(command, None)
    return intake


def all_of(take: object) -> list[c.Command]:
    found = []
    while (entry := take()) is not None:  # type: ignore[operator]
        found.append(entry[0])
    return found


def test_commands_are_taken_in_the_order_in_which_they_came() -> None:
    commands: list[c.Command] = [c.Start("a", "f"), c.Cancel("b"), c.Signal("a", "e"), c.Start("c", "f")]
    intake = filled(*commands)

    assert bool(intake)
    assert all_of(intake.take) == commands
    assert not intake


def test_without_room_starts_wait_and_so_does_what_was_said_to_their_runs_after_them() -> None:
    commands = [c.Cancel("x"), c.Start("a", "f"), c.Cancel("y"), c.Signal("a", "e"), c.Start("b", "f"), c.Resume("z", "n")]
    intake = filled(*commands)

    assert all_of(intake.take_urgent) == [c.Cancel("x"), c.Cancel("y"), c.Resume("z", "n")]
    assert bool(intake), "the others are held back"
    intake.put(c.Cancel("a"), None)
    intake.put(c.Cancel("late"), None)
    assert all_of(intake.take_urgent) == [c.Cancel("late")]
    assert all_of(intake.take) == [c.Start("a", "f"), c.Signal("a", "e"), c.Start("b", "f"), c.Cancel("a")]
    assert not intake


def test_a_run_whose_commands_were_all_taken_is_urgent_again() -> None:
    intake = filled(c.Start("a", "f"), c.Signal("a", "e"))
    assert all_of(intake.take_urgent) == []
    assert len(all_of(intake.take)) == 2
    intake.put(c.Cancel("a"), None)

    assert all_of(intake.take_urgent) == [c.Cancel("a")]
