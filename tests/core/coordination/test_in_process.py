"""A state machine: coordination within one process against a model of plain sums."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ollama_router_core.coordination import LEASE_SECONDS, FactsChanged, Figure, InProcess, Scope, read_news, write_news

SIZE = 3
MEMBERS = st.integers(0, SIZE - 1)
SCOPES = st.sampled_from(Scope)
NAMES = st.sampled_from(["a", "b"])


class Coordinating(RuleBasedStateMachine):
    """Members take, give back, beat, die, drain and tell in any order."""

    @initialize()
    def begin(self) -> None:
        """Three members."""
        self.now = 1000.0
        self.group = InProcess("router", b"secret", size=SIZE)
        self.held: Counter[tuple[int, Scope, str]] = Counter()
        self.beats: dict[int, float] = {}
        self.drains: dict[str, bool] = {}
        self.untold: dict[int, list[FactsChanged]] = {index: [] for index in range(SIZE)}
        self.figures: Counter[int] = Counter()
        self.admitted: list[tuple[int, float]] = []

    @rule(member=MEMBERS, scope=SCOPES, name=NAMES)
    def take(self, member: int, scope: Scope, name: str) -> None:
        """A request begins."""
        self.group.member(member).take(scope, name)
        self.held[member, scope, name] += 1

    @rule(member=MEMBERS, scope=SCOPES, name=NAMES)
    def give_back(self, member: int, scope: Scope, name: str) -> None:
        """A request ends, or one that never began."""
        self.group.member(member).give_back(scope, name)
        self.held[member, scope, name] = max(0, self.held[member, scope, name] - 1)

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    @rule(member=MEMBERS)
    def beat(self, member: int) -> None:
        """A sign of life."""
        asyncio.run(self.group.member(member).beat(self.now))
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
        self.group.member(member).drain(name, on=on)
        self.drains[name] = on

    @rule(member=MEMBERS, name=NAMES)
    def tell(self, member: int, name: str) -> None:
        """Somebody has news."""
        self.group.member(member).tell(FactsChanged(name))
        for other in set(self.untold) - {member}:
            self.untold[other].append(FactsChanged(name))

    @rule(member=MEMBERS)
    def hear(self, member: int) -> None:
        """Somebody listens."""
        assert self.group.member(member).news() == self.untold[member]
        self.untold[member] = []

    @rule(member=MEMBERS, value=st.integers(0, 9))
    def show(self, member: int, value: int) -> None:
        """Somebody shows a figure."""
        self.group.member(member).show(Figure.WAITING, value)
        self.figures[member] = value

    @rule(member=MEMBERS)
    def admit(self, member: int) -> None:
        """A user's request is admitted."""
        self.group.member(member).admit("alice", self.now)
        self.admitted.append((member, self.now))

    def lives(self, other: int, member: int) -> bool:
        """Whether a member believes that another one lives."""
        seen, beat = self.beats.get(member), self.beats.get(other)
        return seen is None or beat is None or seen - beat < LEASE_SECONDS

    @invariant()
    def every_member_sees_the_sums(self) -> None:
        """Of the others that live."""
        for index in range(SIZE):
            member = self.group.member(index)
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


TestCoordinating = Coordinating.TestCase
TestCoordinating.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_news_survive_being_written_down() -> None:
    """What another version writes is nothing, not an error."""
    news = FactsChanged("größer")
    assert read_news(write_news(news)) == news
    assert read_news(b"\x93\x01") is None
    assert read_news(b"") is None
