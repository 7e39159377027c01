"""The tree of errors: what its docstring promises is what the classes hold."""

from __future__ import annotations

import inspect
import re

import pytest

from ollama_router_core import errors
from ollama_router_core.errors import MethodNotAllowed, RouterError, UpstreamTimeout

TREE = re.findall(r"(?m)^ +[| ]*[|`]-- (\w+) +([a-z]\w+) +(\d{3})\b", errors.__doc__ or "")
CLASSES = {
    name: value for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, RouterError)
}


def test_the_tree_lists_leaves():
    """The docstring's table is read by these tests: it must not be empty."""
    assert len(TREE) > 20


@pytest.mark.parametrize(("name", "code", "status"), TREE)
def test_each_class_has_the_code_and_status_of_the_tree(name: str, code: str, status: str):
    """Codes and statuses are what users and dashboards match on."""
    assert CLASSES[name].code == code
    assert CLASSES[name].status_hint == int(status)


def test_every_leaf_is_in_the_tree():
    """No class that can be raised is undocumented; only the branches have no row."""
    branches = {parent.__name__ for cls in CLASSES.values() for parent in cls.__mro__[1:]}
    assert set(CLASSES) - branches == {name for name, _, _ in TREE}


def test_the_tree_is_drawn_as_it_is():
    """Each class stands under its parent in the drawing."""
    parents = {0: "RouterError"}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r" {4}((?:[| ] {3})*)[|`]-- (\w+)", line)
        if found is not None:
            depth = len(found[1]) // 4
            parents[depth + 1] = found[2]
            assert CLASSES[found[2]].__bases__ == (CLASSES[parents[depth]],)


def test_codes_are_unique():
    """A code names one class."""
    codes = [cls.code for cls in CLASSES.values()]
    assert len(set(codes)) == len(codes)


def test_all_is_complete():
    """`__all__` is every class of the tree, in order, and the wording that their texts share."""
    assert [*sorted(CLASSES), "amount"] == errors.__all__


@pytest.mark.parametrize(("count", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_345, "12,345 rows")])
def test_one_of_something_is_singular(count: int, text: str):
    """In every text that counts."""
    assert errors.amount(count, "row") == text


def test_an_error_is_its_message():
    """The text is for people; `retry_after` is for clients."""
    error = RouterError("the disk is full", retry_after=2.5)
    assert (str(error), error.message, error.retry_after) == ("the disk is full", "the disk is full", 2.5)
    assert RouterError("x").retry_after is None


def test_some_errors_say_more():
    """The methods a path takes, and the phase that took too long."""
    assert MethodNotAllowed("no", allowed=("GET",)).allowed == ("GET",)
    assert UpstreamTimeout("silent", phase="idle").phase == "idle"
