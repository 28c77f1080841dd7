"""Takes a service from Python code: the subscriptions to domain events, and the test modules that need it."""

import ast
from collections.abc import Mapping
from pathlib import Path


def without_subscriptions(source: str, name: str) -> str:
    """Return a module in which no domain event goes to the service.

    `[ANALYTICS, Subscription("notes")]` without notes is `[ANALYTICS]`. Imports may be left unused.
    """
    tree = ast.parse(source)
    named = {
        target.id: node
        for node in tree.body
        for target in _targets(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_subscription(node.value, name)
    }
    replaced = [
        (node, f"[{', '.join(ast.get_source_segment(source, element) or '' for element in kept)}]")
        for node in ast.walk(tree)
        if isinstance(node, ast.List)
        and len(kept := [element for element in node.elts if not _leads_to(element, name, named)]) < len(node.elts)
    ]
    for node, text in sorted([*replaced, *((node, "") for node in named.values())], key=lambda item: -item[0].lineno):
        source = _replaced(source, node, text)
    return source


def is_about(source: str, name: str) -> bool:
    """Return whether a module of tests or figures cannot do without the service.

    Its `pytestmark` says that it needs the service, or it imports the service's package.
    """
    imported = {
        str(node.module).partition(".")[0] for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)
    }
    return f"{name}_service" in imported or name in module_needs(source)


def module_needs(source: str) -> set[str]:
    """Return the services that a test module's `pytestmark` needs: the arguments of `pytest.mark.needs(…)`."""
    marks = [node for node in ast.parse(source).body if "pytestmark" in (target.id for target in _targets(node))]
    return {
        argument.value
        for mark in marks
        for call in ast.walk(mark)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "needs"
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def modules_about(folder: Path, name: str) -> list[Path]:
    """Return the modules below a folder that cannot do without the service."""
    return [path for path in sorted(folder.rglob("*.py")) if is_about(path.read_text(encoding="utf-8"), name)]


def _targets(node: ast.stmt) -> list[ast.Name]:
    """Return the names that a statement assigns a value to."""
    match node:
        case ast.Assign(targets=targets):
            return [target for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name() as target):
            return [target]
    return []


def _is_subscription(node: ast.expr | None, name: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="Subscription"), args=[ast.Constant(value=destination), *_]):
            return destination == name
    return False


def _leads_to(element: ast.expr, name: str, named: Mapping[str, ast.stmt]) -> bool:
    return _is_subscription(element, name) or (isinstance(element, ast.Name) and element.id in named)


def _replaced(source: str, node: ast.stmt | ast.expr, text: str) -> str:
    lines = source.splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[first].encode()[: node.col_offset].decode()
    after = lines[last].encode()[node.end_col_offset or 0 :].decode()
    return "".join([*lines[:first], before + text + after, *lines[last + 1 :]])
