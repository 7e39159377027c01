"""A state machine: coordination on one machine against a model of plain sums, for each of its implementations."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ollama_router_core.coordination.interface import LEASE_SECONDS, Figure, Group, Scope
from ollama_router_core.coordination.news import FactsChanged

__all__ = ["SIZE", "Coordinating"]

SIZE = 3
MEMBERS = st.integers(0, SIZE - 1)
SCOPES = st.sampled_from(Scope)
NAMES = st.sampled_from(["a", "b"])


class Coordinating(RuleBasedStateMachine):
    """Members take, give back, beat, die, drain and tell in any order."""

    @staticmethod
    def make_group() -> Group:
        """The implementation: a group of `SIZE` members."""
        raise NotImplementedError

    @initialize(now=st.sampled_from((0.0, 1000.0)))
    def begin(self, now: float) -> None:
        """Three members; the clock may have just begun."""
        self.now = now
        self.group = self.make_group()
        self.members = [self.group.member(index) for index in range(SIZE)]
        self.held: Counter[tuple[int, Scope, str]] = Counter()
        self.beats: dict[int, float] = {}
        self.drains: dict[str, bool] = {}
        self.untold: dict[int, list[FactsChanged]] = {index: [] for index in range(SIZE)}
        self.figures: Counter[int] = Counter()
        self.admitted: list[tuple[int, float]] = []

    @rule(member=MEMBERS, scope=SCOPES, name=NAMES)
    def take(self, member: int, scope: Scope, name: str) -> None:
        """A request begins."""
        self.members[member].take(scope, name)
        self.held[member, scope, name] += 1

    @rule(member=MEMBERS, scope=SCOPES, name=NAMES)
    def give_back(self, member: int, scope: Scope, name: str) -> None:
        """A request ends, or one that never began."""
        self.members[member].give_back(scope, name)
        self.held[member, scope, name] = max(0, self.held[member, scope, name] - 1)

    @rule(seconds=st.integers(0, 320).map(lambda eighths: eighths / 8))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(member=MEMBERS)
    def beat(self, member: int) -> None:
        """A sign of life."""
        asyncio.run(self.members[member].beat(self.now))
        self.beats[member] = self.now

    @rule(member=MEMBERS)
    def die(self, member: int) -> None:
        """A process ends and is started again."""
        self.group.forget(member)
        self.beats.pop(member, None)
        self.figures[member] = 0
        for key in [key for key in self.held if key[0] == member]:
            del self.held[key]

    @rule(member=MEMBERS, name=NAMES, on=st.booleans())
    def drain(self, member: int, name: str, on: bool) -> None:
        """Somebody drains a server."""
        self.members[member].drain(name, on=on)
        self.drains[name] = on

    @rule(member=MEMBERS, name=NAMES)
    def tell(self, member: int, name: str) -> None:
        """Somebody has news."""
        self.members[member].tell(FactsChanged(name))
        for other in set(self.untold) - {member}:
            self.untold[other].append(FactsChanged(name))

    @rule(member=MEMBERS)
    def hear(self, member: int) -> None:
        """Somebody listens."""
        heard = self.members[member].news()
        assert sorted(heard, key=repr) == sorted(self.untold[member], key=repr)
        self.untold[member] = []

    @rule(member=MEMBERS, value=st.integers(0, 9))
    def show(self, member: int, value: int) -> None:
        """Somebody shows a figure."""
        self.members[member].show(Figure.WAITING, value)
        self.figures[member] = value

    @rule(member=MEMBERS)
    def admit(self, member: int) -> None:
        """A user's request is admitted."""
        self.members[member].admit("alice", self.now)
        self.admitted.append((member, self.now))

    def lives(self, other: int, member: int) -> bool:
        """Whether a member believes that another one lives."""
        seen, beat = self.beats.get(member), self.beats.get(other)
        return seen is None or beat is None or seen - beat < LEASE_SECONDS

    @invariant()
    def every_member_sees_the_sums(self) -> None:
        """Of the others that live."""
        for index in range(SIZE):
            member = self.members[index]
            others = [other for other in range(SIZE) if other != index]
            for scope in Scope:
                for name in ("a", "b"):
                    expected = sum(self.held[other, scope, name] for other in others if self.lives(other, index))
                    assert member.elsewhere(scope, name) == expected
            for name in ("a", "b"):
                assert member.drained(name) == self.drains.get(name)
            assert member.total(Figure.WAITING) == sum(self.figures.values())
            recent = [at for other, at in self.admitted if other != index and int(at) >= int(self.now) - 60]
            assert sum(row.requests for row in member.admissions("alice", self.now)) == len(recent)
