"""The newer /v1 routes: responses and audio transcriptions."""

from __future__ import annotations

from contextlib import aclosing

from ollama_router_core.testing.answering import answer_job
from ollama_router_core.testing.dialect_responses import Responses
from ollama_router_core.testing.error_replies import ApiError, before_the_handler
from ollama_router_core.testing.exchange import JSON, Exchange
from ollama_router_core.testing.forms import Form, FormError, read_form
from ollama_router_core.testing.request_fields import RESPONSES
from ollama_router_core.testing.routes_v1 import v1_body
from ollama_router_core.testing.shared_state import ServerState
from ollama_router_core.testing.translation import chat_from_responses

__all__ = ["responses", "transcriptions"]


async def responses(server: ServerState, exchange: Exchange) -> None:
    """/v1/responses."""
    with before_the_handler():
        request = await v1_body(server, exchange, RESPONSES)
        native = {**chat_from_responses(request), "stream": bool(request.get("stream"))}
    job = server.engine.prepare("chat", native)
    created = int(server.engine.clock.now())
    dialect = Responses(number=server.identity(""), request=request, created=created)
    await answer_job(exchange, server.engine, job, dialect, stream=bool(request.get("stream")))


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
