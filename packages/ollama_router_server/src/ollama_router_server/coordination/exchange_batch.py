"""What goes with the next exchange between a member and the store."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ollama_router_server.coordination.redis_store import Operation

__all__ = ["Batch", "Question", "settle"]

_TOLD_BY_JOINING: Final = frozenset({"take", "give", "wait", "head"})


class Question(ABC):
    """An operation whose result somebody waits for."""

    operation: Operation

    @abstractmethod
    def answered(self, result: Any) -> None:
        """Go by what the store decided."""

    @abstractmethod
    def alone(self) -> None:
        """Decide without the store."""


class Batch:
    """Operations in their order, and who waits for a look at the others.

    Attributes:
        operations: what is asked and told.
        given: what is given back; it goes last, and may be taken again until then.
        looks: those who wait until this member has seen what the others do.
    """

    def __init__(
        self, operations: Iterable[Operation | Question] = (), looks: Iterable[asyncio.Future[None]] = ()
    ) -> None:
        self.operations = list(operations)
        self.given: Counter[Operation] = Counter()
        self.looks = list(looks)

    def take_again(self, operation: Operation) -> bool:
        """Withdraw what was given back; False where nothing was."""
        if not self.given[operation]:
            return False
        self.given[operation] -= 1
        return True

    def give_before(self, operation: Operation) -> None:
        """Have what was given back told before what comes next."""
        self.operations += [operation] * self.given.pop(operation, 0)

    def close(self) -> list[Operation]:
        """Return all of it as the store takes it; nothing is given back or taken again after this."""
        self.operations += self.given.elements()
        return [one.operation if isinstance(one, Question) else one for one in self.operations]

    def leave_to_joining(self) -> None:
        """Drop what a member tells as it joins."""
        self.operations = [
            one for one in self.operations if isinstance(one, Question) or one[0] not in _TOLD_BY_JOINING
        ]
        self.given.clear()

    def answer(self, results: Sequence[Any]) -> None:
        """Tell who asked what was decided; `results` has one for each operation."""
        for one, result in zip(self.operations, results, strict=True):
            if isinstance(one, Question):
                one.answered(result)

    def look(self) -> None:
        """Tell who waits that this member has seen the others, or cannot."""
        for looked in self.looks:
            settle(looked, None)

    def undo(self, keep: Callable[[Operation], None]) -> None:
        """Answer those who wait for a batch of which nobody knows what became, and keep the rest."""
        for one in self.operations:
            if isinstance(one, Question):
                one.alone()
            else:
                keep(one)
        self.look()


def settle(future: asyncio.Future[Any], result: Any, *, undo: Callable[[], None] = lambda: None) -> None:
    """Set a result that somebody may not wait for any more."""
    if not future.done():
        future.set_result(result)
    elif result:
        undo()
