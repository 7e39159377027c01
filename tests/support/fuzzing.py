"""Random paths and bodies against the whole application in process, with servers that only write down what they get."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_router_core.api.endpoints import ENDPOINTS
from ollama_router_core.config import load_config
from ollama_router_core.testing import gojson, request_fields
from ollama_router_server.app import RouterApp, create_app
from ollama_router_server.services import Services
from ollama_router_server.upstream.interface import Headers, UpstreamRequest
from support import router as running
from support.eventually import eventually

__all__ = ["ALLOWED", "FORBIDDEN", "WritingUpstream", "bodies", "fuzzed", "models_read_by_go", "paths", "send"]

ALLOWED, FORBIDDEN = "allowed:1b", "forbidden:1b"
_TAGS = {"models": [{"name": name, "model": name, "size": 1, "digest": "0" * 64} for name in (ALLOWED, FORBIDDEN)]}
_REPLIES = {"/api/tags": _TAGS, "/api/ps": {"models": []}, "/api/version": {"version": "0.32.15"}, "/api/show": {}}


@dataclass
class _Response:
    status: int
    body: bytes
    headers: Headers = ((b"content-type", b"application/json"),)
    complete: bool = False

    async def read(self) -> bytes:
        body, self.body, self.complete = self.body, b"", True
        return body

    def close(self) -> None:
        return


class _Call:
    """A request that is answered once its body was taken; see `upstream.interface.Call`."""

    def __init__(self, upstream: WritingUpstream, request: UpstreamRequest, listener: Callable[[], None]) -> None:
        self.status = 0
        self.headers: Headers = ()
        self.complete = False
        self.connect_seconds = 0.0
        self._listener = listener
        self._answer = b""
        self._task = asyncio.ensure_future(self._exchange(upstream, request))

    async def _exchange(self, upstream: WritingUpstream, request: UpstreamRequest) -> None:
        response = await upstream.send(request)
        self.status, self.headers, self._answer = response.status, response.headers, response.body
        self._listener()

    def head_arrived(self) -> bool:
        return self.status > 0

    def take(self) -> bytes:
        self.complete = True
        return self._answer

    def close(self) -> None:
        self._task.cancel()


@dataclass
class WritingUpstream:
    """Answers everything with 200 and keeps what the relay sent; the fleet's own questions are not kept."""

    seen: list[tuple[str, str, bytes]] = field(default_factory=list)

    async def send(self, request: UpstreamRequest) -> Any:
        """Take a request with all of its body."""
        body = request.body
        if not isinstance(body, bytes):
            body = b"".join([piece async for piece in body])
        if any(name == b"x-request-id" for name, _ in request.headers):
            self.seen.append((request.method, request.target, body))
        reply = _REPLIES.get(request.target, {"status": "success"})
        return _Response(200, json.dumps(reply).encode())

    def open(self, request: UpstreamRequest, listener: Callable[[], None]) -> _Call:
        """The same without waiting."""
        return _Call(self, request, listener)

    async def aclose(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def fuzzed(folder: Path, **config: Any) -> AsyncIterator[tuple[RouterApp, WritingUpstream, str, str]]:
    """The application with its database and such servers; the user's token and the admin's. Alice may use one model."""
    token, admin_token = await running.users_in(folder)
    url = f"sqlite:///{folder}/router.sqlite3"
    settings = {"servers": {"one": {"host": "one"}, "two": {"host": "two"}}, "proxy_port": 1, **config}
    services = Services(load_config(json.dumps(settings)), {"OROUTER_DATABASE_URL": url})
    upstream = WritingUpstream()
    real, services.upstream = services.upstream, upstream  # type: ignore[assignment]
    services.fleet._upstream = upstream
    services.fleet._polling.checker = services.fleet._new_checker(services.config)
    await services.users.set_grants("alice", {"models": [ALLOWED]})
    await services.start()
    await eventually(lambda: all(facts.installed for facts in services.fleet.snapshot.servers.values()))
    try:
        yield create_app(services), upstream, token, admin_token
    finally:
        await services.aclose()
        await real.aclose()


async def send(
    app: RouterApp, method: str, path: bytes, body: bytes, token: str, *headers: tuple[bytes, bytes], query: bytes = b""
) -> tuple[int, bytes]:
    """One request; status and body of the answer."""
    incoming = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        if len(incoming) > 1:
            return incoming.pop(0)
        return await _never()

    async def keep(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path.decode("latin-1"), "raw_path": path,
        "query_string": query, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 1), "scheme": "http",
        "asgi": {"version": "3.0"}, "root_path": "",
        "headers": [(b"host", b"x"), (b"authorization", b"Bearer " + token.encode()), *headers],
    }  # fmt: skip
    await app(scope, receive, keep)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def _never() -> Any:
    await asyncio.Event().wait()


