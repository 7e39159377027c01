"""The replay of logged requests in a process of its own: `python -m ollama_router_server.admin.replaying`.

It reads one pickled question from standard input and writes the answer as JSON. Only the router starts it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.records.request_record import RequestRecord

__all__ = ["ReplayQuestion", "pack"]

_LEAST_IMPORTANT = 19


@dataclass(frozen=True, slots=True)
class ReplayQuestion:
    """How these requests would fare on these servers under each of two configs."""

    rows: Sequence[RequestRecord]
    servers: Mapping[str, ServerFacts]
    config: Config


def pack(question: ReplayQuestion) -> bytes:
    """The question as the process reads it; every server is taken as up, with nothing in memory."""
    servers = {name: _plain(facts) for name, facts in question.servers.items()}
    return pickle.dumps(replace(question, servers=servers))


def _plain(facts: ServerFacts) -> ServerFacts:
    """The same facts with dictionaries for read-only views, which cannot be pickled."""
    values: dict[str, Any] = {one.name: getattr(facts, one.name) for one in fields(facts)}
    plain: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in values.items()
    }
    return ServerFacts(**{**plain, "up": True, "error": None, "loaded": {}, "loading": {}, "loading_at": {}})


def _answer(question: ReplayQuestion) -> dict[str, Any]:
    from ollama_router_core.simulation import replay  # noqa: PLC0415 - the router itself never simulates

    return replay(question.rows, FleetSnapshot(servers=question.servers), question.config).to_json()


if __name__ == "__main__":
    os.nice(_LEAST_IMPORTANT)
    sys.stdout.write(json.dumps(_answer(pickle.load(sys.stdin.buffer))))  # noqa: S301 - from the router
