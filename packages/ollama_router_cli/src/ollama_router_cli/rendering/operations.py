"""Operations on models for people."""

from __future__ import annotations

from typing import Any

from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.tables import format_bytes, format_ms, print_table

__all__ = ["print_operation", "progress_of"]


def print_operation(operation: dict[str, Any]) -> None:
    """Print one operation, by server."""
    to = f" to {operation['destination']}" if operation["destination"] else ""
    print_result(clean(f"{operation['kind']} of {operation['model']}{to}: {operation['state']} ({operation['id']})"))
    columns = ("server", "state", "done", "of", "words")
    print_table(columns, map(_row, operation["targets"]), right=("done", "of"))


def progress_of(operation: dict[str, Any]) -> str:
    """Return an operation's progress as one line."""
    return ", ".join(_far(target) for target in operation["targets"])


def _far(target: dict[str, Any]) -> str:
    if not target["total"] or target["state"] != "running":
        return f"{target['server']} {target['state']}"
    far = f"{target['server']} {format_bytes(target['completed'])} of {format_bytes(target['total'])}"
    rate, left = target["bytes_per_second"], target["seconds_left"]
    return (
        far if rate is None or left is None else f"{far}, {format_bytes(round(rate))}/s, {format_ms(left * 1000)} left"
    )


def _row(target: dict[str, Any]) -> tuple[object, ...]:
    counted = target["total"] > 0
    return (
        target["server"],
        target["state"],
        format_bytes(target["completed"]) if counted else None,
        format_bytes(target["total"]) if counted else None,
        target["error"] or target["status"] or None,
    )
