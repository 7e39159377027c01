"""Servers that have another name in the next config; a server is identified by its address."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from ollama_router_server.upstream.interface import Origin
from ollama_router_server.upstream.targets import Target

__all__ = ["NameChanges", "name_changes"]


class NameChanges(NamedTuple):
    """The differences between the names of two configs.

    Attributes:
        moved: names that have another address now.
        renamed: removed names, by the added names at the same addresses.
        taken: old names by new ones, for servers that swap names: the new one belonged to a server that stays, or the
            old one belongs to another server now.
    """

    moved: Collection[str]
    renamed: Mapping[str, str]
    taken: Mapping[str, str]


def name_changes(
    here: Collection[str], servers: Collection[str], known: Mapping[str, Target], targets: Mapping[str, Target]
) -> NameChanges:
    """Compare the `known` targets with the next ones.

    Args:
        here: names of the servers in use, all of them in `known`.
        servers: names of the next config's servers, as far as they are in `targets`.
        known: every target so far.
        targets: the targets of the next config.
    """
    moved = {name for name, target in targets.items() if name in known and known[name].origin != target.origin}
    gone = {_address(known[name]): name for name in here if name not in targets}
    come = [name for name in targets if name not in here]
    renamed = {name: gone[_address(targets[name])] for name in come if _address(targets[name]) in gone}
    had = {_address(known[name]): name for name in here}
    left = {name for name in here if name not in targets or _address(targets[name]) != _address(known[name])}
    before = {name: had.get(_address(targets[name])) for name in servers if name in targets}
    taken = {
        new: old
        for new, old in before.items()
        if old is not None and old in left and new != old and (new in here or old in targets)
    }
    return NameChanges(moved, renamed, taken)


def _address(target: Target) -> Origin:
    return replace(target.origin, name="")
