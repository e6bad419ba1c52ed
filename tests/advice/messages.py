"""Every message of the package that says what to do, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.conftest import ROOT

PACKAGE = ROOT / "gd_lightning"
# What a message begins its advice with, behind what cannot be done and because of what.
_ADVICE = re.compile(
    r"(?:; |, or )(?:use|give|leave|train|choose|put|set|try|add|make|hold|repair|delete|import|install|name|write|"
    r"correct|remove|change|check|reshape|call|see|continue|repeat|begin|save|start|take|keep|convert|drop|compute|return)\b"
)


@cache
def messages() -> dict[str, str]:
    """Return where each message stands, by its text; what is put into it at run time is written {}."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in _outside_docstrings(ast.parse(path.read_text(encoding="utf-8"))):
            text = _text(node)
            if text is not None and _ADVICE.search(text):
                found[text] = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
    return found


def pattern(message: str) -> re.Pattern[str]:
    """Return what finds a message in what was printed, with a group for each part that is put in at run time."""
    parts = [re.escape(part) for part in re.split(r"\{\d?\}", message)]
    # What stands last reaches to the end of the line.
    return re.compile("(.*?)".join(parts) + ("" if parts[-1] else "$"), re.S)


def _outside_docstrings(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes, but for docstrings and the parts of a string that has others put into it."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    yield node
    for child in () if isinstance(node, ast.JoinedStr) else ast.iter_child_nodes(node):
        yield from _outside_docstrings(child)


def _text(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None
