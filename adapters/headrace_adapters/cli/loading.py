"""Finding the app that a command is about.

``APP`` is ``file.py``, ``package.module``, or one of these with ``:object``. The object is an :class:`App`, a
:class:`Flow`, or a function without arguments that gives one. Without an object the module is looked through: its one
app, else an app of all its flows, named after the module. The folder of a file, or the working directory, is put on
the path of imports, as ``python file.py`` would.
"""

from __future__ import annotations

__all__ = ["load_app", "load_flow_id", "names_code"]

import importlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from headrace.app import App
from headrace.builder import Flow
from headrace.errors import DefinitionError, HeadraceError

_FILE = re.compile(r"(.+\.py)(?::([^:/\\]*))?")


def names_code(target: str) -> bool:
    """Whether *target* says that it is to be loaded, and is not just the name of an app."""
    return ":" in target or target.endswith(".py")


def load_app(target: str) -> App:
    """The app that *target* names; raises :class:`DefinitionError` that says what was looked for, and where."""
    file = _FILE.fullmatch(target)
    if file:
        module, attribute = _import_file(Path(file[1])), file[2]
    else:
        name, _, attribute = target.partition(":")
        module = _import_module(target, name)
    if attribute is None or (attribute == "" and ":" not in target):
        return _only_app(target, module)
    return _named(target, module, attribute)


def load_flow_id(app: App, flow_id: str | None, target: str) -> str:
    """The id of the flow that is meant: the one of that id, or the only one, where none is named."""
    known = {blueprint.id: None for blueprint in app.blueprints}
    if flow_id is not None:
        if flow_id not in known:
            named = ", ".join(known) or "none at all"
            raise DefinitionError(f"{target} has no flow {flow_id!r}; its flows are: {named}")
        return flow_id
    children = {str(n.params.get("blueprintId")) for b in app.blueprints for n in b.nodes if n.uses == "subflow"}
    entries = [known_id for known_id in known if known_id not in children] or list(known)
    if len(entries) != 1:
        named = ", ".join(entries) or "none at all"
        raise DefinitionError(f"say which flow of {target} is meant; its flows are: {named}")
    return entries[0]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DefinitionError(f"there is no file {path} (working directory: {Path.cwd()})")
    path = path.resolve()
    _put_on_path(path.parent)
    # Under its own name it can be imported by the processes of CPU-bound nodes; unless that name is somebody else's.
    name = path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or name in sys.stdlib_module_names or not name.isidentifier():
        name = f"headrace_app_{re.sub(r'[^0-9A-Za-z_]', '_', name)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        raise _import_failed(str(path), error) from error
    return module


def _import_module(target: str, name: str) -> ModuleType:
    _put_on_path(Path.cwd())
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
        raise DefinitionError(f"{target!r} names no app: give file.py, package.module, module:object or file.py:object")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise _import_failed(name, error) from error
        folder = Path.cwd()
        hint = f"; did you mean {name}.py?" if (folder / f"{name}.py").is_file() else ""
        raise DefinitionError(
            f"there is no module {error.name!r} in {folder} or among the installed packages{hint}"
        ) from None
    except BaseException as error:
        raise _import_failed(name, error) from error


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _import_failed(what: str, error: BaseException) -> BaseException:
    """What to raise when the code of an app raised *error* while it was imported."""
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, SystemExit):
        return DefinitionError(
            f"{what} ended the program while it was imported: put what it does as a program under "
            "'if __name__ == \"__main__\":'"
        )
    if isinstance(error, HeadraceError):
        return DefinitionError(f"{what}{_line_of(what, error)}: {error}")
    if isinstance(error, SyntaxError):
        return DefinitionError(f"{error.filename or what}, line {error.lineno}: {error.msg}")
    return DefinitionError(f"{what} cannot be imported{_line_of(what, error)}: {type(error).__name__}: {error}")


def _line_of(what: str, error: BaseException) -> str:
    """The innermost line of the file itself: where its author has to look."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == what]
    return f", line {lines[-1]}" if lines else ""


def _named(target: str, module: ModuleType, attribute: str) -> App:
    found: object = module
    for name in attribute.split("."):
        if not name or not hasattr(found, name):
            offered = ", ".join(sorted(_offered(module))) or "neither an app nor a flow"
            raise DefinitionError(f"{target}: {module.__name__} has no {attribute!r}; it has {offered}")
        found = getattr(found, name)
    if callable(found) and not isinstance(found, App | Flow | type):
        try:
            found = found()
        except Exception as error:
            raise DefinitionError(f"{target}: calling it raised {type(error).__name__}: {error}") from error
    if isinstance(found, App):
        return found
    if isinstance(found, Flow):
        return App(_app_name(found.id)).add(found)
    raise DefinitionError(f"{target} is {type(found).__name__}, and neither an App nor a Flow")


def _only_app(target: str, module: ModuleType) -> App:
    apps = {id(value): (name, value) for name, value in vars(module).items() if isinstance(value, App)}
    if len(apps) == 1:
        return next(iter(apps.values()))[1]
    if apps:
        named = " or ".join(f"{target}:{name}" for name, _ in apps.values())
        raise DefinitionError(f"{target} has several apps: say {named}")
    flows = {id(value): value for value in vars(module).values() if isinstance(value, Flow)}
    if not flows:
        raise DefinitionError(f"{target} has neither an App nor a Flow at its top level: looked through {module!r}")
    app = App(_app_name(module.__name__.rpartition(".")[2]))
    for flow in flows.values():
        app.add(flow)
    return app


def _offered(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, App | Flow)]


def _app_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:200] or "app"
