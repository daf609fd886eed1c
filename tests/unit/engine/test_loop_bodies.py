from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.blueprint import Blueprint, EdgeSpec, NodeConfig, NodeSpec
from headrace.loop_bodies import links_of, loop_bodies, reached


def blueprint(edges: str, loops: str = "", fallbacks: dict[str, str] | None = None) -> Blueprint:
    """``"S L, L>b, b L, L after"``: an edge each, ``>`` one with the action ``continue``; *loops* are controllers."""
    specs = []
    names: dict[str, None] = {}
    for text in edges.split(", "):
        source, target = text.replace(">", " ").split(" ")
        names |= {source: None, target: None}
        specs.append(EdgeSpec(source, target, "continue" if ">" in text else None))
    for primary, fallback in (fallbacks or {}).items():
        names |= {primary: None, fallback: None}
    nodes = tuple(
        NodeSpec(
            name,
            "loop-controller" if name in loops.split() else name,
            config=NodeConfig(fallback=(fallbacks or {}).get(name)),
        )
        for name in names
    )
    return Blueprint("f", nodes, tuple(specs))


def test_a_body_is_what_the_continue_edge_leads_to_and_ends_at_the_controller() -> None:
    assert loop_bodies(blueprint("S L, L>a, a b, b L, L after", "L")) == {"L": {"a", "b"}}


def test_a_blueprint_without_loops_has_no_bodies() -> None:
    assert loop_bodies(blueprint("S A, A B")) == {}


def test_a_fan_out_and_its_join_are_in_the_body() -> None:
    assert loop_bodies(blueprint("S L, L>a, a b, a c, b j, c j, j L, L z", "L")) == {"L": {"a", "b", "c", "j"}}


def test_a_branch_that_ends_within_the_body_belongs_to_it() -> None:
    assert loop_bodies(blueprint("S L, L>a, a L, a report, L z", "L")) == {"L": {"a", "report"}}


def test_what_a_break_and_a_body_both_lead_to_is_outside() -> None:
    assert loop_bodies(blueprint("S L, L>a, a L, a z, L z, z y", "L")) == {"L": {"a"}}


def test_what_a_branch_beside_the_loop_leads_to_is_outside() -> None:
    assert loop_bodies(blueprint("S L, S B, L>a, a L, a j, B j, L z", "L")) == {"L": {"a"}}


def test_the_outer_body_holds_the_inner_loop_and_what_is_behind_it() -> None:
    bodies = loop_bodies(blueprint("S O, O>a, a I, I>b, b I, I c, c O, O z", "O I"))

    assert bodies == {"O": {"a", "I", "b", "c"}, "I": {"b"}}


def test_an_inner_loop_may_end_the_outer_body() -> None:
    bodies = loop_bodies(blueprint("S O, O>I, I>J, J>b, b J, J I, I O, O z", "O I J"))

    assert bodies == {"O": {"I", "J", "b"}, "I": {"J", "b"}, "J": {"b"}}


def test_loops_in_a_row_have_bodies_of_their_own() -> None:
    assert loop_bodies(blueprint("S L, L>a, a L, L M, M>b, b M, M z", "L M")) == {"L": {"a"}, "M": {"b"}}


def test_a_fallback_of_a_body_node_belongs_to_the_body() -> None:
    assert loop_bodies(blueprint("S L, L>a, a b, b L, L z", "L", {"a": "F", "F": "G"})) == {"L": {"a", "b", "F", "G"}}


def test_a_fallback_of_the_controller_is_outside() -> None:
    assert loop_bodies(blueprint("S L, L>a, a L, L z", "L", {"L": "F"})) == {"L": {"a"}}


def test_a_controller_without_a_body_has_an_empty_one() -> None:
    assert loop_bodies(blueprint("S L, L z", "L")) == {"L": set()}


NAMES = "ABCDEFGH"


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.booleans()), max_size=20),
    st.sets(st.sampled_from(NAMES), max_size=3),
)
def test_a_body_is_what_is_reached_from_within_and_not_from_without(
    pairs: list[tuple[str, str, bool]], loops: set[str]
) -> None:
    """Against the definition in full: every other way to a node is searched through the whole graph."""
    edges = tuple(EdgeSpec(a, b, "continue" if on else None) for a, b, on in [*pairs, ("start", "A", False)])
    nodes = tuple(NodeSpec(name, "loop-controller" if name in loops else "x") for name in ("start", *NAMES))
    drawn = Blueprint("f", nodes, edges)
    after, before = links_of(drawn)

    for controller, body in loop_bodies(drawn).items():
        inside = reached(after, [e.target for e in edges if e.source == controller and e.action], controller)
        exits = [e.target for e in edges if e.source == controller and not e.action]
        # A node that nothing reaches from a start (an island) counts as a way in, too: its blueprint is invalid.
        others = [name for name in after if name not in inside]
        starts = [name for name in others if name != controller]
        outside = reached(after, [*exits, *starts], controller)
        assert body == inside - outside
        islands = set(after) - reached(after, [name for name in after if not before[name]])
        if not islands:
            honest = [name for name in after if not before[name]]
            assert body == inside - reached(after, [*exits, *honest], controller)
