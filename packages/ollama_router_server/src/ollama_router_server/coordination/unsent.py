"""Operations kept while the store is unavailable: bounded, and only those that still matter afterwards."""

from __future__ import annotations

from collections import Counter, deque

from ollama_router_core.coordination.shared_limits import MINUTE_SECONDS
from ollama_router_server.coordination.redis_store import Operation

__all__ = ["MOST_NEWS", "Unsent"]

MOST_NEWS = 1024


class Unsent:
    """Counts by user and second, tokens by user and day, the last drain of each server, the newest news."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._days: dict[tuple[str, int], tuple[int, int]] = {}
        self._drains: dict[str, Operation] = {}
        self._news: deque[Operation] = deque(maxlen=MOST_NEWS)

    def add(self, operation: Operation) -> None:
        """Keep an operation, unless joining repeats it."""
        match operation:
            case (str(kind), str(user), int(second), int(number)) if kind in {"admit", "spend"}:
                self._counts[kind, user, second] += number
            case ("use", str(user), int(second), int(day), int(tokens), *_):
                # Drop the known usage: by now the database has a part of the tokens.
                first, before = self._days.get((user, day), (second, 0))
                self._days[user, day] = (min(first, second), before + tokens)
            case ("drain", str(server), *_):
                self._drains[server] = operation
            case ("tell", *_):
                self._news.append(operation)
            case _:
                pass

    def forget(self, second: int) -> None:
        """Drop counts older than a minute before this second of the store's clock: they no longer matter."""
        for key in [key for key in self._counts if key[2] < second - MINUTE_SECONDS]:
            del self._counts[key]

    def operations(self) -> list[Operation]:
        """Return the kept operations."""
        counts = [(*key, number) for key, number in self._counts.items() if number]
        days = [("use", user, first, day, tokens) for (user, day), (first, tokens) in self._days.items() if tokens]
        return [*counts, *days, *self._drains.values(), *self._news]
