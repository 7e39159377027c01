"""A decision as a person reads it.

Belongs here: the words and lines around the verdicts. Does not belong here: verdicts and reasons (the core).
"""

from __future__ import annotations

from ollama_router_cli.console import print_result
from ollama_router_cli.render import clean, print_table
from ollama_router_core.decision import Decision

__all__ = ["print_decision"]


def print_decision(decision: Decision, *, user: str | None = None) -> None:
    """Print what was asked and needed, every server with its verdict and reasons, and what comes next."""
    print_result(clean(_headline(decision, user)))
    print_table(
        ("", "", "", ""),
        [
            (
                " >" if verdict.verdict == "chosen" else "",
                verdict.server,
                verdict.verdict,
                verdict.text,
            )
            for verdict in decision.verdicts
        ],
    )
    print_result(clean(_outlook(decision)))


def _headline(decision: Decision, user: str | None) -> str:
    request = decision.request
    parts = [request.model_text or "(no model)"]
    if request.num_ctx is not None:
        parts.append(_context(request.num_ctx))
    if user is not None:
        parts.append(user)
    parts.append(decision.strategy)
    asked = " · ".join(parts)
    estimate = next((verdict.estimate for verdict in decision.verdicts if verdict.estimate is not None), None)
    return asked if estimate is None else f"{asked}    needs {estimate}"


def _context(tokens: int) -> str:
    return f"{tokens // 1024}k context" if tokens % 1024 == 0 else f"{tokens} tokens of context"


def _outlook(decision: Decision) -> str:
    error = decision.error
    if error is not None:
        again = "" if error.retry_after is None else f", Retry-After {error.retry_after:g} s"
        return f"No server: {error.status_hint} {error.code}{again}."
    first, *others = decision.ranking
    if others:
        return f"Next best: {', '.join(others)}."
    return f"Next best: none. If {first} cannot take it, the request fails."
