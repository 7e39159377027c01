"""The replay of logged requests in a process of its own: `python -m ollama_router_server.admin.replaying`.

It reads one pickled question from standard input, writes lines that say how far it is, and last the answer, all as
JSON. Only the router starts it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.config.settings import Config
from ollama_router_core.errors import ConfigError
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.records.request_record import RequestRecord

if TYPE_CHECKING:
    from ollama_router_core.simulation import Placed

__all__ = ["ReplayQuestion", "Steps", "pack"]

_LEAST_IMPORTANT = 19
_WAITED = 1.0
"""Seconds from which on a request counts as one that waited; in the log, too."""


class Steps(Struct, frozen=True):
    """Equal parts of time, counted from the moment `begin` (seconds since 1970), of so many `seconds` each."""

    begin: float
    seconds: float


class ReplayQuestion(Struct, frozen=True, kw_only=True):
    """How these requests would fare on these servers by this config.

    Attributes:
        more: servers of which there is one more.
        gpus: GPUs that one more server each has.
        off: servers that take nothing.
        put: pairs of a server and a model that it has, too.
        num_parallel: slots of each loaded model, None for what the config says.
        max_wait: seconds of `queue.max_wait`, None for what the config says.
        steps: if given, the answer tells in `groups` what each server would do in each of them.
    """

    rows: Sequence[RequestRecord]
    servers: Mapping[str, ServerFacts]
    config: Config
    more: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    put: tuple[tuple[str, str], ...] = ()
    num_parallel: int | None = None
    max_wait: float | None = None
    steps: Steps | None = None


def pack(question: ReplayQuestion) -> bytes:
    """Pickle the question for the process; every server is taken as up, with nothing in memory."""
    servers = {name: _plain(facts) for name, facts in question.servers.items()}
    return pickle.dumps(replace(question, servers=servers))


def _plain(facts: ServerFacts) -> ServerFacts:
    """Return the same facts with dictionaries for read-only views, which cannot be pickled."""
    values: dict[str, Any] = {name: getattr(facts, name) for name in facts.__struct_fields__}
    plain: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
    return ServerFacts(**{**plain, "up": True, "error": None, "loaded": {}, "loading": {}, "loading_at": {}})


class _Told:
    """Writes how far the replay is, a line for each hundredth."""

    def __init__(self) -> None:
        self._hundredth = 0

    def __call__(self, done: int, of: int) -> None:
        """Hear that so many requests of all have come."""
        if 100 * done // of > self._hundredth:
            self._hundredth = 100 * done // of
            _write({"done": done, "of": of})


def _write(told: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


def _answer(question: ReplayQuestion) -> dict[str, Any]:
    from ollama_router_core.simulation import Change, replay  # noqa: PLC0415 - the router itself never simulates

    change = Change(
        more=question.more,
        gpus=question.gpus,
        off=question.off,
        put=question.put,
        num_parallel=question.num_parallel,
        max_wait=question.max_wait,
    )
    snapshot = FleetSnapshot(servers=question.servers)
    try:
        found = replay(question.rows, snapshot, question.config, change=change, heard=_Told())
    except ConfigError as error:
        return {"refused": error.message}
    steps, last = question.steps, found.others[-1].placed
    return found.to_json() if steps is None else {**found.to_json(), "groups": _groups(last, steps)}


def _groups(placed: Iterable[Placed], steps: Steps) -> list[list[Any]]:
    """Count requests that are equal in all that a strip of the day shows."""
    counted = Counter(
        (
            one.server,
            one.model,
            one.served - one.began >= _WAITED,
            *(int((at - steps.begin) // steps.seconds) for at in (one.began, one.served, one.ended)),
            one.loaded,
        )
        for one in placed
    )
    return [[*kind, requests] for kind, requests in counted.items()]


if __name__ == "__main__":
    os.nice(_LEAST_IMPORTANT)
    _write(_answer(pickle.load(sys.stdin.buffer)))  # noqa: S301 - from the router
