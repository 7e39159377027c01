"""Masking of secrets in config texts, for stored versions and comparison, and the restoration of masked secrets.

Passwords in URLs and values of header fields become `***` in place; references such as `${NAME}`, comments, order and
layout are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

import yaml

from ollama_router_core.config.erb import without_erb
from ollama_router_core.config.problems import KeyPath, render_path
from ollama_router_core.config.yaml_document import compose
from ollama_router_core.errors import ConfigError

__all__ = ["fill_secrets", "is_secret", "mask_secrets", "without_password"]

_MASK: Final = "***"
_REFERENCE: Final = "${"
_PASSWORDS: Final = (
    re.compile(r"(://[^/@:]*:).*(?=@)", re.DOTALL),
    re.compile(r"(pass(?:word|wd)?=)[^&]*", re.IGNORECASE),
)
_IN_COMMENTS: Final = re.compile(
    r"(?P<user>://[^\s/@:]*:)[^\s@$]+(?=@)|(?P<query>[?&]\w*pass(?:word|wd)?=)[^\s&\"'$]+"
    r"|(?P<scheme>\b(?:bearer|basic)\s+|\bsk-)[^\s\"'$]{6,}",
    re.IGNORECASE,
)
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*\s+)*")


def without_password(url: str) -> str:
    """Replace the passwords in a URL by `***`."""
    for password in _PASSWORDS:
        url = password.sub(rf"\1{_MASK}", url)
    return url


def mask_secrets(text: str) -> str:
    """Mask every secret in a config's text, in all environments.

    Raises:
        ConfigError: the text is not valid YAML.
    """
    text, _ = without_erb(text)
    masks = ((path, node, _masked(path, node.value)) for path, node in _secrets(text))
    changed = [(node, masked) for _, node, masked in masks if masked != node.value]
    return _without_secrets_in_comments(_replaced(text, changed))


def fill_secrets(masked: str, current: str) -> str:
    """Replace each `***` in a masked text by the secret of the same setting in the current text.

    Raises:
        ConfigError: the current text is not valid YAML, or lacks a secret; the error names the setting.
    """
    wanted = [(path, node) for path, node in _secrets(masked) if _MASK in node.value]
    if not wanted:
        return masked
    text, _ = without_erb(current)
    known = {path: node.value for path, node in _secrets(text)}
    filled = []
    for path, node in wanted:
        value = known.get(path)
        if value is None or not (_is_header(path) or _masked(path, value) == node.value):
            raise ConfigError(
                f"{render_path(path)} held a secret; versions store no secrets, and the current config has none "
                "there: add it by hand, or refer to it as ${NAME}"
            )
        filled.append((node, value))
    return _replaced(masked, filled)


def _masked(path: KeyPath, value: str) -> str:
    if _REFERENCE in value:
        return value
    return _MASK if _is_header(path) else without_password(value)


def _secrets(text: str) -> Iterator[tuple[KeyPath, yaml.ScalarNode]]:
    root = compose(text)
    if root is not None:
        yield from _below(root, (), set())


def _below(node: yaml.Node, path: KeyPath, seen: set[int]) -> Iterator[tuple[KeyPath, yaml.ScalarNode]]:
    """Visit each node once, even if it has several aliases."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _below(value, (*path, str(key.value)), seen)
    elif isinstance(node, yaml.ScalarNode) and is_secret(path):
        yield path, node


def is_secret(path: KeyPath) -> bool:
    """Return whether the value at a path from the root of a config, or of an environment, may be a secret."""
    return path[-1:] == ("database_url",) or path[-2:] == ("coordination", "url") or _is_header(path)


def _is_header(path: KeyPath) -> bool:
    return len(path) > 3 and path[-2] == "headers" and path[-4] in {"servers", "external_hosts"}


def _replaced(text: str, changed: list[tuple[yaml.ScalarNode, str]]) -> str:
    """Replace values from the end of the text, so that earlier offsets stay valid; keep anchors and line ends."""
    for node, value in sorted(changed, key=lambda one: -one[0].start_mark.index):
        start, end = node.start_mark.index, node.end_mark.index
        written = text[start:end]
        found = _PROPERTIES.match(written)
        properties, ending = found[0] if found else "", written[len(written.rstrip()) :]
        quoted = json.dumps(value, ensure_ascii=False)
        text = f"{text[:start]}{properties}{quoted}{ending}{text[end:]}"
    return text


def _without_secrets_in_comments(text: str) -> str:
    def mask(found: re.Match[str]) -> str:
        return (found["user"] or found["query"] or found["scheme"]) + _MASK

    lines = []
    for line in text.splitlines(keepends=True):
        code, hash_sign, comment = line.partition("#")
        lines.append(code + hash_sign + _IN_COMMENTS.sub(mask, comment))
    return "".join(lines)
