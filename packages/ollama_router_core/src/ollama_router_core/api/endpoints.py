"""Every route the router knows, as one table.

Source of the rows: Ollama's server/routes.go (v0.5 to v0.33), its release notes after that (to v0.40), and its OpenAI-
and Anthropic-compatible routes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

__all__ = [
    "ENDPOINTS",
    "Body",
    "Endpoint",
    "Family",
    "Kind",
    "Routing",
    "Version",
    "Versions",
    "parse_version",
]


class Family(StrEnum):
    """The API whose dialect a route speaks, errors included."""

    OLLAMA = "ollama"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    OPENAI_RESPONSES = "openai_responses"


class Kind(StrEnum):
    """Kind of operation, for permissions."""

    INFER = "infer"
    READ = "read"
    MANAGE = "manage"
    ACCOUNT = "account"


class Routing(StrEnum):
    """What handles a route; `exchange.serving` has a handler for each.

    `router`: the router answers alone. `one`: the best server. `count`: the host that can count, or the router.
    `rerank`: a host or server that the config says can. `stored`: an answer that the router keeps.
    `gather`: all servers, merged. `owners`: all that have the model. `push`: one of those. `pull`, `create`: where the
    model is made. `blob_exists`, `blob_upload`: files of models to be made. `account`: a server that the client names.
    `external`: a host of the config.
    """

    ROUTER = "router"
    ONE = "one"
    COUNT = "count"
    RERANK = "rerank"
    STORED = "stored"
    GATHER = "gather"
    OWNERS = "owners"
    PUSH = "push"
    PULL = "pull"
    CREATE = "create"
    BLOB_EXISTS = "blob_exists"
    BLOB_UPLOAD = "blob_upload"
    ACCOUNT = "account"
    EXTERNAL = "external"


class Body(StrEnum):
    """Kind of body: none that is read, a JSON object, a form, or bytes to pass through."""

    NONE = "none"
    JSON = "json"
    FORM = "form"
    RAW = "raw"


Version = tuple[int, ...]
"""Numbers of a version, `(0, 13, 3)`."""


class Versions(NamedTuple):
    """The versions of Ollama that have a route: from `since` on, and before `gone` unless that is empty."""

    path: str
    since: Version = ()
    gone: Version = ()


class Endpoint(Struct, frozen=True, kw_only=True):
    """One route.

    `model_keys` are the body keys that may hold the model's name, the winning one first. `streams` is the default of
    the body's `stream`; None means that the route never streams. `path` may end in one `{parameter}` segment.
    `needs` is the capability a model must have, None when any model will do. `zstd` routes take compressed bodies.
    `since` is the version of Ollama that a route came with, empty for one that all have, `gone` the first without it.
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
    body: Body = Body.NONE
    zstd: bool = False
    since: Version = ()
    gone: Version = ()

    @property
    def versions(self) -> Versions | None:
        """Which servers have the route, None when all have."""
        return Versions(self.path, self.since, self.gone) if self.since or self.gone else None

    @property
    def native(self) -> bool:
        """Whether this is Ollama's own API: the layers before it read no `options`, and word some errors anew."""
        return self.family is Family.OLLAMA

    @property
    def writes_text(self) -> bool:
        """Whether a model's answers here are text, unlike vectors."""
        return self.needs in {"completion", "audio"}


