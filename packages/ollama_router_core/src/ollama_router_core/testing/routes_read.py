"""The read-only native routes: /, version, status, tags, ps, show, and those of the owner's ollama.com account.

The server is not signed in to ollama.com.
"""

from __future__ import annotations

import json
from typing import Any

from ollama_router_core.testing.clock import rfc3339
from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import TEXT, Exchange
from ollama_router_core.testing.ollama_names import is_cloud, parse_reference, trimmed
from ollama_router_core.testing.request_fields import SHOW
from ollama_router_core.testing.shared_state import ServerState, native_body
from ollama_router_core.testing.simulated_models import SimulatedModel

__all__ = [
    "cloud_only",
    "me",
    "ps",
    "recommendations",
    "root",
    "show",
    "show_model",
    "signed_out",
    "status",
    "tags",
    "version",
]


async def root(_: ServerState, exchange: Exchange) -> None:
    """Respond to the heartbeat."""
    await exchange.whole(200, b"Ollama is running", TEXT)


async def version(server: ServerState, exchange: Exchange) -> None:
    """/api/version."""
    await exchange.json(200, {"version": server.settings.version})


async def status(server: ServerState, exchange: Exchange) -> None:
    """/api/status: whether ollama.com may be used."""
    disabled = server.settings.cloud_disabled
    await exchange.json(200, {"cloud": {"disabled": disabled, "source": "env" if disabled else "none"}})


async def tags(server: ServerState, exchange: Exchange) -> None:
    """/api/tags: every model, newest first."""
    models = sorted(server.engine.library, key=lambda one: (-one.modified_at, one.name))
    summary = server.settings.at_least(0, 30)
    await exchange.json(200, {"models": [_tag(one, summary=summary) for one in models]})


async def ps(server: ServerState, exchange: Exchange) -> None:
    """/api/ps: the loaded models, latest expiry first."""
    running = [
        {
            "name": one.model.name,
            "model": one.model.name,
            "size": one.size,
            "digest": one.model.digest,
            "details": one.model.details(),
            "expires_at": rfc3339(one.expires_at),
            "size_vram": one.size_vram,
            **({"context_length": one.num_ctx} if server.settings.at_least(0, 9, 7) else {}),
            **({"runner": "mlx" if one.model.is_mlx else "llamacpp"} if server.settings.at_least(0, 40) else {}),
        }
        for one in server.engine.scheduler.running()
    ]
    await exchange.json(200, {"models": running})


async def show(server: ServerState, exchange: Exchange) -> None:
    """/api/show."""
    request = await native_body(exchange, SHOW)
    name = request.get("model") or request.get("name") or ""
    found = show_model(server, name)
    await exchange.json(200, _shown(found, verbose=bool(request.get("verbose"))))


async def me(server: ServerState, exchange: Exchange) -> None:
    """/api/me."""
    await exchange.body()
    raise server.engine.cloud_error()


async def signed_out(_: ServerState, exchange: Exchange) -> None:
    """/api/signout and /api/user/keys/:key."""
    await exchange.body()
    await exchange.json(200, None)


async def cloud_only(server: ServerState, exchange: Exchange) -> None:
    """/api/experimental/web_search and web_fetch: proxied with the server's own key, which this server lacks."""
    if not (await exchange.body()).strip():
        raise ApiError(400, "missing request body")
    what = exchange.path.rpartition("/")[2].replace("_", " ")
    raise server.engine.cloud_error(f"{what} is unavailable")


async def recommendations(_: ServerState, exchange: Exchange) -> None:
    """/api/experimental/model-recommendations."""
    await exchange.json(200, {"recommendations": []})


def show_model(server: ServerState, name: str) -> SimulatedModel:
    """Return the model to show.

    Raises:
        ApiError: 400 without a name, 404 with the short name for an unknown model.
    """
    if not trimmed(name):
        raise ApiError(400, "model is required")
    parsed = parse_reference(name)
    if is_cloud(name):
        raise server.engine.cloud_error("remote model details are unavailable")
    if parsed is None:
        return server.engine.find(name)
    found = server.engine.library.find(name)
    if found is None:
        raise ApiError(404, f"model '{parsed.short}' not found")
    return found


def _tag(one: SimulatedModel, *, summary: bool) -> dict[str, Any]:
    """Build an entry of /api/tags; its lengths and capabilities (`summary`) exist since 0.30."""
    entry: dict[str, Any] = {
        "name": one.name,
        "model": one.name,
        "modified_at": rfc3339(one.modified_at),
        "size": one.size,
        "digest": one.digest,
        "details": one.details(summary=summary),
    }
    return entry | ({"capabilities": list(one.capabilities)} if summary else {})


def _shown(one: SimulatedModel, *, verbose: bool) -> dict[str, Any]:
    optional = {"license": one.license, "parameters": _parameter_lines(one), "system": one.system}
    given = {key: value for key, value in optional.items() if value}
    ordered = {
        **({"license": given.pop("license")} if one.license else {}),
        "modelfile": _modelfile(one),
        **({"parameters": given.pop("parameters")} if one.parameters else {}),
        "template": one.template,
        **given,
    }
    return ordered | {
        "details": one.details(),
        "model_info": one.model_info(verbose=verbose),
        "tensors": _tensors(one),
        "capabilities": list(one.capabilities),
        "modified_at": rfc3339(one.modified_at),
    }


def _modelfile(one: SimulatedModel) -> str:
    lines = [
        '# Modelfile generated by "ollama show"',
        "# To build a new Modelfile based on this, replace FROM with:",
        f"# FROM {one.name}",
        "",
        f"FROM /models/blobs/sha256-{one.weights}",
        *(f"ADAPTER /models/blobs/sha256-{adapter}" for adapter in one.adapters),
        f'TEMPLATE """{one.template}"""',
        *([f"SYSTEM {one.system}"] if one.system else []),
        *(f"PARAMETER {key} {value}" for key, each in one.parameters.items() for value in _values(each)),
    ]
    return "\n".join(lines) + "\n"


def _parameter_lines(one: SimulatedModel) -> str:
    """Format the parameters as columns of names and values, with texts in quotes."""
    return "\n".join(
        f"{key:<30} {json.dumps(value) if isinstance(value, str) else value}"
        for key, each in one.parameters.items()
        for value in _values(each)
    )


def _values(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _tensors(one: SimulatedModel) -> list[dict[str, Any]]:
    shapes = {"attn_norm.weight": [one.embedding_length], "attn_output.weight": [one.embedding_length] * 2}
    blocks = [
        {"name": f"blk.{block}.{name}", "type": one.quantization_level, "shape": shape}
        for block in range(one.block_count)
        for name, shape in shapes.items()
    ]
    embedding = {"name": "token_embd.weight", "type": one.quantization_level}
    return [{**embedding, "shape": [one.embedding_length, one.vocab_size]}, *blocks]
