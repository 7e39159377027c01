"""The newer /v1 routes: responses and transcriptions; in some versions compaction, images, speech, decisions."""

from __future__ import annotations

import base64
from contextlib import aclosing
from typing import Any

from ollama_router_core.testing.answering import infer
from ollama_router_core.testing.dialect_responses import Responses
from ollama_router_core.testing.error_replies import ApiError, before_the_handler
from ollama_router_core.testing.exchange import JSON, Exchange
from ollama_router_core.testing.forms import Form, FormError, read_form
from ollama_router_core.testing.generation import count_tokens
from ollama_router_core.testing.gojson import ANY, MAP, STRING, Struct
from ollama_router_core.testing.inference import Job
from ollama_router_core.testing.load_options import load_options
from ollama_router_core.testing.request_fields import RESPONSES
from ollama_router_core.testing.routes_v1 import v1_body
from ollama_router_core.testing.shared_state import ServerState
from ollama_router_core.testing.translation import chat_from_responses

__all__ = ["compact", "images", "responses", "speech", "systemone", "transcriptions"]

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_LONGEST_SPEECH = 4096
_IMAGES = Struct("ImageGenerationRequest", {"model": STRING, "prompt": STRING, "size": STRING}, package="openai")
_SPEECH = Struct("SpeechRequest", {"model": STRING, "input": STRING, "voice": STRING}, package="openai")
_SYSTEMONE = Struct("Request", {"model": STRING, "state": ANY, "questions": MAP}, package="systemone")


async def responses(server: ServerState, exchange: Exchange) -> None:
    """/v1/responses."""
    with before_the_handler():
        request = await v1_body(server, exchange, RESPONSES)
        native = {**chat_from_responses(request), "stream": bool(request.get("stream"))}
    created = int(server.engine.clock.now())
    dialect = Responses(number=server.identity(""), request=request, created=created)
    await infer(exchange, server.engine, "chat", native, dialect)


async def transcriptions(server: ServerState, exchange: Exchange) -> None:
    """/v1/audio/transcriptions: a form with `model` and `file`."""
    body = await exchange.body()
    with before_the_handler():
        form = _form(exchange, body)
    prompt = form.value("prompt") or "Transcribe this audio."
    message = {"role": "user", "content": prompt, "audio": True}
    job = server.engine.prepare("chat", {"model": form.value("model"), "messages": [message]})
    async with aclosing(server.engine.run(job)) as messages:
        words = [native["message"]["content"] async for native in messages]
    text = "".join(words).strip()
    if form.value("response_format") == "text":
        await exchange.whole(200, text.encode(), "text/plain")
    else:
        await exchange.json(200, {"text": text}, content_type=JSON, newline=True)


async def compact(server: ServerState, exchange: Exchange) -> None:
    """/v1/responses/compact: a conversation as one item, not encrypted."""
    with before_the_handler():
        request = await v1_body(server, exchange, RESPONSES)
    await _run(server, request, "completion")
    item = {"id": server.identity("cmp_"), "type": "compaction", "encrypted_content": str(request.get("input") or "")}
    answer = {"id": server.identity("resp_"), "object": "response.compaction", "output": [item]}
    await exchange.json(200, answer, content_type=JSON, newline=True)


async def images(server: ServerState, exchange: Exchange) -> None:
    """/v1/images/generations and edits: one image."""
    with before_the_handler():
        request = await v1_body(server, exchange, _IMAGES)
    await _run(server, request, "image")
    answer = {"created": int(server.engine.clock.now()), "data": [{"b64_json": _PIXEL}]}
    await exchange.json(200, answer, content_type=JSON, newline=True)


async def speech(server: ServerState, exchange: Exchange) -> None:
    """/v1/audio/speech: audio data, streamed."""
    with before_the_handler():
        request = await v1_body(server, exchange, _SPEECH)
        if len(request.get("input") or "") > _LONGEST_SPEECH:
            raise ApiError(400, f"input must have at most {_LONGEST_SPEECH} characters")
    await _run(server, request, None)
    exchange.begin_stream("audio/wav")
    for _ in range(4):
        await exchange.chunk(base64.b64decode(_PIXEL))
    await exchange.end_stream()


async def systemone(server: ServerState, exchange: Exchange) -> None:
    """/v1/systemone: one answer to each question about a state."""
    with before_the_handler():
        request = await v1_body(server, exchange, _SYSTEMONE)
        if not request.get("questions"):
            raise ApiError(400, "questions is required")
    await _run(server, request, "decision")
    answers = {name: _decided(question) for name, question in request["questions"].items()}
    usage = {"input_tokens": count_tokens(str(request.get("state"))), "output_tokens": len(answers)}
    await exchange.json(200, {"answers": answers, "usage": usage}, content_type=JSON, newline=True)


def _decided(question: Any) -> dict[str, Any]:
    choices = question.get("criteria") if isinstance(question, dict) else None
    return {"answer": choices[0] if isinstance(choices, list) and choices else 0.5}


async def _run(server: ServerState, request: dict[str, Any], needed: str | None) -> None:
    """Hold a slot of the model for the time of one token."""
    name = request.get("model") or ""
    model = server.engine.find(name)
    if needed is not None and needed not in model.capabilities:
        raise ApiError(400, f'"{name}" does not support {needed}')
    options = load_options(model, server.settings, None)
    job = Job(kind="generate", model=model, named=name, options=options, keep_alive=None, script=None)
    async with server.engine.lease(job):
        await server.engine.clock.pacer().spend(1.0 / model.decode_speed)


def _form(exchange: Exchange, body: bytes) -> Form:
    try:
        form = read_form(exchange.record.header("Content-Type") or "", body, exchange.query)
    except FormError as error:
        raise ApiError(400, f"failed to parse multipart form: {error}") from None
    if not form.value("model"):
        raise ApiError(400, "model is required")
    if "file" not in form.files:
        raise ApiError(400, "file is required: http: no such file")
    return form
