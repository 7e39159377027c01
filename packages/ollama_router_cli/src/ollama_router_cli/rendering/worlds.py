"""How simulated worlds read: one table, and who would be worse off than in the first of them."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_router_cli.rendering.streams import print_result
from ollama_router_core.simulation import Summary, losses, table

__all__ = ["print_worlds"]

_MOST_LOSSES = 10


def print_worlds(summaries: Sequence[Summary]) -> None:
    """Print figures in seconds, refused requests with their wait, and the losses of every world but the first."""
    print_result(table(summaries))
    first, *others = summaries
    for other in others:
        found = losses(first, other)
        shown = [str(loss) for loss in found[:_MOST_LOSSES]]
        if len(found) > _MOST_LOSSES:
            shown.append(f"and {len(found) - _MOST_LOSSES} more")
        print_result(
            f"\nworse under {other.router} than {first.router}, p95 to the first token: {'; '.join(shown) or 'nobody'}"
        )
