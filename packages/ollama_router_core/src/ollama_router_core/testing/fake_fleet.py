"""`FakeFleet`: Ollama servers in memory, for tests of programs with the client-side router; no sockets, no delays."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config import Config, Server
from ollama_router_core.translate import (
    ROUTES,
    ConversationRoute,
    ReplyIdentity,
    StreamTranslator,
    codec_of,
    translate_reply,
)
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_GENERATE

__all__ = ["AskedRequest", "FakeFleet"]

_ROUTES = {route.path: route for route in ROUTES if isinstance(route, ConversationRoute)}
_DONE = {"done": True, "done_reason": "stop", "total_duration": 3, "load_duration": 1, "prompt_eval_count": 5,
         "prompt_eval_duration": 1, "eval_count": 2, "eval_duration": 1}  # fmt: skip
_MAKING = frozenset({"/api/pull", "/api/create"})
_ORDERS = _MAKING | {"/api/delete"}
_WHEN = "2025-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """One request sent by a program's router: its server, route and body."""

    server: str
    method: str
    path: str
    body: Any = field(repr=False)


class FakeFleet:
    """Servers in memory; an inner transport for `RouterTransport` and `AsyncRouterTransport`, for either library.

    Create a client for tests in three lines::

        fleet = FakeFleet({"big": ["llama3.3:70b"], "small": ["llama3.2:1b"]})
        client = ollama.Client(transport=RouterTransport(fleet.config, inner=fleet))
        assert client.chat("llama3.3:70b", messages=[...]).message.content == fleet.answer

    Attributes:
        config: settings with these servers; copy them with changes by `model_copy`.
        answer: the response of every model.
        requests: inference requests, pulls and deletions, oldest first, without queries about the fleet.
        down: names of servers that refuse connections.
    """

    def __init__(self, servers: Mapping[str, Iterable[str]], *, answer: str = "Hello!") -> None:
        self._models = {name: tuple(models) for name, models in servers.items()}
        self.config = Config(servers={name: Server(host=name) for name in self._models})
        self.answer = answer
        self.requests: list[AskedRequest] = []
        self.down: set[str] = set()
        self._loaded: dict[str, set[str]] = {name: set() for name in self._models}

    def handle_request(self, request: Any) -> Any:
        """Answer a request of `httpx.Client` or `httpx2.Client`."""
        return self._respond(request, request.read())

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request of an asynchronous client."""
        return self._respond(request, await request.aread())

    def close(self) -> None:
        """There is nothing to close."""

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _respond(self, request: Any, content: bytes) -> Any:
        library = sys.modules[type(request).__module__.partition(".")[0]]
        server, path = request.url.host, request.url.path
        if server in self.down or server not in self._models:
            raise library.ConnectError(f"{server} refuses connections", request=request)
        body = json.loads(content) if content else {}
        status, kind, answer = self._answer(server, path, body)
        if path in _ROUTES or path == "/api/embed" or path in _ORDERS:
            self.requests.append(AskedRequest(server, request.method, path, body))
        return library.Response(status, headers={"content-type": kind}, content=answer)

    def _answer(self, server: str, path: str, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
        lists: Mapping[str, Any] = {
            "/api/version": {"version": "0.32.15"},
            "/api/tags": {"models": [_row(model) for model in self._models[server]]},
            "/api/ps": {"models": [_row(model) for model in sorted(self._loaded[server])]},
            "/v1/models": {"object": "list", "data": [_openai_row(model) for model in self._models[server]]},
        }
        if path in lists:
            return _json(200, lists[path])
        if path in _MAKING:
            return self._make(server, body)
        if canonical_name(str(body.get("model"))) not in map(canonical_name, self._models[server]):
            return _json(404, {"error": f"model '{body.get('model')}' not found"})
        if path == "/api/show":
            return _json(200, {"details": {}, "model_info": {}, "capabilities": ["completion", "tools"]})
        if path == "/api/delete":
            return self._delete(server, body)
        self._loaded[server].add(str(body["model"]))
        return self._inferred(path, body)

    def _inferred(self, path: str, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
        if path == "/api/embed":
            return _json(200, {"model": body["model"], "embeddings": [[0.1, 0.2]]})
        route = _ROUTES.get(path)
        return _json(404, {"error": "not found"}) if route is None else self._infer(route, body)

    def _make(self, server: str, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
        self._models[server] += (str(body["model"]),)
        lines = [{"status": "pulling manifest"}, {"status": "success"}]
        if not body.get("stream", True):
            return _json(200, lines[-1])
        return 200, "application/x-ndjson", b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    def _delete(self, server: str, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
        name = canonical_name(str(body["model"]))
        self._models[server] = tuple(one for one in self._models[server] if canonical_name(one) != name)
        return 200, "text/plain", b""

    def _infer(self, route: ConversationRoute, body: Mapping[str, Any]) -> tuple[int, str, bytes]:
        streams = body.get("stream", match_endpoint("POST", route.path).endpoint.streams)
        identity = ReplyIdentity(model=str(body["model"]), id="fake", created_ns=1_735_689_600_000_000_000)
        head = {"model": body["model"], "created_at": _WHEN}
        whole = {**head, "message": {"role": "assistant", "content": self.answer}, **_DONE}
        source = OLLAMA_CHAT
        if route is OLLAMA_GENERATE:
            whole = {**head, "response": self.answer, **_DONE}
            source = OLLAMA_GENERATE
        if not streams:
            encoded = translate_reply(json.dumps(whole).encode(), source=source, target=route, identity=identity)
            return 200, "application/json", encoded
        translator = StreamTranslator(source, route, identity=identity)
        encoded = b"".join(translator.feed(line) for line in _lines(whole, self.answer)) + translator.finish()
        return 200, codec_of(route.family).framing.media_type, encoded


def _lines(whole: Mapping[str, Any], answer: str) -> Iterable[bytes]:
    """Yield a line for each word of the response, then the last line with the metrics."""
    for index, word in enumerate(answer.split(" ")):
        text = f" {word}" if index else word
        yield json.dumps({**_with_text(whole, text), "done": False}).encode() + b"\n"
    yield json.dumps({**_with_text(whole, ""), **_DONE}).encode() + b"\n"


def _with_text(whole: Mapping[str, Any], text: str) -> dict[str, Any]:
    kept = {key: whole[key] for key in ("model", "created_at")}
    if "response" in whole:
        return {**kept, "response": text}
    return {**kept, "message": {"role": "assistant", "content": text}}


def _row(model: str) -> dict[str, Any]:
    digest = f"{sum(model.encode()):064x}"
    return {"name": model, "model": model, "modified_at": _WHEN, "size": 1_000_000, "digest": digest, "details": {}}


def _openai_row(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 1_735_689_600, "owned_by": "library"}


def _json(status: int, value: Any) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()
