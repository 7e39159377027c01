"""Every route the router knows, as one table.

Belongs here: method, path, dialect, where the model's name is, the default of `stream`, who may use it, how it is
routed. The upstream path is built from this table and never copied from a request.
Does not belong here: bodies (`requests`), decisions.

Source of the rows: Ollama's server/routes.go (v0.5 to v0.33) and its OpenAI- and Anthropic-compatible routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from ollama_router_core.errors import MethodNotAllowed, UnknownRoute

__all__ = ["ENDPOINTS", "Endpoint", "Family", "Kind", "Match", "Routing", "family_of_path", "match_endpoint"]


class Family(StrEnum):
    """Whose dialect a route speaks, errors included."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Kind(StrEnum):
    """What a route does, for permissions."""

    INFER = "infer"
    READ = "read"
    MANAGE = "manage"
    ACCOUNT = "account"


class Routing(StrEnum):
    """Who answers: the router, one server, or all of them merged."""

    ROUTER = "router"
    ONE = "one"
    GATHER = "gather"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route.

    `model_keys` are the body keys that may hold the model's name, the winning one first. `streams` is the default of
    the body's `stream`; None means that the route never streams. `path` may end in one `{parameter}` segment.
    `needs` is the capability a model must have, None when any model will do.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    family: Family
    kind: Kind
    routing: Routing
    model_keys: tuple[str, ...] = ()
    streams: bool | None = None
    needs: str | None = None
    counts_usage: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint and the value of its path parameter, if it has one."""

    endpoint: Endpoint
    parameter: str | None = None


def _infer(
    name: str,
    path: str,
    family: Family = Family.OLLAMA,
    *,
    streams: bool | None,
    needs: str = "completion",
) -> Endpoint:
    return Endpoint(
        name=name,
        methods=("POST",),
        path=path,
        family=family,
        kind=Kind.INFER,
        routing=Routing.ONE,
        model_keys=("model",),
        streams=streams,
        needs=needs,
        counts_usage=True,
    )


def _read(
    name: str,
    methods: tuple[str, ...],
    path: str,
    routing: Routing = Routing.GATHER,
    family: Family = Family.OLLAMA,
) -> Endpoint:
    return Endpoint(name=name, methods=methods, path=path, family=family, kind=Kind.READ, routing=routing)


ENDPOINTS: tuple[Endpoint, ...] = (
    _read("root", ("HEAD", "GET"), "/", Routing.ROUTER),
    _read("version", ("HEAD", "GET"), "/api/version"),
    _read("tags", ("HEAD", "GET"), "/api/tags"),
    _read("ps", ("GET",), "/api/ps"),
    Endpoint(
        name="show",
        methods=("POST",),
        path="/api/show",
        family=Family.OLLAMA,
        kind=Kind.READ,
        routing=Routing.ONE,
        model_keys=("model", "name"),
    ),
    _infer("generate", "/api/generate", streams=True),
    _infer("chat", "/api/chat", streams=True),
    _infer("embed", "/api/embed", streams=None, needs="embedding"),
    _infer("embeddings", "/api/embeddings", streams=None, needs="embedding"),
    _infer("openai_chat", "/v1/chat/completions", Family.OPENAI, streams=False),
    _infer("openai_completions", "/v1/completions", Family.OPENAI, streams=False),
    _infer("openai_embeddings", "/v1/embeddings", Family.OPENAI, streams=None, needs="embedding"),
    _read("openai_models", ("GET",), "/v1/models", family=Family.OPENAI),
    _infer("anthropic_messages", "/v1/messages", Family.ANTHROPIC, streams=False),
)


def _index(rows: Iterable[Endpoint]) -> Mapping[str, Mapping[str, Endpoint]]:
    by_path: dict[str, dict[str, Endpoint]] = {}
    for row in rows:
        for method in row.methods:
            by_path.setdefault(row.path, {})[method] = row
    return MappingProxyType(by_path)


_EXACT = _index(row for row in ENDPOINTS if not row.path.endswith("}"))
_PREFIX = {path[: path.index("{")]: rows for path, rows in _index(r for r in ENDPOINTS if r.path.endswith("}")).items()}


def family_of_path(path: str) -> Family:
    """The dialect in which errors of this path are written; unknown paths speak Ollama's."""
    if path.startswith("/v1/messages"):
        return Family.ANTHROPIC
    return Family.OPENAI if path.startswith("/v1/") or path == "/v1" else Family.OLLAMA


def match_endpoint(method: str, path: str) -> Match:
    """Find the row for a method and a path without query string.

    The path is compared as it was sent: nothing is decoded or normalised, so `//`, `..` and `%2e` are unknown paths.

    Raises:
        UnknownRoute: no row has this path.
        MethodNotAllowed: rows have this path, but not with this method.
    """
    parameter = None
    by_method = _EXACT.get(path)
    if by_method is None:
        head, _, last = path.rpartition("/")
        by_method = _PREFIX.get(head + "/") if last else None
        parameter = last
    if by_method is None:
        raise UnknownRoute("404 page not found")
    endpoint = by_method.get(method)
    if endpoint is None:
        raise MethodNotAllowed("405 method not allowed", allowed=tuple(by_method))
    return Match(endpoint, parameter)
