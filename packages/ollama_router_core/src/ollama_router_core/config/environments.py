"""Selection of an environment's section, or the whole of a flat file.

A file whose top-level keys are settings is flat and applies to every environment. Otherwise each top-level mapping is
an environment. As in Rails, sections are merged only by the file's own anchors, usually under `default` and `shared`.
"""

from __future__ import annotations

import yaml

from ollama_router_core.config.nodes import NodeReader
from ollama_router_core.config.problems import Problem, config_error, render_path
from ollama_router_core.config.settings import Config
from ollama_router_core.config.words import nearest
from ollama_router_core.config.yaml_document import line_of

__all__ = ["USUAL_ENVIRONMENTS", "choose_section"]

USUAL_ENVIRONMENTS = frozenset({"default", "shared", "development", "test", "production"})

_SETTINGS = frozenset(
    name for key, field in Config.model_fields.items() for name in (key, field.alias) if name is not None
)


def choose_section(root: yaml.Node | None, environment: str, reader: NodeReader) -> yaml.Node | None:
    """Return the mapping with the environment's settings, or None if it is empty.

    Raises:
        ConfigError: the file is not a mapping, has no such environment, or mixes settings with environments.
    """
    if root is None or _is_null(root):
        return None
    if not isinstance(root, yaml.MappingNode):
        message = "expected a mapping of settings or of environments"
        raise config_error([Problem(line=line_of(root), path="", message=message)])
    top = reader.entries(root)
    if not top:
        return root
    settings = [name for name in top if name in _SETTINGS]
    sections = [name for name, (_, value) in top.items() if name not in _SETTINGS and _is_section(value)]
    chosen = environment if environment in sections else None
    if settings and (chosen or USUAL_ENVIRONMENTS.intersection(sections)):
        message = "this setting is outside all environments; move it into one"
        problems = [_at(top[name][0], name, message) for name in settings]
        raise config_error([*reader.problems, *problems])
    if settings or not sections:
        return root
    if chosen is None:
        raise _unknown(environment, {name: top[name][0] for name in sections}, reader)
    stray = [name for name in top if name not in sections]
    reader.problems += [_at(top[name][0], name, "expected an environment, a mapping") for name in stray]
    return top[chosen][1]


def _unknown(environment: str, sections: dict[str, yaml.ScalarNode], reader: NodeReader) -> Exception:
    message = f"no environment {environment!r}; the file has {', '.join(sections)}"
    problems = [Problem(line=None, path="", message=message)]
    for name, key in sections.items():
        setting = nearest(name, _SETTINGS)
        if setting and name not in USUAL_ENVIRONMENTS:
            problems.append(_at(key, name, f"unknown key; did you mean {setting!r}?"))
    return config_error([*reader.problems, *problems])


def _at(key: yaml.ScalarNode, name: str, message: str) -> Problem:
    return Problem(line=line_of(key), path=render_path((name,)), message=message)


def _is_section(node: yaml.Node) -> bool:
    return isinstance(node, yaml.MappingNode) or _is_null(node)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.tag == "tag:yaml.org,2002:null")
