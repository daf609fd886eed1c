from __future__ import annotations

from headrace.blueprint import from_json
from headrace.builder import Flow
from headrace.draw import to_dot, to_mermaid


def sample() -> Flow:
    flow = Flow("order")
    flow.node("a", lambda: 1, max_retries=3)
    flow.wait("ok", event="approved", after="a", action="paid")
    flow.sleep("nap", "5s", after="a", when="result.output > 3", transform="input.x")
    flow.node("b", lambda: 1, join="any", fallback="c").edge("ok", "b").edge("nap", "b")
    flow.node("c", lambda: 1)
    return flow


def test_mermaid_shows_kinds_joins_edges_and_fallbacks() -> None:
    assert to_mermaid(sample().to_blueprint()).splitlines() == [
        "flowchart TD",
        '    n0("a<br/>3 attempts")',
        '    n1(["ok<br/>wait for approved"])',
        '    n2(["nap<br/>sleep 5s"])',
        '    n3("b<br/>join: any")',
        '    n4("c")',
        '    n0 -->|"paid"| n1',
        '    n0 -->|"when result.output #62; 3, gives input.x"| n2',
        "    n1 --> n3",
        "    n2 --> n3",
        '    n3 -.->|"fallback"| n4',
    ]


def test_dot_shows_the_same() -> None:
    lines = to_dot(sample().to_blueprint()).splitlines()

    assert lines[0] == 'digraph "order" {'
    assert lines[-1] == "}"
    assert '    n0 [label="a\\n3 attempts"];' in lines
    assert '    n1 [label="ok\\nwait for approved", shape=ellipse, style=""];' in lines
    assert '    n0 -> n1 [label="paid"];' in lines
    assert '    n3 -> n4 [label="fallback", style=dashed];' in lines


def test_built_in_nodes_say_what_they_do() -> None:
    child = Flow("child").node("x", lambda: 1)
    flow = Flow("f").node("a", lambda: [1]).batch("each", "work", items="a", after="a")
    flow.subflow("sub", child, after="each").node("w", lambda: 1)
    flow.loop("again", "input < 3", body="w", after="sub")
    flow.node("z", lambda: 1, join=1, after="again")

    text = to_mermaid(flow.to_blueprint())

    assert '[/"each_scatter<br/>for each: work"\\]' in text
    assert '[\\"each_gather"/]' in text
    assert '[["sub<br/>run of child"]]' in text
    assert '{{"again<br/>while input #60; 3"}}' in text
    assert '("z<br/>join: at least 1")' in text


def test_ids_of_any_characters_keep_the_text_well_formed() -> None:
    ids = ['say "x"', "#1;", "a\\b", "x\ny", "<b>", "`c`", "日本", "|"]
    document = {
        "id": 'f"',
        "nodes": [{"id": node_id, "uses": "u"} for node_id in ids],
        "edges": [{"source": ids[0], "target": ids[1], "action": 'q"|'}],
    }
    blueprint = from_json(document)

    mermaid = to_mermaid(blueprint).splitlines()
    dot = to_dot(blueprint).splitlines()

    assert len(mermaid) == 1 + len(ids) + 1
    assert mermaid[1] == '    n0("say #34;x#34;")'
    assert mermaid[7] == '    n6("日本")'
    assert mermaid[-1] == '    n0 -->|"q#34;#124;"| n1'
    assert len(dot) == 3 + len(ids) + 2
    assert dot[3] == '    n0 [label="say \\"x\\""];'
    assert dot[5] == '    n2 [label="a\\\\b"];'
    assert dot[6] == '    n3 [label="x\\\\ny"];'


def test_long_labels_are_cut() -> None:
    blueprint = from_json({"id": "f", "nodes": [{"id": "n" * 500, "uses": "u"}], "edges": []})

    assert max(len(line) for line in to_mermaid(blueprint).splitlines()) < 80


def test_an_edge_to_nowhere_is_left_out() -> None:
    blueprint = from_json({"id": "f", "nodes": [{"id": "a", "uses": "u"}], "edges": [{"source": "a", "target": "gone"}]})

    assert "-->" not in to_mermaid(blueprint)
    assert "->" not in to_dot(blueprint)


def test_a_blueprint_without_nodes_is_drawn_too() -> None:
    blueprint = from_json({"id": "f", "nodes": [], "edges": []})

    assert to_mermaid(blueprint) == "flowchart TD\n"
    assert to_dot(blueprint).endswith("}\n")
