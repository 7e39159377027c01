"""A process's leases of servers' slots, counted over all processes, even while these adopt a new name one by one.

All processes count by a server's name. When it changes, they count under both names for some seconds. Decisions use
the old name first, since every process still counts under it, and then the new one, once every process counts under it.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Final, NamedTuple

from ollama_router_core.coordination.interface import Coordination, Scope
from ollama_router_server.system import machine_name
from ollama_router_server.upstream.interface import Origin

__all__ = ["ServerLeases", "address_hash"]

_OLD_DECIDES: Final = 5.0
"""Seconds within which every process learns of a new name."""
_ALL_COUNT: Final = 2 * _OLD_DECIDES


def address_hash(origin: Origin, secret: bytes) -> int:
    """Return a hash of an address; a loopback address hashes differently on each machine."""
    own = origin.host == "localhost"
    with suppress(ValueError):
        own = own or ipaddress.ip_address(origin.host).is_loopback
    address = f"{origin.scheme} {origin.authority} {machine_name() if own else ''}"
    return int.from_bytes(blake2b(address.encode(), digest_size=7, key=secret[:64]).digest())


class _Link(NamedTuple):
    """A server that processes know by one of `names`, since this process learned of the new one."""

    old: str
    new: str
    names: frozenset[str]
    since: float


class ServerLeases:
    """One process's leases of servers' slots; requests start and end under this process's name for a server.

    No name counts more than the running requests, nor less than what it granted: it is unknown which of the requests
    counted under a name ends, so a lease is released when there would be more leases than requests.

    Args:
        coordination: counts the leases.
        now: return monotonic seconds.
    """

    def __init__(self, coordination: Coordination, now: Callable[[], float]) -> None:
        self._coordination, self._now = coordination, now
        self._links: dict[str, _Link] = {}
        self._running: Counter[str] = Counter()
        self._held: dict[str, Counter[str]] = {}  # by the name at the request's start; only if others count too

    def name_for_all(self, name: str) -> str:
        """Return the name that all processes currently use for a server of this one."""
        link = self._links.get(name)
        if link is None:
            return name
        return link.old if self._now() - link.since < _OLD_DECIDES else link.new

    @property
    def are_renamed(self) -> bool:
        """Whether other processes may not use all new names yet."""
        return any(self._now() - link.since < _ALL_COUNT for link in self._links.values())

    def elsewhere(self, scope: Scope, names: Collection[str]) -> Mapping[str, int]:
        """Return what other processes hold, by this process's names of servers, without zeros."""
        if not self._links:
            return self._coordination.all_elsewhere(scope, names)
        shared = {name: self.name_for_all(name) for name in names}
        found = self._coordination.all_elsewhere(scope, set(shared.values()))
        return {name: found[one] for name, one in shared.items() if one in found}

    def begin(self, name: str) -> None:
        """Count a request."""
        shared = self.name_for_all(name)
        self._coordination.take(Scope.SERVER, shared)
        self._began(name, shared)

    def claim(self, name: str, limit: int, done: Callable[[bool], None], *, arrived: float | None = None) -> None:
        """Count a request if all processes together have fewer than `limit`, and it is its turn."""
        shared = self.name_for_all(name)

        def answered(taken: bool) -> None:  # noqa: FBT001 - an answer
            if taken and self.name_for_all(name) != shared:  # the name belongs to another server by now
                self._coordination.give_back(Scope.SERVER, shared, again=False)
                taken = False
            if taken:
                self._began(name, shared)
            done(taken)

        self._coordination.claim(Scope.SERVER, shared, limit, answered, arrived=arrived)

    def end(self, name: str) -> None:
        """Stop counting a request that started under this name."""
        held = self._held.get(name)
        if held is None:
            self._coordination.give_back(Scope.SERVER, name)
        self._running[name] -= 1
        if self._running[name] <= 0:
            del self._running[name]
        for shared in held or ():
            self._fit(name, shared, at_most=True)
        if held is not None and not self._running[name]:
            del self._held[name]

    def renamed(
        self, names: Mapping[str, str], former: Callable[[str], Iterable[str]], *, taken: Collection[str] = ()
    ) -> list[tuple[str, str]]:
        """Adopt new names, mapped to the old ones; return the pairs of new and old name that others may not know.

        Args:
            names: old names by new ones.
            former: return the names that a server had before its old one.
            taken: names that belong to another server now; requests that started under them have to be `moved`.
        """
        found: dict[str, _Link] = {}
        unknown: list[tuple[str, str]] = []
        for new, old in names.items():
            link = self._links.get(old)
            known = old if link is None else link.new
            if link is None or known != new:
                unknown.append((new, known))
                link = self._linked(old, new)
            found[new] = link
        for old in names.values():
            self._links.pop(old, None)
        self._links.update(found)
        for new, old in names.items():
            self._count_as_all(found[new], {new, old, *former(old)}.difference(taken))
        return unknown

    def moved(self, old: str, new: str) -> None:
        """Count a request under its server's new name, after another server has `taken` the old one."""
        for name in (old, new):
            self._held.setdefault(name, Counter({name: self._running[name]}))
        self._running[old] -= 1
        self._running[new] += 1
        before, after = self._held[old], self._held[new]
        for shared in [one for one in before if before[one] > self._running[old]]:
            before[shared] -= 1
            after[shared] += 1
        self._count_as_all(self._links[new], (new,))
        if not self._running[old]:
            del self._running[old], self._held[old]

    def renamed_elsewhere(
        self, new: str, old: str, servers: Collection[str], former: Callable[[str], Iterable[str]]
    ) -> None:
        """Note that another process renamed a server, which is one of `servers` here."""
        for name in servers:  # which it may have renamed again meanwhile
            if old == (self._links[name].new if name in self._links else name):
                self._links[name] = self._linked(name, new)
                self._count_as_all(self._links[name], {name, *former(name)})

    def settle(self) -> None:
        """Release leases under names that no process uses any more: they may be another server's next."""
        for name in [name for name in self._held if name in self._links]:
            link, held = self._links[name], self._held[name]
            if self._now() - link.since < _ALL_COUNT:
                continue
            for shared in held.keys() - {link.new}:
                for _ in range(held.pop(shared)):
                    self._coordination.give_back(Scope.SERVER, shared, again=False)
            if link.new == name and held[name] == self._running[name]:
                del self._held[name]

    def _linked(self, name: str, new: str) -> _Link:
        link = self._links.get(name)
        if link is None or self._now() - link.since >= _ALL_COUNT:
            names = frozenset({name if link is None else link.new})
        else:
            names = link.names  # others may still use any of them
        return _Link(self.name_for_all(name), new, names | {new}, self._now())

    def _began(self, name: str, shared: str) -> None:
        if shared != name and name not in self._held:
            self._held[name] = Counter({name: self._running[name]})
        self._running[name] += 1
        if name in self._held:
            self._held[name][shared] += 1
        link = self._links.get(name)
        if link is not None and self._now() - link.since < _ALL_COUNT:
            self._count_as_all(link, (name,))

    def _count_as_all(self, link: _Link, begun: Iterable[str]) -> None:
        for name in begun:
            if self._running[name]:
                self._held.setdefault(name, Counter({name: self._running[name]}))
                for shared in link.names:
                    self._fit(name, shared, at_most=False)

    def _fit(self, name: str, shared: str, *, at_most: bool) -> None:
        """Release leases beyond the running requests, or take missing ones."""
        held, running = self._held[name], self._running[name]
        while held[shared] > running and at_most:
            held[shared] -= 1
            self._coordination.give_back(
                Scope.SERVER, shared, again=False
            )  # others may have passed the limit by theirs
        while held[shared] < running and not at_most:
            held[shared] += 1
            self._coordination.take(Scope.SERVER, shared)
