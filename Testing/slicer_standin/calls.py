"""What a source file asks of Slicer, Qt and CTK: every dotted name and every call, held against what is documented.

Names are followed through calls and simple assignments: after ``manager = slicer.app.layoutManager()`` the call
``manager.setLayout(1)`` is known as ``slicer.app.layoutManager().setLayout``, and ``self.ui.applyButton`` by the class
that the .ui file gives it. What comes out of a function's argument is not followed.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PySide6 import QtCore

_ROOTS = ("slicer", "qt", "ctk", "SampleData", "PyTorchUtils")


def used(source: str) -> Iterator[tuple[ast.AST, str, ast.Call | None]]:
    """(node, dotted name with "()" for each call in it, the call that it makes or None) for every name of a file."""
    tree = ast.parse(source)
    for scope in ast.walk(tree):
        if isinstance(scope, ast.Module | ast.ClassDef | ast.FunctionDef):
            own = _aliases(_owner(tree, scope), {}) if isinstance(scope, ast.FunctionDef) else {}
            fields = {name: stands_for for name, stands_for in own.items() if name.startswith("self.")}
            yield from _used_in(scope, _aliases(scope, fields))


def _owner(tree: ast.Module, function: ast.FunctionDef) -> ast.AST:
    """The class that a function belongs to, whose `self.x` it may use; else the function."""
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    return next((c for c in classes if any(node is function for node in ast.walk(c))), function)


def _used_in(scope: ast.AST, aliases: dict[str, list[str]]) -> Iterator[tuple[ast.AST, str, ast.Call | None]]:
    own = list(_own(scope))
    calls = {id(node.func): node for node in own if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in own if isinstance(node, ast.Attribute)}
    for node in own:
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            for name in names(node, aliases):
                yield node, name, calls.get(id(node))


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions and classes in it; lambdas belong to it."""
    waiting = list(ast.iter_child_nodes(scope))
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            waiting = list(ast.iter_child_nodes(node)) + waiting


