"""Short texts about operations on several servers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

__all__ = ["failed_on", "names_of"]

_MOST_NAMES = 5


def names_of(servers: Collection[str]) -> str:
    """Join at most five names, with the number of the rest."""
    return ", ".join(_first(servers))


def failed_on(verb: str, reasons: Mapping[str, str], done: Collection[str]) -> str:
    """Describe a partly failed operation: `pull failed on b: disk full (done on a)`."""
    failed = "; ".join(_first([f"{server}: {reason}" for server, reason in reasons.items()]))
    return f"{verb} failed on {failed}" + (f" (done on {names_of(done)})" if done else "")


def _first(texts: Collection[str]) -> list[str]:
    shown, more = list(texts)[:_MOST_NAMES], len(texts) - _MOST_NAMES
    return [*shown[:-1], f"{shown[-1]} and {more} more"] if more > 0 else shown