def parse_version(text: str | None) -> Version:
    """Return the numbers of a version that a server tells, such as `0.33.0-rc2`; none for what has none."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", (text or "").partition("-")[0])[:3])


def _infer(
    name: str,
    path: str,
    family: Family = Family.OLLAMA,
    *,
    streams: bool | None,
    needs: str | None = "completion",
    since: Version = (),
    gone: Version = (),
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
        counts_usage=needs is not None,
        body=Body.JSON,
        zstd=family is not Family.OLLAMA,
        since=since,
        gone=gone,
    )


def _count(name: str, path: str, family: Family) -> Endpoint:
    return Endpoint(
        name=name,
        methods=("POST",),
        path=path,
        family=family,
        kind=Kind.READ,
        routing=Routing.COUNT,
        model_keys=("model",),
        body=Body.JSON,
        zstd=True,
    )


def _rerank(name: str, path: str, family: Family) -> Endpoint:
    return Endpoint(
        name=name,
        methods=("POST",),
        path=path,
        family=family,
        kind=Kind.INFER,
        routing=Routing.RERANK,
        model_keys=("model",),
        needs="rerank",
        body=Body.JSON,
        zstd=True,
    )


def _manage(
    name: str, method: str, path: str, routing: Routing, keys: tuple[str, ...], *, streams: bool | None = None
) -> Endpoint:
    return Endpoint(
        name=name,
        methods=(method,),
        path=path,
        family=Family.OLLAMA,
        kind=Kind.MANAGE,
        routing=routing,
        model_keys=keys,
        streams=streams,
        body=Body.JSON,
    )


def _account(name: str, method: str, path: str) -> Endpoint:
    return Endpoint(
        name=name,
        methods=(method,),
        path=path,
        family=Family.OLLAMA,
        kind=Kind.ACCOUNT,
        routing=Routing.ACCOUNT,
        body=Body.NONE if method == "GET" else Body.JSON,
    )


def _blob(name: str, method: str, routing: Routing, body: Body) -> Endpoint:
    return Endpoint(
        name=name,
        methods=(method,),
        path="/api/blobs/{digest}",
        family=Family.OLLAMA,
        kind=Kind.MANAGE,
        routing=routing,
        body=body,
    )


_NAMED = ("model", "name")


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
    _read("status", ("GET",), "/api/status"),
    Endpoint(
        name="show",
        methods=("POST",),
        path="/api/show",
        family=Family.OLLAMA,
        kind=Kind.READ,
        routing=Routing.ONE,
        model_keys=_NAMED,
        body=Body.JSON,
    ),
    _infer("generate", "/api/generate", streams=True),
    _infer("chat", "/api/chat", streams=True),
    _infer("embed", "/api/embed", streams=None, needs="embedding"),
    _infer("embeddings", "/api/embeddings", streams=None, needs="embedding"),
    _infer("openai_chat", "/v1/chat/completions", Family.OPENAI, streams=False),
    _infer("openai_completions", "/v1/completions", Family.OPENAI, streams=False),
    _infer("openai_embeddings", "/v1/embeddings", Family.OPENAI, streams=None, needs="embedding"),
    _read("openai_models", ("GET",), "/v1/models", family=Family.OPENAI),
    _read("openai_model", ("GET",), "/v1/models/{model}", family=Family.OPENAI),
    _infer("openai_responses", "/v1/responses", Family.OPENAI_RESPONSES, streams=False, since=(0, 13, 3)),
    _infer("openai_compact", "/v1/responses/compact", Family.OPENAI_RESPONSES, streams=None, since=(0, 33, 1)),
    _infer(
        "openai_images",
        "/v1/images/generations",
        Family.OPENAI,
        streams=None,
        needs="image",
        since=(0, 14, 3),
        gone=(0, 33),
    ),
    _infer(
        "openai_image_edits",
        "/v1/images/edits",
        Family.OPENAI,
        streams=None,
        needs="image",
        since=(0, 14, 3),
        gone=(0, 33),
    ),
    _infer("openai_speech", "/v1/audio/speech", Family.OPENAI, streams=None, needs=None, since=(0, 40, 8)),
    _infer("systemone", "/v1/systemone", Family.OPENAI, streams=None, needs="decision", since=(0, 35)),
    Endpoint(
        name="openai_transcriptions",
        methods=("POST",),
        path="/v1/audio/transcriptions",
        family=Family.OPENAI,
        kind=Kind.INFER,
        routing=Routing.ONE,
        model_keys=("model",),
        needs="audio",
        counts_usage=True,
        body=Body.FORM,
        since=(0, 20),
    ),
    _infer("anthropic_messages", "/v1/messages", Family.ANTHROPIC, streams=False, since=(0, 14)),
    _count("anthropic_count_tokens", "/v1/messages/count_tokens", Family.ANTHROPIC),
    _count("openai_input_tokens", "/v1/responses/input_tokens", Family.OPENAI_RESPONSES),
    Endpoint(
        name="openai_response",
        methods=("GET", "DELETE"),
        path="/v1/responses/{response}",
        family=Family.OPENAI_RESPONSES,
        kind=Kind.READ,
        routing=Routing.STORED,
    ),
    _rerank("openai_rerank", "/v1/rerank", Family.OPENAI),
    _rerank("plain_rerank", "/rerank", Family.OPENAI),
    _rerank("rerank", "/api/rerank", Family.OLLAMA),
    _manage("pull", "POST", "/api/pull", Routing.PULL, _NAMED, streams=True),
    _manage("create", "POST", "/api/create", Routing.CREATE, _NAMED, streams=True),
    _manage("push", "POST", "/api/push", Routing.PUSH, _NAMED, streams=True),
    _manage("copy", "POST", "/api/copy", Routing.OWNERS, ("source",)),
    _manage("delete", "DELETE", "/api/delete", Routing.OWNERS, _NAMED),
    _blob("blob_exists", "HEAD", Routing.BLOB_EXISTS, Body.NONE),
    _blob("blob_upload", "POST", Routing.BLOB_UPLOAD, Body.RAW),
    _account("me", "POST", "/api/me"),
    _account("signout", "POST", "/api/signout"),
    _account("forget_key", "DELETE", "/api/user/keys/{key}"),
    _account("web_search", "POST", "/api/experimental/web_search"),
    _account("web_fetch", "POST", "/api/experimental/web_fetch"),
    _account("recommendations", "GET", "/api/experimental/model-recommendations"),
)
