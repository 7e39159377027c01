"""One logged request, decided again with the current rules and servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.requests import KeptCandidateView, ReasonView

__all__ = ["RequestReplayView", "request_replay_view"]


class PlacedView(View):
    """The server that would be chosen, null for none, and why."""

    server: str | None
    reason: str


class RefusalView(View):
    """Why no server would be chosen."""

    code: str
    text: str


class RequestReplayView(View):
    """Where a request would be sent now; nothing is sent.

    `then` is the server that answered it, `server` the one chosen now. `allowed` says whether its user may still use
    the model, null if the user does not exist. `policy` lists changes by the config, `strategies` the choice of each
    strategy. Requirements known only from its body, such as tools or images, are not considered.
    """

    id: str
    then: str | None
    server: str | None
    strategy: str
    reason: str
    allowed: bool | None
    policy: list[str]
    error: RefusalView | None
    candidates: list[KeptCandidateView]
    strategies: dict[str, PlacedView]


def request_replay_view(record: RequestRecord, found: Mapping[str, Any]) -> RequestReplayView:
    """Show the result of `routing.explanation.explain`, with all strategies, for a logged request."""
    error = found["error"]
    return RequestReplayView(
        id=record.id,
        then=record.server,
        **{name: found[name] for name in ("server", "strategy", "reason", "allowed", "policy")},
        error=None if error is None else RefusalView(code=error["code"], text=error["message"]),
        candidates=[_candidate(one) for one in found["candidates"]],
        strategies={
            name: PlacedView(server=one["server"], reason=one["reason"]) for name, one in found["strategies"].items()
        },
    )


def _candidate(found: Mapping[str, Any]) -> KeptCandidateView:
    memory, expected = found["memory"], found["expected"]
    return KeptCandidateView(
        server=found["server"],
        verdict=found["verdict"],
        reasons=[ReasonView(**reason) for reason in found["reasons"]],
        bytes=None if memory is None else memory["bytes"],
        memory=None if memory is None else memory["text"],
        ready_seconds=None if expected is None else expected["ready_seconds"],
        done_seconds=None if expected is None else expected["done_seconds"],
    )
