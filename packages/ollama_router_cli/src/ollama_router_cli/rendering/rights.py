"""The effective rights of a user or a group, with reasons, for people."""

from __future__ import annotations

from typing import Any

from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.tables import print_table

__all__ = ["print_rights"]


def print_rights(view: dict[str, Any]) -> None:
    """Print the sentence, each right with its origin, and each model and external host with the reason."""
    print_result(clean(view["sentence"]))
    print_result()
    print_table(
        ("right", "holds", "from"),
        [(one["name"].replace("_", " "), one["text"], one["origin"]) for one in view["rights"]],
    )
    for noun, found in (("model", view["models"]), ("external host", view["hosts"])):
        if found:
            print_result()
            print_table((noun, "may use", "why"), map(_judged, found))


def _judged(one: dict[str, Any]) -> tuple[object, ...]:
    return one["name"], "yes" if one["allowed"] else "no", one["why"]
