"""The native routes that change the models on disk: pull, push, create, copy, delete, blobs."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from ollama_router_core.testing.error_replies import ApiError
from ollama_router_core.testing.exchange import JSON, NDJSON, Exchange, StreamEnded, StreamFailed
from ollama_router_core.testing.gojson import dumps
from ollama_router_core.testing.ollama_names import parse_name, parse_reference, trimmed
from ollama_router_core.testing.request_fields import COPY, CREATE, DELETE, PULL, PUSH
from ollama_router_core.testing.shared_state import ServerState, native_body
from ollama_router_core.testing.simulated_models import SimulatedModel

__all__ = ["copy", "create", "delete", "head_blob", "post_blob", "pull", "push"]

_TICK_SECONDS = 0.06  # Ollama's interval of progress reports
_MAX_TICKS = 40
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")

Progress = AsyncGenerator[dict[str, Any], None]


async def pull(server: ServerState, exchange: Exchange) -> None:
    """/api/pull."""
    request = await native_body(exchange, PULL)
    name = _named(request)
    if parse_reference(name) is None:
        raise ApiError(400, "invalid model name")
    await _report(exchange, request, _pulling(server, name))


async def push(server: ServerState, exchange: Exchange) -> None:
    """/api/push."""
    request = await native_body(exchange, PUSH)
    name = _named(request)
    if not name:
        raise ApiError(400, "model is required")
    await _report(exchange, request, _pushing(server, name))


async def create(server: ServerState, exchange: Exchange) -> None:
    """/api/create, from another model or from blobs."""
    request = await native_body(exchange, CREATE)
    name = _named(request)
    if parse_name(name) is None:
        raise ApiError(400, "invalid model name")
    if not request.get("from") and not request.get("files"):
        raise ApiError(400, "neither 'from' or 'files' was specified")
    await _report(exchange, request, _creating(server, name, request))


async def copy(server: ServerState, exchange: Exchange) -> None:
    """/api/copy."""
    request = await native_body(exchange, COPY)
    source, destination = request.get("source") or "", request.get("destination") or ""
    for role, name in (("source", source), ("destination", destination)):
        if parse_name(name) is None:
            raise ApiError(400, f'{role} "{name}" is invalid')
    found = server.engine.library.find(source)
    if found is None:
        raise ApiError(404, f'model "{source}" not found')
    server.engine.library.add(found.renamed(destination))
    await exchange.whole(200, b"")


async def delete(server: ServerState, exchange: Exchange) -> None:
    """/api/delete, with the name in a JSON body."""
    name = _named(await native_body(exchange, DELETE))
    if not trimmed(name):
        raise ApiError(400, "model is required")
    if parse_reference(name) is None:
        raise ApiError(400, f'name "{name}" is invalid')
    found = server.engine.library.find(name)
    if found is None:
        raise ApiError(404, f"model '{name}' not found")
    server.engine.library.remove(found.name)
    await exchange.whole(200, b"")


async def head_blob(server: ServerState, exchange: Exchange) -> None:
    """HEAD /api/blobs/:digest."""
    digest = _digest(exchange)
    if digest not in server.engine.library.blobs:
        raise ApiError(404, f'blob "{digest}" not found')
    await exchange.whole(200, b"")


async def post_blob(server: ServerState, exchange: Exchange) -> None:
    """POST /api/blobs/:digest: 200 unread for an existing blob; one with a wrong digest is stored under its own."""
    digest = _digest(exchange)
    if digest in server.engine.library.blobs:
        await exchange.whole(200, b"")
        return
    body = await exchange.body()
    true = f"sha256:{hashlib.sha256(body).hexdigest()}"
    server.engine.library.blobs[true] = body
    if digest != true:
        raise ApiError(400, f"digest mismatch, expected {digest!r}, got {true!r}".replace("'", '"'))
    await exchange.whole(201, b"")


def _named(request: dict[str, Any]) -> str:
    """Return `model`, which takes precedence over the older `name`."""
    return request.get("model") or request.get("name") or ""


def _digest(exchange: Exchange) -> str:
    digest = exchange.params["digest"]
    if not _DIGEST.fullmatch(digest):
        raise ApiError(400, "invalid digest format")
    return digest.replace("-", ":")


async def _pulling(server: ServerState, name: str) -> Progress:
    yield {"status": "pulling manifest"}
    found = server.registry.find(name) or server.engine.library.find(name)
    if found is None:
        raise ApiError(500, "pull model manifest: file does not exist")
    async for status in _downloading(server, found):
        yield status
    for text in ("verifying sha256 digest", "writing manifest"):
        yield {"status": text}
    server.engine.library.add(found)
    yield {"status": "success"}


async def _downloading(server: ServerState, found: SimulatedModel) -> Progress:
    """Yield the progress of a download; an existing blob is not fetched again."""
    digest = f"sha256:{found.digest}"
    head = {"status": f"pulling {found.digest[:12]}", "digest": digest, "total": found.size}
    held = any(one.digest == found.digest for one in server.engine.library)
    seconds = 0.0 if held else found.size / server.settings.download_speed
    ticks = max(1, min(_MAX_TICKS, int(seconds / _TICK_SECONDS))) if seconds else 0
    pacer = server.engine.clock.pacer()
    yield head
    for tick in range(1, ticks + 1):
        await pacer.spend(seconds / ticks)
        yield {**head, "completed": found.size * tick // ticks}
    if not ticks:
        yield {**head, "completed": found.size}


async def _pushing(server: ServerState, name: str) -> Progress:
    yield {"status": "retrieving manifest"}
    found = server.engine.library.find(name)
    if found is None:
        yield {"status": "couldn't retrieve manifest"}
        raise ApiError(500, _no_manifest(name))
    digest = f"sha256:{found.digest}"
    head = {"status": f"pushing {found.digest[:12]}", "digest": digest, "total": found.size}
    await server.engine.clock.pacer().spend(found.size / server.settings.download_speed)
    yield {**head, "completed": found.size}
    yield {"status": "pushing manifest"}
    yield {"status": "success"}


async def _creating(server: ServerState, name: str, request: dict[str, Any]) -> Progress:
    base = request.get("from") or ""
    if base:
        found = server.engine.library.find(base)
        if found is None:
            raise ApiError(500, f"pull model manifest: file does not exist: {base}")
        made, existing = (
            _variant(found, name, request),
            {one for held in server.engine.library for one in _layers(held)},
        )
        for layer in _layers(made):
            known = "using existing" if layer in existing else "creating new"
            yield {"status": f"{known} layer sha256:{layer}"}
    else:
        yield {"status": "parsing GGUF"}
        made = SimulatedModel(name=name, size=sum(_blob_sizes(server, request["files"])))
    yield {"status": "writing manifest"}
    server.engine.library.add(made)
    yield {"status": "success"}


def _variant(found: SimulatedModel, name: str, request: dict[str, Any]) -> SimulatedModel:
    changes: dict[str, Any] = {key: request[key] for key in ("system", "template") if request.get(key)}
    if request.get("parameters"):
        changes["parameters"] = {**found.parameters, **request["parameters"]}
    if request.get("adapters"):
        changes["adapters"] = tuple(digest.partition(":")[2] for digest in request["adapters"].values())
    return found.variant(name, **changes) if changes else found.renamed(name)


def _blob_sizes(server: ServerState, files: dict[str, str]) -> Iterator[int]:
    for digest in files.values():
        blob = server.engine.library.blobs.get(digest)
        if blob is None:
            raise ApiError(500, f"open /models/blobs/{digest.replace(':', '-')}: no such file or directory")
        yield len(blob)


def _no_manifest(name: str) -> str:
    parsed = parse_name(name)
    if parsed is None:
        return f"unqualified name: registry.ollama.ai/library/{name}:latest"
    return f"open /models/manifests/{parsed.full.replace(':', '/')}: no such file or directory"


def _layers(one: SimulatedModel) -> tuple[str, ...]:
    """Return the digests of the layers: the weights, then the texts."""
    parameters = json.dumps(one.parameters) if one.parameters else ""
    texts = (text for text in (one.template, one.system, parameters) if text)
    return (one.weights, *(hashlib.sha256(text.encode()).hexdigest() for text in texts))


async def _report(exchange: Exchange, request: dict[str, Any], progress: Progress) -> None:
    """Send progress as NDJSON; later failures keep status 200. Without a stream only the last status is sent."""
    if request.get("stream") is False:
        try:
            last = [status async for status in progress][-1]
        except ApiError as error:
            error.streaming = True
            raise
        await exchange.json(200, last, content_type=JSON)
        return
    exchange.begin_stream(NDJSON)
    async with aclosing(progress):
        await _stream(exchange, progress)


async def _stream(exchange: Exchange, progress: Progress) -> None:
    try:
        async for status in progress:
            await exchange.chunk(dumps(status) + b"\n")
    except StreamEnded:
        pass
    except (ApiError, StreamFailed) as failure:
        if not exchange.started:
            raise
        text = failure.message if isinstance(failure, ApiError) else str(failure)
        await exchange.chunk(dumps({"error": text}) + b"\n")
    await exchange.end_stream()
