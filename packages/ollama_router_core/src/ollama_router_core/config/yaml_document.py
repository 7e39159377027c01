"""Parse text into a tree of YAML nodes with line numbers."""

from __future__ import annotations

from typing import Any

import yaml

from ollama_router_core.config.problems import Problem, config_error
from ollama_router_core.errors import ConfigError

__all__ = ["MAX_DEPTH", "MAX_TEXT", "PlainLoader", "compose", "line_of", "plain_tag"]

MAX_TEXT = 1024 * 1024
"""Maximum number of characters in a file; PyYAML reads about 100,000 a second."""

MAX_DEPTH = 40
"""Maximum nesting; the deepest setting has five levels."""

_DROPPED = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")


class PlainLoader(yaml.SafeLoader):
    """The safe loader without dates, as `2024-01-01` may be a model's tag, and with limited depth."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own class attribute)
        first: [(tag, regex) for tag, regex in pairs if tag not in _DROPPED]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node within the depth limit; PyYAML calls this for each node."""
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} levels of nesting", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def compose(text: str) -> yaml.Node | None:
    """Return the root node of the only document in `text`, or None if it is empty.

    Raises:
        ConfigError: the text is not one well-formed YAML document, too large or too deep.
    """
    if len(text) > MAX_TEXT:
        raise config_error([Problem(line=None, path="", message=f"more than {MAX_TEXT} characters of text")])
    try:
        return _single_node(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _syntax_error(line, f"the character #x{_ordinal(error.character):04x} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _syntax_error(mark.line + 1 if mark else None, _description(error)) from None
    except (ValueError, OverflowError):
        # A \U escape beyond Unicode, or a %YAML version of thousands of digits: PyYAML lets chr and int raise.
        raise _syntax_error(None, "an escape or directive has a number out of range") from None


def line_of(node: yaml.Node) -> int:
    """Return the line on which the node starts, counted from 1."""
    line: int = node.start_mark.line
    return line + 1


def plain_tag(text: str) -> str:
    """Return the tag that YAML assigns to an unquoted text."""
    tag: str = PlainLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return tag


def _single_node(text: str) -> yaml.Node | None:
    loader = PlainLoader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    return node


def _ordinal(character: str | int) -> int:
    return character if isinstance(character, int) else ord(character)


def _description(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "unreadable"
    if "'\\t'" in problem:
        return "a tab in the indentation, where only spaces may be"
    if "'{'" in problem:
        return f"{problem}; inside {{...}} or [...] a ${{VARIABLE}} needs quotes, or a line of its own"
    return f"{error.context}, {problem}" if error.context else problem


def _syntax_error(line: int | None, message: str) -> ConfigError:
    return config_error([Problem(line=line, path="", message=f"not valid YAML: {message}")])
