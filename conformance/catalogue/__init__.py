"""The exchanges, by group."""

from __future__ import annotations

from conformance.catalogue import anthropic, bodies, connections, library, methods, names, native, openai, paths
from conformance.catalogue.building import Exchange
from conformance.subject import Subject

__all__ = ["Exchange", "exchanges"]

_GROUPS = (paths, methods, native, openai, anthropic, names, bodies, connections)


def exchanges(subject: Subject, *, nonce: str, destructive: bool) -> list[Exchange]:
    """Every exchange for this server; `nonce` is in the names of whatever is created.

    Two calls with nonces of one length give the same exchanges in the same order.
    """
    chosen = [one for group in _GROUPS for one in group.exchanges(subject)]
    return chosen + (list(library.exchanges(subject, nonce)) if destructive else [])
