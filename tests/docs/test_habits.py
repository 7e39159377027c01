"""CONTRIBUTING says that tests never sleep: they poll a condition, or a slow peer is part of what is tested."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
MAY_SLEEP = {"support/eventually.py", "support/waiting.py", "support/pauses.py"}


def sleeps(tree: ast.AST) -> list[int]:
    """The lines that call a `sleep` with anything but 0: `sleep(0)` lets others run and waits for nothing."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "sleep"]
    return [call.lineno for call in named if not (isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)]


def test_no_test_sleeps() -> None:
    """Polling lives in `support.eventually` and `support.waiting`, simulated silence in `support.pauses`."""
    found = {
        str(path.relative_to(TESTS)): lines
        for path in TESTS.rglob("*.py")
        if (lines := sleeps(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert set(found) <= MAY_SLEEP, found
