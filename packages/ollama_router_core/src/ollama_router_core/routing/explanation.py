"""Explains which server a request would get, for library, command line and HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.access.grants import Grants, check_model
from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.api.requests import RouteRequest, parse_request
from ollama_router_core.config.destination_settings import KvCacheType
from ollama_router_core.config.settings import Config
from ollama_router_core.errors import Forbidden
from ollama_router_core.fleet.prefixes import HeldPrefix
from ollama_router_core.fleet.runners import runner_of
from ollama_router_core.fleet.snapshot import FleetSnapshot, ServerFacts
from ollama_router_core.routing.decision import Decision, Verdict
from ollama_router_core.routing.policy import apply_policy
from ollama_router_core.routing.selector import decide
from ollama_router_core.routing.strategies import STRATEGIES

__all__ = ["Question", "explain"]

_REMEDIES = {
    "model_missing": "the model is pulled there",
    "pinned": "the request is not pinned to another",
    "memory": "the context is smaller, or max_memory_gb larger",
    "down": "the server answers again",
    "not_probed": "its first probe succeeds",
    "full": "a slot there is free",
    "suspended": "a probe there succeeds",
    "model_suspended": "a request for the model succeeds there",
    "draining": "the drain ends",
    "disabled": "the config enables it",
}


class Question(Struct, frozen=True, kw_only=True):
    """A hypothetical request.

    `model` is the name as a client would write it, `context` is `options.num_ctx`, `prompt_tokens` the approximate
    prompt length, `needs` are capabilities such as `tools`. `user` is the requesting user, with `grants` if known.
    `held_by` is the server that answered the conversation's last turn and has the prompt cached. `kv_type` overrides
    the KV cache type of every server, None keeps the configured ones.
    """

    model: str
    context: int | None = None
    prompt_tokens: int = 0
    needs: frozenset[str] = frozenset()
    user: str | None = None
    grants: Grants | None = None
    held_by: str | None = None
    kv_type: KvCacheType | None = None

    @property
    def prefix(self) -> HeldPrefix | None:
        """The prefix that `held_by` saves: at most the whole prompt."""
        return None if self.held_by is None else HeldPrefix(self.held_by, self.prompt_tokens)

    def request(self, config: Config) -> tuple[RouteRequest, tuple[str, ...]]:
        """Return the request after the config's policy, and the changes.

        Raises:
            RequestError: the model name is invalid.
        """
        body: dict[str, Any] = {"model": self.model, "prompt": ""}
        if self.context is not None:
            body["options"] = {"num_ctx": self.context}
        parsed = parse_request(match_endpoint("POST", "/api/generate"), json.dumps(body).encode())
        applied = apply_policy(parsed, config.models)
        route = replace(applied.request.route, needs=self.needs, stream=False, prompt_tokens=self.prompt_tokens)
        return route, applied.changes


def explain(
    question: Question, snapshot: FleetSnapshot, config: Config, *, now: float, all_strategies: bool = False
) -> dict[str, Any]:
    """Return `Decision.to_json` with the question, the policy changes and what would change the decision.

    `all_strategies` adds the choice of each strategy. No request is sent.

    Raises:
        RequestError: the model name is invalid.
    """
    request, changes = question.request(config)
    snapshot, config = _with_kv_type(question.kv_type, request.model, snapshot, config)
    decision = decide(request, snapshot, config, now=now, prefix=question.prefix)
    answer = {
        **decision.to_json(),
        "asked": question.model,
        "context": request.num_ctx,
        "kv_type": question.kv_type,
        "prompt_tokens": question.prompt_tokens,
        "held_by": question.held_by,
        "user": question.user,
        "allowed": _allowed(question, request),
        "policy": list(changes),
        "ranking": list(decision.ranking),
        "error": _error_json(decision),
        "would_change": list(_would_change(decision)),
    }
    if all_strategies:
        answer["strategies"] = {
            name: _shown(decide(request, snapshot, _under(name, config), now=now, prefix=question.prefix))
            for name in STRATEGIES
        }
    return answer


def _with_kv_type(
    kind: KvCacheType | None, model: CanonicalName | None, snapshot: FleetSnapshot, config: Config
) -> tuple[FleetSnapshot, Config]:
    """Set every server to a KV cache type; servers with another type lose their measurements of the model.

    Servers without flash attention keep theirs, as they do not quantise the cache.
    """
    others = {
        name
        for name, server in config.servers.items()
        if server.flash_attention and kind not in {None, server.kv_cache_type}
    }
    if not others or model is None:
        return snapshot, config
    servers = {
        name: server.model_copy(update={"kv_cache_type": kind}) if name in others else server
        for name, server in config.servers.items()
    }
    facts = {name: _forget(one, model) if name in others else one for name, one in snapshot.servers.items()}
    return replace(snapshot, servers=MappingProxyType(facts)), config.model_copy(update={"servers": servers})


def _forget(facts: ServerFacts, model: CanonicalName) -> ServerFacts:
    """Return a server's facts as if the model had never been loaded, as another type requires a reload."""
    runner = runner_of(facts, model)
    return replace(
        facts,
        loaded={name: one for name, one in facts.loaded.items() if one is not runner},
        measured={key: size for key, size in facts.measured.items() if key[0] != model},
    )


def _under(strategy: str, config: Config) -> Config:
    return config.model_copy(update={"routing_strategy": strategy})


def _shown(decision: Decision) -> dict[str, Any]:
    return {"server": decision.server, "reason": decision.reason, "ranking": list(decision.ranking)}


def _allowed(question: Question, request: RouteRequest) -> bool | None:
    if question.grants is None:
        return None
    try:
        check_model(question.grants, request.model_text or "")
    except Forbidden:
        return False
    return True


def _error_json(decision: Decision) -> dict[str, Any] | None:
    error = decision.error
    if error is None:
        return None
    return {"status": error.status_hint, "code": error.code, "message": error.message, "retry_after": error.retry_after}


def _would_change(decision: Decision) -> Iterator[dict[str, Any]]:
    """Yield what would change the decision: losing the chosen server, then what each refused server lacks."""
    if decision.server is not None:
        after = decision.ranking[1] if len(decision.ranking) > 1 else None
        yield {"server": decision.server, "if": "it cannot take it", "then": after or "the request fails"}
    for verdict in decision.verdicts:
        if verdict.verdict == "refused":
            yield from _remedy(verdict)


def _remedy(verdict: Verdict) -> Iterator[dict[str, Any]]:
    remedy = _REMEDIES.get(verdict.reasons[0].code)
    if remedy is not None:
        yield {"server": verdict.server, "if": remedy, "then": "it could take it"}
