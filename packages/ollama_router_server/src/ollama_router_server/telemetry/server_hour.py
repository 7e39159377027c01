"""Requests, failures and output speed of each server in the last hour, as plain numbers in each process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ollama_router_core.exchange.machine import CLIENT_LEFT
from ollama_router_core.records.request_record import RequestRecord

__all__ = ["ServerHour", "ServerHours", "ServerRow", "add_up_server_rows", "servers_of"]

_STEP: Final = 300
_STEPS: Final = 12
_NOTHING: Final = (0, 0, 0, 0)

ServerRow = Sequence[Any]
"""Published sums of a server: its name, the number of the five minutes since 1970, and the fields of
`ServerHour`."""


class ServerHour(Struct, frozen=True):
    """The requests that ended on a server in the last hour, to five minutes.

    `failed` counts requests that ended there with an error, and failed attempts that were retried elsewhere; client
    disconnects are no failures. `tokens` were generated within `decode_ms` milliseconds, if the server reported both.
    """

    requests: int = 0
    failed: int = 0
    tokens: int = 0
    decode_ms: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second of decoding; None if no server reported any."""
        return self.tokens / self.decode_ms * 1000 if self.decode_ms else None


class ServerHours:
    """The sums of one process by server and five minutes, at most an hour per server. Not thread-safe."""

    __slots__ = ("_sums",)

    def __init__(self) -> None:
        self._sums: dict[str, dict[int, list[int]]] = {}

    def count(self, record: RequestRecord) -> None:
        """Count a finished request at its own times."""
        step = int(record.started_at + record.total_ms / 1000) // _STEP
        if record.attempts > 1:
            for server in _failed_servers(record):
                self._sums_of(server, step)[1] += 1
        if record.server is None or not record.attempts:
            return
        sums = self._sums_of(record.server, step)
        sums[0] += 1
        sums[1] += record.status != CLIENT_LEFT and (record.status >= 400 or record.error is not None)
        if record.decode_ms and record.completion_tokens:
            sums[2] += record.completion_tokens
            sums[3] += round(record.decode_ms)

    def rows(self, now: float) -> list[ServerRow]:
        """Return a row per server and five minutes with requests in the hour until `now` (seconds since 1970)."""
        gone = _last_gone(now)
        self._sums = {name: steps for name, steps in self._sums.items() if max(steps) > gone}
        return [(name, at, *sums) for name, steps in self._sums.items() for at, sums in steps.items() if at > gone]

    def _sums_of(self, server: str, step: int) -> list[int]:
        steps = self._sums.setdefault(server, {})
        sums = steps.get(step)
        if sums is None:
            for old in [at for at in steps if at <= step - _STEPS]:
                del steps[old]
            sums = steps[step] = [0, 0, 0, 0]
        return sums


def add_up_server_rows(rows: Iterable[ServerRow], now: float) -> list[ServerRow]:
    """Merge rows of several processes: one per server and five minutes of the hour until `now` (seconds since 1970)."""
    found: dict[tuple[str, int], Sequence[int]] = {}
    gone = _last_gone(now)
    for name, at, *sums in rows:
        if at > gone:
            found[name, at] = _added(found.get((name, at), _NOTHING), sums)
    return [(*key, *sums) for key, sums in found.items()]


def servers_of(rows: Iterable[ServerRow], now: float) -> Mapping[str, ServerHour]:
    """Add up the rows of several processes by server, for the hour until `now` (seconds since 1970)."""
    found: dict[str, Sequence[int]] = {}
    for name, _, *sums in add_up_server_rows(rows, now):
        found[name] = _added(found.get(name, _NOTHING), sums)
    return {name: ServerHour(*sums) for name, sums in found.items()}


def _last_gone(now: float) -> int:
    """Return the number of the newest five minutes that are older than the hour."""
    return int(now) // _STEP - _STEPS


def _added(one: Sequence[int], other: Sequence[int]) -> Sequence[int]:
    return [mine + more for mine, more in zip(one, other, strict=True)]


def _failed_servers(record: RequestRecord) -> list[str]:
    """Return the servers of failed attempts before the last, if recorded."""
    kept = {} if record.decision is None else msgspec.json.decode(record.decision)
    tried = kept.get("attempts", ())[: record.attempts - 1]
    return [one["server"] for one in tried if one["end"] != "preempted"]
