"""The content of one exchange between a member and the store."""

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
    """An operation with a caller that waits for its result."""

    operation: Operation

    @abstractmethod
    def answered(self, result: Any) -> None:
        """Apply the store's decision."""

    @abstractmethod
    def alone(self) -> None:
        """Decide without the store."""


class Batch:
    """Operations in order, and callers that wait for a look at the other members.

    Attributes:
        operations: operations and questions for the store.
        given: released leases; sent last, and may be taken again until then.
        looks: futures of callers that wait until this member has seen the others' state.
    """

    def __init__(
        self, operations: Iterable[Operation | Question] = (), looks: Iterable[asyncio.Future[None]] = ()
    ) -> None:
        self.operations = list(operations)
        self.given: Counter[Operation] = Counter()
        self.looks = list(looks)

    def take_again(self, operation: Operation) -> bool:
        """Withdraw a release that is not sent yet; return False if there is none."""
        if not self.given[operation]:
            return False
        self.given[operation] -= 1
        return True

    def give_before(self, operation: Operation) -> None:
        """Send pending releases before the operations that follow."""
        self.operations += [operation] * self.given.pop(operation, 0)

    def close(self) -> list[Operation]:
        """Return all operations as the store expects them; the batch must not change afterwards."""
        self.operations += self.given.elements()
        return [one.operation if isinstance(one, Question) else one for one in self.operations]

    def leave_to_joining(self) -> None:
        """Drop operations that joining repeats."""
        self.operations = [
            one for one in self.operations if isinstance(one, Question) or one[0] not in _TOLD_BY_JOINING
        ]
        self.given.clear()

    def answer(self, results: Sequence[Any]) -> None:
        """Pass each question its result; `results` has one entry per operation."""
        for one, result in zip(self.operations, results, strict=True):
            if isinstance(one, Question):
                one.answered(result)

    def look(self) -> None:
        """Wake callers that wait for a look: this member has seen the others, or cannot."""
        for looked in self.looks:
            settle(looked, None)

    def undo(self, keep: Callable[[Operation], None]) -> None:
        """Decide the questions of a batch with unknown outcome without the store, and `keep` its other operations."""
        for one in self.operations:
            if isinstance(one, Question):
                one.alone()
            else:
                keep(one)
        self.look()


def settle(future: asyncio.Future[Any], result: Any, *, undo: Callable[[], None] = lambda: None) -> None:
    """Set a future's result; call `undo` if its caller has stopped waiting and `result` is true."""
    if not future.done():
        future.set_result(result)
    elif result:
        undo()
