"""What each server did in the last hour: requests, failures, and how fast it wrote; plain numbers in each process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ollama_router_core.records.request_record import RequestRecord

__all__ = ["ServerHour", "ServerHours", "ServerRow", "add_up_servers"]

_STEP: Final = 300
_STEPS: Final = 12
_CLIENT_LEFT: Final = 499

ServerRow = Sequence[Any]
"""A server as it is published: its name, then its sums in the order of `ServerHour`."""


class ServerHour(Struct, frozen=True):
    """The requests that ended on a server in the last hour, to five minutes.

    `failed` counts those that ended with an error there and attempts that were made elsewhere after it failed, but not
    those whose client left. `tokens` were written within `decode_ms` milliseconds, where the server told. What a worker
    had counted is lost when it is started again: unlike the minutes of the last hour, no successor goes on with it.
    """

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    decode_ms: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second while it wrote; None where nobody told."""
        return self.tokens / self.decode_ms * 1000 if self.decode_ms else None


class ServerHours:
    """The sums of one process, by server and five minutes; at most an hour of each server. Not thread-safe."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, dict[int, list[int]]] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a request that has ended, by its own times."""
        step = int(record.started_at + record.total_ms / 1000) // _STEP
        if record.attempts > 1:
            for server in _in_vain(record):
                self._of(server, step)[1] += 1
        if record.server is None or not record.attempts:
            return
        sums = self._of(record.server, step)
        sums[0] += 1
        sums[1] += record.status != _CLIENT_LEFT and (record.status >= 400 or record.error is not None)
        if record.decode_ms and record.completion_tokens:
            sums[2] += record.completion_tokens
            sums[3] += round(record.decode_ms)

    def rows(self, now: float) -> list[ServerRow]:
        """The servers of the hour until `now`, in seconds since 1970."""
        last = int(now) // _STEP
        self._sums = {name: steps for name, steps in self._sums.items() if max(steps) > last - _STEPS}
        kept = ((name, [one for at, one in steps.items() if at > last - _STEPS]) for name, steps in self._sums.items())
        return [(name, *map(sum, zip(*sums, strict=True))) for name, sums in kept if sums]

    def _of(self, server: str, step: int) -> list[int]:
        steps = self._sums.setdefault(server, {})
        sums = steps.get(step)
        if sums is None:
            for old in [at for at in steps if at <= step - _STEPS]:
                del steps[old]
            sums = steps[step] = [0, 0, 0, 0]
        return sums


def add_up_servers(rows: Iterable[ServerRow]) -> Mapping[str, ServerHour]:
    """Add up what several processes have counted."""
    found: dict[str, list[int]] = {}
    for name, *sums in rows:
        found[name] = [one + more for one, more in zip(found.get(name, (0, 0, 0, 0)), sums, strict=True)]
    return {name: ServerHour(*sums) for name, sums in found.items()}


def _in_vain(record: RequestRecord) -> list[str]:
    """The servers of attempts before the last that failed, as far as they are kept."""
    kept = {} if record.decision is None else msgspec.json.decode(record.decision)
    tried = kept.get("attempts", ())[: record.attempts - 1]
    return [one["server"] for one in tried if one["end"] != "preempted"]
