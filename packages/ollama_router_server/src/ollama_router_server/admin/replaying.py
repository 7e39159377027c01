"""Replay of logged requests in a separate process: `python -m ollama_router_server.admin.replaying`.

It reads one pickled question from standard input and writes JSON lines: progress, then the answer. Only the router
starts it.
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
    from ollama_router_core.simulation.replay import Placed

__all__ = ["ReplayQuestion", "Steps", "pack"]

_LEAST_IMPORTANT = 19
_WAITED = 1.0
"""Seconds from which a request counts as queued, as in `log_days`."""


class Steps(Struct, frozen=True):
    """Equal time steps of `seconds` each, starting at `begin` (seconds since 1970)."""

    begin: float
    seconds: float


class ReplayQuestion(Struct, frozen=True, kw_only=True):
    """How the requests would fare on these servers with this config.

    Attributes:
        more: names of servers to duplicate.
        gpus: GPUs of added servers, one each.
        off: names of servers to remove.
        put: pairs of a server and a model to place on it.
        num_parallel: slots per loaded model, None for the config's value.
        max_wait: `queue.max_wait` in seconds, None for the config's value.
        steps: if given, the answer has `groups`: the requests of each server by step.
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
    """Pickle the question for the process; every server counts as up, with no model loaded."""
    servers = {name: _plain(facts) for name, facts in question.servers.items()}
    return pickle.dumps(replace(question, servers=servers))


def _plain(facts: ServerFacts) -> ServerFacts:
    """Return the same facts with dictionaries instead of read-only views, which cannot be pickled."""
    values: dict[str, Any] = {name: getattr(facts, name) for name in facts.__struct_fields__}
    plain: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
    return ServerFacts(**{**plain, "up": True, "error": None, "loaded": {}, "loading": {}, "loading_at": {}})


class _Progress:
    """Writes progress, one line per percent."""

    def __init__(self) -> None:
        self._hundredth = 0

    def __call__(self, done: int, of: int) -> None:
        """Report that `done` of `of` requests are replayed."""
        if 100 * done // of > self._hundredth:
            self._hundredth = 100 * done // of
            _write({"done": done, "of": of})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def _answer(question: ReplayQuestion) -> dict[str, Any]:
    from ollama_router_core.simulation.replay import replay  # noqa: PLC0415 - the router itself never simulates
    from ollama_router_core.simulation.what_if import Change  # noqa: PLC0415 - the router itself never simulates

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
        found = replay(question.rows, snapshot, question.config, change=change, on_progress=_Progress())
    except ConfigError as error:
        return {"refused": error.message}
    steps, last = question.steps, found.others[-1].placed
    return found.to_json() if steps is None else {**found.to_json(), "groups": _groups(last, steps)}


def _groups(placed: Iterable[Placed], steps: Steps) -> list[list[Any]]:
    """Count requests by the values that the chart of a day distinguishes."""
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
