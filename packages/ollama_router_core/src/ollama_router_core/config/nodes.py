"""Conversion of a YAML tree's section to plain values with line numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from ollama_router_core.config.expansion import expand
from ollama_router_core.config.problems import KeyPath, Problem, render_path
from ollama_router_core.config.yaml_document import MAX_DEPTH, line_of, plain_tag

__all__ = ["BROKEN", "MAX_VALUES", "Entry", "NodeReader"]

MAX_VALUES = 50_000
"""Maximum number of values in a section with aliases resolved, against exponential expansion."""

BROKEN: Final = object()
"""Placeholder for an unreadable value whose problem has been reported."""

Entry = tuple[yaml.ScalarNode, yaml.Node]
"""A key and its value."""

_YAML = "tag:yaml.org,2002:"
_MERGE = f"{_YAML}merge"
_TEXT_TAGS = (f"{_YAML}str", _MERGE)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_CONSTRUCT = {
    f"{_YAML}null": _CONSTRUCTOR.construct_yaml_null,
    f"{_YAML}bool": _CONSTRUCTOR.construct_yaml_bool,
    f"{_YAML}int": _CONSTRUCTOR.construct_yaml_int,
    f"{_YAML}float": _CONSTRUCTOR.construct_yaml_float,
}


class NodeReader:
    """Convert nodes to values, and collect `problems`, `lines` and `variables`.

    `lines` maps each path to the line of its key; for a merged value, that is in the merged mapping. `variables` maps
    the path of a value from the environment to the text in the file, as the value may be a secret.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[Problem] = []
        self.lines: dict[KeyPath, int] = {}
        self.variables: dict[KeyPath, str] = {}
        self._entries: dict[int, dict[str, Entry]] = {}
        self._scalars: dict[int, tuple[Any, bool]] = {}
        self._open: set[int] = set()
        self._merging: set[int] = set()
        self._count = 0

    def read(self, node: yaml.Node, path: KeyPath = ()) -> Any:
        """Return the node's value: None, bool, int, float, str, list, dict with text keys, or `BROKEN`."""
        if not self._spend(1, node, path):
            return BROKEN
        if len(path) > MAX_DEPTH or id(node) in self._open:
            return self._problem(node, path, "an alias that refers to itself or is nested too deeply")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            return self._collection(node, path)
        finally:
            self._open.discard(id(node))

    def line_at(self, path: KeyPath) -> int | None:
        """Return the line of a path or its nearest parent; None if none has a line."""
        lines = (self.lines.get(path[:length]) for length in range(len(path), 0, -1))
        return next((line for line in lines if line is not None), None)

    def entries(self, node: yaml.MappingNode, path: KeyPath = ()) -> dict[str, Entry]:
        """Return the mapping's entries with merge keys resolved: own keys take precedence, then earlier mappings."""
        known = self._entries.get(id(node))
        if known is not None:
            return known
        if id(node) in self._merging or len(self._merging) > MAX_DEPTH:
            self._problem(node, path, "a merge that refers to itself or is nested too deeply")
            return {}
        self._merging.add(id(node))
        merged = self._merged(node, path) | self._own(node, path)
        self._merging.discard(id(node))
        self._entries[id(node)] = merged if self._spend(len(merged), node, path) else {}
        return self._entries[id(node)]

    def _collection(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_YAML}map":
            values = {}
            for name, (key, value) in self.entries(node, path).items():
                self.lines[*path, name] = line_of(key)
                values[name] = self.read(value, (*path, name))
            return values
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_YAML}seq":
            for index, item in enumerate(node.value):
                self.lines[*path, index] = line_of(item)
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._problem(node, path, f"the tag {node.tag!r} is not supported")

    def _own(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Entry]:
        own: dict[str, Entry] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "expected text as a key, got a list or a mapping")
                continue
            if key.tag not in _TEXT_TAGS:
                self._problem(key, (*path, key.value), "expected text as a key; put it in quotes")
            if key.value in own:
                first = line_of(own[key.value][0])
                self._problem(key, (*path, key.value), f"written twice, first on line {first}")
            own[key.value] = (key, value)
        return own

    def _merged(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Entry]:
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):
                    merged |= self._source(source, path)
        return merged

    def _source(self, node: yaml.Node, path: KeyPath) -> dict[str, Entry]:
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, path, "expected a mapping, or a list of mappings, to merge with <<")
            return {}
        return self.entries(node, path)

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        known = self._scalars.get(id(node))
        if known is None:
            known = self._construct(node, path)
            self._scalars[id(node)] = known
        value, from_environment = known
        if from_environment:
            self.variables[path] = node.value
        return value

    def _construct(self, node: yaml.ScalarNode, path: KeyPath) -> tuple[Any, bool]:
        text, tag = node.value, node.tag
        changed = "${" in text
        if changed:
            expanded = expand(text, self._env)
            for message in expanded.problems:
                self._problem(node, path, message)
            if expanded.problems:
                return BROKEN, False
            text = expanded.text
            tag = plain_tag(text) if node.style is None and tag == f"{_YAML}str" else tag
        if tag in _TEXT_TAGS:
            return text, changed
        if tag not in _CONSTRUCT:
            return self._problem(node, path, f"the tag {tag!r} is not supported"), False
        try:
            typed = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
            return _CONSTRUCT[tag](typed), changed
        except (ValueError, LookupError, ArithmeticError):
            return self._problem(node, path, f"not a value of the YAML type {tag.removeprefix(_YAML)}"), False

    def _spend(self, values: int, node: yaml.Node, path: KeyPath) -> bool:
        before, self._count = self._count, self._count + values
        if before <= MAX_VALUES < self._count:
            self._problem(node, path, f"more than {MAX_VALUES} values once aliases are resolved")
        return self._count <= MAX_VALUES

    def _problem(self, node: yaml.Node, path: KeyPath, message: str) -> object:
        self.problems.append(Problem(line=line_of(node), path=render_path(path), message=message))
        return BROKEN