_JUNK = [
    b"/", b"//", b"..", b".", b"%2e", b"%2f", b"%00", b"%", b"%zz", b"\\", b";", b"?", b"#", b"\xff", b" ", b"\t", b":",
    b"@", b"api", b"v1", b"t", b"external", b"blobs", b"sha256:", b"0" * 64, b"%3A", b"router", b"health",
    b"a" * 300, b"\r\n",
]  # fmt: skip


def paths(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Methods and paths: known ones, changed in a place or two, and made of pieces."""
    rng = random.Random(seed)  # noqa: S311 - repeatable is what matters
    known = [re.sub(r"\{.*\}", "sha256:" + "0" * 64, row.path).encode() for row in ENDPOINTS]
    methods = ["GET", "POST", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS", "CONNECT", "TRACE", "get", "X"]
    for _ in range(count):
        path = bytearray(rng.choice(known))
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            at = rng.randrange(len(path) + 1)
            change = rng.randrange(4)
            if change == 0:
                path[at:at] = rng.choice(_JUNK)
            elif change == 1:
                del path[at : at + rng.randrange(1, 4)]
            elif change == 2 and at < len(path):
                path[at] = rng.randrange(256)
            else:
                path = bytearray(b"/".join(rng.choice(_JUNK) for _ in range(rng.randrange(1, 6))))
        yield rng.choice(methods), b"/" + bytes(path).lstrip(b"/") if rng.random() < 0.9 else bytes(path)


_KEYS = ["model", "Model", "MODEL", "mode\u017f", "\\u006dodel", "name", "NAME", "stream", "\u017ftream", "keep_alive",
         "\u212aeep_alive", "options", "OPTIONS", "messages", "prompt", "input", "tools", "from", "source",
         "x"]  # fmt: skip
_VALUES = ['"allowed:1b"', '"forbidden:1b"', '"FORBIDDEN:1b"', '""', "null", "0", "1e400", "-1", "true", "[]", "{}",
           "NaN", '"\\ud800"', '{"num_ctx":1}', '{"NUM_CTX":1}', '[{"role":"user","content":"x"}]', "9" * 40,
           '"x:cloud"', '"library/forbidden"', '"a\\u0000b"', "[[[[]]]]", '{"model":"forbidden:1b"}']  # fmt: skip


def bodies(seed: int, count: int) -> Iterator[bytes]:
    """JSON objects that are nearly requests: doubled and disguised keys, odd values, broken syntax."""
    rng = random.Random(seed)  # noqa: S311 - repeatable is what matters
    for _ in range(count):
        members = [f'"{rng.choice(_KEYS)}":{rng.choice(_VALUES)}' for _ in range(rng.randrange(5))]
        if rng.random() < 0.7:
            members.insert(rng.randrange(len(members) + 1), f'"model":"{rng.choice([ALLOWED, ALLOWED, FORBIDDEN])}"')
        body = ("{" + ",".join(members) + "}").encode("utf-8", "surrogatepass")
        if rng.random() < 0.2:
            at = rng.randrange(len(body) + 1)
            body = (
                body[:at]
                + rng.choice([b"", b"\x00", b"\xef\xbb\xbf", b"}", b'{"model":"forbidden:1b"}', b"\xff", b","])
                + body[at:]
            )
        if rng.random() < 0.1:
            body = body[: rng.randrange(len(body) + 1)]
        yield body


_NAMES_A_MODEL = gojson.Struct("Request", {"model": gojson.STRING})
_SHAPES = {
    "/api/generate": request_fields.GENERATE, "/api/chat": request_fields.CHAT,
    "/api/embed": request_fields.EMBED, "/api/embeddings": request_fields.EMBEDDINGS,
    "/api/show": request_fields.SHOW, "/v1/chat/completions": request_fields.OPENAI_CHAT,
    "/v1/completions": request_fields.OPENAI_COMPLETION, "/v1/embeddings": request_fields.OPENAI_EMBED,
    "/v1/responses": request_fields.RESPONSES, "/v1/messages": request_fields.MESSAGES,
    "/v1/responses/compact": request_fields.RESPONSES, "/v1/images/generations": _NAMES_A_MODEL,
    "/v1/images/edits": _NAMES_A_MODEL, "/v1/audio/speech": _NAMES_A_MODEL, "/v1/systemone": _NAMES_A_MODEL,
}  # fmt: skip


def models_read_by_go(target: str, body: bytes) -> str | None:
    """The model that a real server would take from a body; None if it would refuse the body."""
    try:
        read = gojson.decode(body, _SHAPES[target])
    except gojson.GoJSONError:
        return None
    return str(read.get("model") or read.get("name") or "")
