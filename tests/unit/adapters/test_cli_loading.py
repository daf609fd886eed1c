from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import DefinitionError
from headrace_adapters.cli.loading import load_app, load_flow_id, names_code

APP = """
from headrace import App, Flow
app = App("shop")
order = Flow("order").node("a", lambda: 1)
app.add(order)
"""
TWO = """
from headrace import App, Flow
first, second = App("first"), App("second")
class place:
    inner = App("inner")
def make():
    return App("made")
def broken():
    raise ValueError("no luck")
number = 3
"""
FLOWS = """
from headrace import Flow
child = Flow("child").node("x", lambda: 1)
parent = Flow("parent").subflow("sub", child)
"""


@pytest.fixture(autouse=True)
def own_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test imports is forgotten afterwards, and so is where it was looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


@pytest.mark.parametrize("target", ["shop_a.py", "./shop_a.py", "shop_a", "shop_a.py:app", "shop_a:app"])
def test_an_app_is_found_in_a_file_or_a_module(target: str) -> None:
    write("shop_a.py", APP)

    assert load_app(target).name == "shop"


def test_a_module_of_a_package_is_found() -> None:
    write("pkg_b/__init__.py", "")
    write("pkg_b/deep/__init__.py", "")
    write("pkg_b/deep/shop.py", APP)

    assert load_app("pkg_b.deep.shop").name == "shop"
    assert load_app("pkg_b.deep.shop:app").name == "shop"


def test_a_file_elsewhere_finds_what_lies_beside_it() -> None:
    write("elsewhere/beside_c.py", "NAME = 'from-beside'")
    write("elsewhere/shop_c.py", "from beside_c import NAME\nfrom headrace import App\napp = App(NAME)")

    assert load_app("elsewhere/shop_c.py").name == "from-beside"


def test_a_file_can_be_imported_under_its_own_name_by_other_processes() -> None:
    write("shop_d.py", APP)
    load_app("shop_d.py")

    assert sys.modules["shop_d"].__file__ == str(Path("shop_d.py").resolve())


@pytest.mark.parametrize("name", ["json.py", "my-app.py", "pytest.py"])
def test_a_file_named_as_something_else_takes_nothing_away(name: str) -> None:
    known = sys.modules.get(name.removesuffix(".py"))
    write(name, APP)

    assert load_app(name).name == "shop"
    assert sys.modules.get(name.removesuffix(".py")) is known


def test_an_object_a_flow_or_a_function_that_makes_one_may_be_named() -> None:
    write("two_e.py", TWO)
    write("flows_e.py", FLOWS)

    assert load_app("two_e.py:second").name == "second"
    assert load_app("two_e.py:place.inner").name == "inner"
    assert load_app("two_e.py:make").name == "made"
    assert [flow.id for flow in load_app("flows_e.py:child").flows] == ["child"]


def test_flows_without_an_app_make_one_that_is_named_after_the_module() -> None:
    write("flows_f.py", FLOWS)

    app = load_app("flows_f.py")

    assert app.name == "flows_f"
    assert {flow.id for flow in app.flows} == {"parent", "child"}


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("gone.py", "there is no file gone.py (working directory: "),
        ("gone_g", "there is no module 'gone_g' in "),
        ("two_g.py", "several apps: say two_g.py:first or two_g.py:second"),
        ("two_g.py:third", "has no 'third'; it has first, second"),
        ("two_g.py:", "has no ''; it has first, second"),
        ("two_g.py:number", "is int, and neither an App nor a Flow"),
        ("two_g.py:broken", "calling it raised ValueError: no luck"),
        ("none_g.py", "neither an App nor a Flow at its top level"),
        ("none_g.py:y", "it has neither an app nor a flow"),
        ("syntax_g.py", "line 2: "),
        ("raises_g.py", "raises_g.py cannot be imported, line 3: ZeroDivisionError"),
        ("refused_g.py", "refused_g.py, line 2: an app cannot be called 'a b'"),
        ("ends_g.py", "ended the program while it was imported"),
        ("needs_g.py", "No module named 'not_installed_anywhere'"),
        ("needs_g", "No module named 'not_installed_anywhere'"),
        ("not a name", "'not a name' names no app: give file.py"),
        ("", "names no app"),
        ("json.nothing", "there is no module 'json.nothing'"),
    ],
)
def test_what_cannot_be_loaded_says_what_was_looked_for(target: str, told: str) -> None:
    write("two_g.py", TWO)
    write("none_g.py", "x = 1")
    write("syntax_g.py", "x = 1\ndef f(:\n    pass")
    write("raises_g.py", "def f():\n    return 1\nf() / 0")
    write("refused_g.py", "from headrace import App\nApp('a b')")
    write("ends_g.py", "import sys\nsys.exit(3)")
    write("needs_g.py", "import not_installed_anywhere")

    with pytest.raises(DefinitionError) as caught:
        load_app(target)

    assert told in str(caught.value)


def test_a_missing_module_that_is_a_file_is_pointed_at() -> None:
    write("shop-h.py", APP)
    write("pkg_h.v2.py", APP)

    with pytest.raises(DefinitionError, match=r"did you mean pkg_h\.v2\.py\?"):
        load_app("pkg_h.v2")


def test_a_file_that_failed_can_be_loaded_once_it_is_repaired() -> None:
    write("shop_i.py", "1 / 0")
    with pytest.raises(DefinitionError):
        load_app("shop_i.py")
    write("shop_i.py", APP)

    assert load_app("shop_i.py").name == "shop"


def test_the_only_flow_need_not_be_named_and_subflows_do_not_count() -> None:
    write("flows_j.py", FLOWS)
    write("shop_j.py", APP + "app.add(Flow('other'))\n")
    flows, shop = load_app("flows_j.py"), load_app("shop_j.py")

    assert load_flow_id(flows, None, "flows_j.py") == "parent"
    assert load_flow_id(flows, "child", "flows_j.py") == "child"
    with pytest.raises(DefinitionError, match=r"say which flow of shop_j\.py is meant; its flows are: order, other"):
        load_flow_id(shop, None, "shop_j.py")
    with pytest.raises(DefinitionError, match=r"shop_j\.py has no flow 'ordr'; its flows are: order, other"):
        load_flow_id(shop, "ordr", "shop_j.py")


@pytest.mark.parametrize(
    ("target", "code"), [("shop", False), ("acme.shop", False), ("shop.py", True), ("acme.shop:app", True)]
)
def test_a_name_of_an_app_is_told_from_where_to_load_it(target: str, code: bool) -> None:
    assert names_code(target) is code
