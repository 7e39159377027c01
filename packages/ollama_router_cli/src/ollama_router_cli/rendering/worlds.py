"""Simulated worlds for people: one table, and who would be worse off than in the first."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_router_cli.rendering.output import print_result
from ollama_router_cli.rendering.tables import print_table
from ollama_router_core.simulation.report import Summary, table
from ollama_router_core.simulation.what_if import Loss, losses

__all__ = ["print_worlds"]

_MOST_LOSSES = 10


def print_worlds(summaries: Sequence[Summary]) -> None:
    """Print figures in seconds, refused requests with their wait, and the losses of every world but the first."""
    print_result(table(summaries))
    first, *others = summaries
    for other in others:
        found = losses(first, other)
        title = f"\nworse under {other.router} than {first.router}, p95 to the first token"
        print_result(title if found else f"{title}: nobody")
        if found:
            _print_losses(found)


def _print_losses(found: Sequence[Loss]) -> None:
    rows = [
        (one.kind, one.name, f"{one.before:.1f}", f"{one.after:.1f}", str(one.refused)) for one in found[:_MOST_LOSSES]
    ]
    print_table(("", "who", "before", "then", "more refused"), rows, right=("before", "then", "more refused"))
    if len(found) > _MOST_LOSSES:
        print_result(f"and {len(found) - _MOST_LOSSES} more")
