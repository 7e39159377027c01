"""A host that refuses requests as its provider does, and answers all others in the dialect of their route."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.scripted_server import Peer, ScriptedServer

__all__ = ["Refusal", "RefusingHost", "Seen", "refusing_host"]

Refusal = tuple[int, dict[str, Any]]
"""A status, and the body in the provider's own words."""


@dataclass(frozen=True)
class Seen:
    """One request as the host got it."""

    path: str
    fields: dict[str, str]
    body: dict[str, Any]
    text: bytes


@dataclass
class RefusingHost:
    """Every request so far, refused ones too."""

    port: int
    requests: list[Seen] = field(default_factory=list)


@asynccontextmanager
async def refusing_host(refuses: Callable[[Seen], Refusal | None]) -> AsyncIterator[RefusingHost]:
    """Run a host on loopback."""

    async def script(peer: Peer) -> None:
        while True:
            head = (await peer.head()).decode("latin-1").split("\r\n")
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            text = await peer.body(int(fields.get("content-length", "0")))
            if not text:  # a poll of another test's router, whose server had this port before
                await peer.send(_http(404, "text/plain", b"404 page not found"))
                continue
            seen = Seen(head[0].split(" ")[1], fields, json.loads(text), text)
            host.requests.append(seen)
            refusal = refuses(seen)
            if refusal is not None:
                await peer.send(_http(refusal[0], "application/json", json.dumps(refusal[1]).encode()))
                continue
            streams = seen.body.get("stream") and not seen.path.endswith("/responses")
            kind = "text/event-stream" if streams else "application/json"
            await peer.send(_http(200, kind, _answer(seen)))

    async with ScriptedServer(script) as server:
        host = RefusingHost(server.port)
        yield host


def _http(status: int, kind: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        kind.encode(),
        len(body),
        body,
    )


def _answer(seen: Seen) -> bytes:
    model, stream = seen.body["model"], bool(seen.body.get("stream"))
    if seen.path.endswith("/messages"):
        return _anthropic(model, stream=stream)
    if seen.path.endswith("/responses"):
        part = {"type": "output_text", "text": "hello", "annotations": []}
        said = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
        whole = {"id": "r1", "object": "response", "model": model, "status": "completed", "output": [said]}
        return json.dumps(whole).encode()
    base = {"id": "c1", "created": 1, "model": model}
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
        return json.dumps({**base, "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
    chunks = [
        {"index": 0, "delta": {"role": "assistant", "content": "hello"}, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    lines = [json.dumps({**base, "object": "chat.completion.chunk", "choices": [chunk]}) for chunk in chunks]
    return "".join(f"data: {line}\n\n" for line in [*lines, "[DONE]"]).encode()


def _anthropic(model: str, *, stream: bool) -> bytes:
    message = {"id": "m1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None}
    usage = {"input_tokens": 3, "output_tokens": 1}
    if not stream:
        said = [{"type": "text", "text": "hello"}]
        return json.dumps({**message, "content": said, "stop_reason": "end_turn", "usage": usage}).encode()
    begun = {**message, "content": [], "stop_reason": None, "usage": usage}
    events = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events).encode()