def _aliases(scope: ast.AST, known: dict[str, list[str]]) -> dict[str, list[str]]:
    """What the names assigned in a scope stand for: {name or "self.name": dotted names}."""
    found = dict(known)
    nodes = ast.walk(scope) if isinstance(scope, ast.ClassDef) else _own(scope)
    for node in nodes:
        pairs: list[tuple[ast.AST, ast.AST]] = []
        if isinstance(node, ast.Assign):
            pairs = [pair for target in node.targets for pair in _pairs(target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Tuple | ast.List):
            pairs = [pair for value in node.iter.elts for pair in _pairs(node.target, value)]
        for target, value in pairs:
            if isinstance(target, ast.Name | ast.Attribute) and (stands_for := names(value, found)):
                key = ast.unparse(target)
                if isinstance(node, ast.Assign) and not key.startswith("self."):
                    found[key] = stands_for
                else:
                    found[key] = list(dict.fromkeys([*found.get(key, []), *stands_for]))
    return found


def _pairs(target: ast.AST, value: ast.AST) -> list[tuple[ast.AST, ast.AST]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        return [pair for t, v in zip(target.elts, value.elts, strict=True) for pair in _pairs(t, v)]
    return [(target, value)]


def names(node: ast.AST, aliases: dict[str, list[str]]) -> list[str]:
    """The dotted names that an expression may stand for; none where it is nothing of Slicer's."""
    if isinstance(node, ast.Call):
        return [f"{name}()" for name in names(node.func, aliases)]
    if isinstance(node, ast.IfExp):
        return [*names(node.body, aliases), *names(node.orelse, aliases)]
    if isinstance(node, ast.BoolOp):
        return [name for value in node.values for name in names(value, aliases)]
    if isinstance(node, ast.Name):
        return aliases.get(node.id, [node.id] if node.id in _ROOTS else [])
    if isinstance(node, ast.Attribute):
        if node.attr == "ui":
            return ["ui"]
        whole = ast.unparse(node)
        return aliases[whole] if whole in aliases else [f"{n}.{node.attr}" for n in names(node.value, aliases)]
    return []


def signature(documented: str) -> inspect.Signature:
    """The signature of a documented argument list such as ``"(text, windowTitle=None, **options)"``."""
    return _signature(ast.parse(f"lambda {documented[1:-1]}: None", mode="eval").body.args)


def _signature(given: ast.arguments) -> inspect.Signature:
    kinds = inspect.Parameter
    required = len(given.args) - len(given.defaults)
    found = [
        kinds(a.arg, kinds.POSITIONAL_OR_KEYWORD, default=kinds.empty if i < required else None)
        for i, a in enumerate(given.args)
    ]
    if given.vararg:
        found.append(kinds(given.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else None))
    if given.kwarg:
        found.append(kinds(given.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(found)


def misfit(call: ast.Call, signatures: list[inspect.Signature], bound: bool = False) -> str:
    """Why a call fits none of the signatures of a function; empty where it fits one, or cannot be told."""
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return ""
    arguments = [None] * (len(call.args) + bound)
    reasons = []
    for one in signatures:
        try:
            one.bind(*arguments, **{k.arg: None for k in call.keywords})
            return ""
        except TypeError as error:
            reasons.append(str(error))
    return "; ".join(reasons)


def qt_signatures(function: Any) -> list[inspect.Signature]:
    """The signatures of a function of PySide6 or of a stand-in; none where it does not tell."""
    from shibokensupport.signature import get_signature

    found = get_signature(function)
    if found is None:
        found = inspect.signature(function) if inspect.isfunction(function) else []
    return found if isinstance(found, list) else [found]


def functions_of(path: Path) -> dict[str, inspect.Signature | None]:
    """The functions of a Python file with their signatures, read from its source; its classes with None."""
    found: dict[str, inspect.Signature | None] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = _signature(node.args)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
    return found


class Interface:
    """What Slicer, Qt and CTK have. `application` documents what only the Slicer application has: {name: arguments},
    None for what is no call; `widgets` the class of each widget of the .ui file by its name."""

    def __init__(self, application: dict[str, str | None], widgets: dict[str, str]):
        import slicer.util

        self.application, self.widgets = application, widgets
        self.util = functions_of(Path(slicer.util.__file__))
        self.seen: dict[str, int] = {}

    def problem(self, name: str, call: ast.Call | None) -> str:
        """What is wrong with a name and its call; empty where nothing is."""
        root, _, rest = name.partition(".")
        if name in self.application or root in ("SampleData", "PyTorchUtils"):
            return self._documented(name, call)
        if root == "ui":
            return self._widget(rest, call)
        if root in ("qt", "ctk"):
            return self._class(root, rest, call)
        if rest.startswith("util."):
            return self._util(rest.removeprefix("util."), call)
        if rest.startswith("mrmlScene."):
            return self._mrml("vtkMRMLScene()." + rest.removeprefix("mrmlScene."), call)
        if rest.startswith(("vtk", "qMRML")):
            return self._mrml(rest, call) if rest.startswith("vtk") else self._class("slicer", rest, call)
        return self._documented(name, call)

    def _count(self, kind: str) -> str:
        self.seen[kind] = self.seen.get(kind, 0) + 1
        return ""

    def _documented(self, name: str, call: ast.Call | None) -> str:
        if name not in self.application:
            return f"{name} is not documented"
        self._count(name)
        arguments = self.application[name]
        if call is None or arguments is None:
            return ""
        return misfit(call, [signature(arguments)])

    def _util(self, name: str, call: ast.Call | None) -> str:
        function = name.partition("(")[0].partition(".")[0]
        if function not in self.util:
            return f"slicer.util has no {function}"
        self._count("slicer.util")
        if call is None or self.util[function] is None or function != name:
            return ""
        return misfit(call, [self.util[function]])

    def _mrml(self, name: str, call: ast.Call | None) -> str:
        import slicer

        kind, _, method = name.partition(".")
        cls = getattr(slicer, kind.removesuffix("()"), None)
        if cls is None:
            return f"slicer has no {kind}"
        self._count("slicer.vtk")
        method = method.partition("(")[0].partition(".")[0]
        return "" if not method or hasattr(cls, method) else f"{kind} has no {method}"

    def _widget(self, name: str, call: ast.Call | None) -> str:
        widget, _, attribute = name.partition(".")
        if not widget:
            return ""
        if widget not in self.widgets:
            return f"the .ui file has no {widget}"
        self._count("ui")
        cls = find_class(self.widgets[widget])
        return self._attribute(cls, attribute, call) if attribute else ""

    def _class(self, module: str, name: str, call: ast.Call | None) -> str:
        kind, _, attribute = name.partition(".")
        made = kind.endswith("()")
        cls = find_class(kind.removesuffix("()"), module)
        if cls is None:
            return f"{module} has no {kind}"
        self._count(module)
        if not attribute:
            return misfit(call, qt_signatures(cls), bound=True) if call is not None and qt_signatures(cls) else ""
        return self._attribute(cls, attribute, call, bound=made)

    def _attribute(self, cls: type, name: str, call: ast.Call | None, bound: bool = True) -> str:
        attribute, called, rest = name.partition("(")
        attribute = attribute.partition(".")[0]
        if attribute in ("connect", "disconnect") and hasattr(cls, "staticMetaObject"):
            return ""  # the signal itself is looked for when the panel connects it
        if not hasattr(cls, attribute):
            return f"{cls.__name__} has no {attribute}"
        is_property = isinstance(inspect.getattr_static(cls, attribute, None), (property, QtCore.Property))
        if is_property and (called or call is not None) and "." not in name:
            return f"{cls.__name__}.{attribute} is a property in PythonQt: it is not called"
        if is_property or rest or call is None or "." in name:
            return ""
        static = isinstance(inspect.getattr_static(cls, attribute, None), staticmethod)
        found = qt_signatures(getattr(cls, attribute))
        return misfit(call, found, bound and not static and "self" in str(found[0])) if found else ""


def find_class(name: str, module: str = "") -> Any:
    """A class of Qt, CTK or MRML widgets by its name; an enum or function where `module` has one; else None."""
    import ctk
    import qt
    import slicer

    places = {"qt": (qt,), "ctk": (ctk,), "slicer": (slicer,)}.get(module, (qt, ctk, slicer))
    return next((getattr(place, name) for place in places if hasattr(place, name)), None)
