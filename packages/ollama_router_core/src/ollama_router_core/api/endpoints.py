"""The table of all routes.

Source of the rows: Ollama's server/routes.go (v0.5 to v0.33), later release notes (to v0.40), and Ollama's OpenAI- and
Anthropic-compatible routes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import partial
from typing import NamedTuple

from msgspec import Struct

__all__ = ["ENDPOINTS", "Body", "Endpoint", "Family", "Kind", "Routing", "Version", "Versions", "parse_version"]


class Family(StrEnum):
    """The API whose dialect a route uses, including its errors."""

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
    """The handling of a route; `exchange.serving` has a handler for each.

    `router`: the router answers itself. `one`: the best server. `count`: a host that can count tokens, or the router.
    `rerank`: a host or server configured for it. `stored`: a response stored by the router. `gather`: all servers,
    merged. `owners`: all servers with the model. `push`: one of those. `pull`, `create`: the servers on which the model
    is created. `blob_exists`, `blob_upload`: files of models to create. `account`: a server named by the client.
    `external`: an external host.
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
    """Kind of body: ignored, a JSON object, a form, or raw bytes to pass through."""

    NONE = "none"
    JSON = "json"
    FORM = "form"
    RAW = "raw"


Version = tuple[int, ...]
"""The numbers of a version, such as `(0, 13, 3)`."""


class Versions(NamedTuple):
    """The versions of Ollama with a route: from `since` to before `gone`; an empty `gone` sets no end."""

    path: str
    since: Version = ()
    gone: Version = ()


class Endpoint(Struct, frozen=True):
    """One route.

    `model_keys` are the body keys that may contain the model's name, in order of precedence. `streams` is the default
    of the body's `stream`; None means that the route never streams. `path` may end in one `{parameter}` segment.
    `needs` is the capability the model must have, None for any model. `zstd` routes accept compressed bodies. `since`
    is the version of Ollama that added the route, empty if all have it; `gone` is the first version without it.
    """

    name: str
    methods: tuple[str, ...]
    path: str
    kind: Kind
    routing: Routing
    family: Family = Family.OLLAMA
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
        """The versions with the route; None if all have it."""
        return Versions(self.path, self.since, self.gone) if self.since or self.gone else None

    @property
    def native(self) -> bool:
        """Whether this is Ollama's native API; its compatible APIs read no `options` and reword some errors."""
        return self.family is Family.OLLAMA

    @property
    def writes_text(self) -> bool:
        """Whether the route's responses are text, not vectors."""
        return self.needs in {"completion", "audio"}


def parse_version(text: str | None) -> Version:
    """Return up to three numbers of a reported version such as `0.33.0-rc2`; empty if it has none."""
    return tuple(int(number) for number in re.findall(r"\d{1,9}", (text or "").partition("-")[0])[:3])


_POST = ("POST",)
_MODEL, _NAMED = ("model",), ("model", "name")


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
        name,
        _POST,
        path,
        Kind.INFER,
        Routing.ONE,
        family,
        model_keys=_MODEL,
        streams=streams,
        needs=needs,
        counts_usage=needs is not None,
        body=Body.JSON,
        zstd=family is not Family.OLLAMA,
        since=since,
        gone=gone,
    )


_images = partial(_infer, family=Family.OPENAI, streams=None, needs="image", since=(0, 14, 3), gone=(0, 33))
_read = partial(Endpoint, kind=Kind.READ, routing=Routing.GATHER)
_count = partial(Endpoint, kind=Kind.READ, routing=Routing.COUNT, model_keys=_MODEL, body=Body.JSON, zstd=True)
_rerank = partial(
    Endpoint, kind=Kind.INFER, routing=Routing.RERANK, model_keys=_MODEL, needs="rerank", body=Body.JSON, zstd=True
)
_manage = partial(Endpoint, kind=Kind.MANAGE, model_keys=_NAMED, body=Body.JSON)
_blob = partial(Endpoint, path="/api/blobs/{digest}", kind=Kind.MANAGE)
_account = partial(Endpoint, kind=Kind.ACCOUNT, routing=Routing.ACCOUNT, body=Body.JSON)

ENDPOINTS: tuple[Endpoint, ...] = (
    _read("root", ("HEAD", "GET"), "/", routing=Routing.ROUTER),
    _read("version", ("HEAD", "GET"), "/api/version"),
    _read("tags", ("HEAD", "GET"), "/api/tags"),
    _read("ps", ("GET",), "/api/ps"),
    _read("status", ("GET",), "/api/status"),
    _read("show", _POST, "/api/show", routing=Routing.ONE, model_keys=_NAMED, body=Body.JSON),
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
    _images("openai_images", "/v1/images/generations"),
    _images("openai_image_edits", "/v1/images/edits"),
    _infer("openai_speech", "/v1/audio/speech", Family.OPENAI, streams=None, needs=None, since=(0, 40, 8)),
    _infer("systemone", "/v1/systemone", Family.OPENAI, streams=None, needs="decision", since=(0, 35)),
    Endpoint(
        "openai_transcriptions",
        _POST,
        "/v1/audio/transcriptions",
        Kind.INFER,
        Routing.ONE,
        Family.OPENAI,
        model_keys=_MODEL,
        needs="audio",
        counts_usage=True,
        body=Body.FORM,
        since=(0, 20),
    ),
    _infer("anthropic_messages", "/v1/messages", Family.ANTHROPIC, streams=False, since=(0, 14)),
    _count("anthropic_count_tokens", _POST, "/v1/messages/count_tokens", family=Family.ANTHROPIC),
    _count("openai_input_tokens", _POST, "/v1/responses/input_tokens", family=Family.OPENAI_RESPONSES),
    _read(
        "openai_response",
        ("GET", "DELETE"),
        "/v1/responses/{response}",
        routing=Routing.STORED,
        family=Family.OPENAI_RESPONSES,
    ),
    _rerank("openai_rerank", _POST, "/v1/rerank", family=Family.OPENAI),
    _rerank("plain_rerank", _POST, "/rerank", family=Family.OPENAI),
    _rerank("rerank", _POST, "/api/rerank"),
    _manage("pull", _POST, "/api/pull", routing=Routing.PULL, streams=True),
    _manage("create", _POST, "/api/create", routing=Routing.CREATE, streams=True),
    _manage("push", _POST, "/api/push", routing=Routing.PUSH, streams=True),
    _manage("copy", _POST, "/api/copy", routing=Routing.OWNERS, model_keys=("source",)),
    _manage("delete", ("DELETE",), "/api/delete", routing=Routing.OWNERS),
    _blob("blob_exists", ("HEAD",), routing=Routing.BLOB_EXISTS, body=Body.NONE),
    _blob("blob_upload", _POST, routing=Routing.BLOB_UPLOAD, body=Body.RAW),
    _account("me", _POST, "/api/me"),
    _account("signout", _POST, "/api/signout"),
    _account("forget_key", ("DELETE",), "/api/user/keys/{key}"),
    _account("web_search", _POST, "/api/experimental/web_search"),
    _account("web_fetch", _POST, "/api/experimental/web_fetch"),
    _account("recommendations", ("GET",), "/api/experimental/model-recommendations", body=Body.NONE),
)
