"""Environment variables inside values: `${NAME}` and `${NAME:-default}`.

As in a shell, the default also replaces an empty value. `$${` is a literal `${`. References do not nest, and the result
is not expanded again, so that a variable's value cannot add references.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

__all__ = ["Expanded", "escape", "expand"]

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\})?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Expanded(Struct, frozen=True, kw_only=True):
    """An expanded text; invalid if there are `problems`."""

    text: str
    problems: tuple[str, ...] = ()


def expand(text: str, env: Mapping[str, str]) -> Expanded:
    """Replace every reference by its value in `env`."""
    problems: list[str] = []

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, dash, default = found[1].partition(":-")
        if not found[2] or not _NAME.fullmatch(name) or "${" in default:
            problems.append("expected ${NAME} or ${NAME:-default} after a $ (write $${ for a literal ${)")
            return ""
        if name not in env and not dash:
            problems.append(f"the environment variable {name} is not set; set it or write ${{{name}:-default}}")
        value = env.get(name, "")
        return value or default

    expanded = _REFERENCE.sub(replace, text)
    return Expanded(text=expanded, problems=tuple(dict.fromkeys(problems)))


def escape(text: str) -> str:
    """Escape a text so that `expand` returns the original in any environment."""
    return text.replace("${", "$${")
