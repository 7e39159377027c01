"""Traces: one request is one tree of spans, joined to the client's and to the server's, without a secret in it."""

from __future__ import annotations

import asyncio
import builtins
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from ollama_router_core.config.settings import Traces as Settings
from ollama_router_core.errors import ConfigError
from ollama_router_core.testing import OllamaSimulator, Silence, model
from ollama_router_server import services as module
from ollama_router_server.telemetry.traces import Traces, open_traces
from support.eventually import eventually
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "canary-prompt"}], "stream": False}


class Spans:
    """What was traced."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.traces = Traces(provider)

    def all(self) -> list[ReadableSpan]:
        """Every finished span, in the order in which they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    async def of(self, root: str) -> dict[str, ReadableSpan]:
        """The spans of the one request, by name, once its own has ended."""
        await eventually(lambda: any(span.name == root for span in self.all()))
        return {span.name: span for span in self.all()}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Traces of routers that are started from here on are kept."""
    kept = Spans()
    monkeypatch.setattr(module, "open_traces", lambda _settings: kept.traces)
    return kept


@asynccontextmanager
async def a_router(folder: Path) -> AsyncIterator[tuple[RunningRouter, OllamaSimulator]]:
    """A router with one server."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(folder, {"one": server_entry(sim)}) as router,
    ):
        yield router, sim


async def test_a_request_is_a_tree_from_the_client_to_the_server(spans: Spans, tmp_path: Path) -> None:
    """The client's span, ours, the attempt's; the server is told the attempt's as its parent."""
    async with a_router(tmp_path) as (router, sim), router.client() as alice:
        answer = await alice.post("/api/chat", json=CHAT, headers=SAMPLED)
        found = await spans.of("POST /api/chat")
        (asked,) = (one for one in sim.requests if one.path == "/api/chat")
    request, attempt = found["POST /api/chat"], found["attempt one"]
    assert len(found) == 2
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    assert attempt.parent == request.context
    sent = {name.lower(): value for name, value in asked.headers}
    assert sent["traceparent"] == f"00-{TRACE}-{attempt.context.span_id:016x}-01"
    assert sent["tracestate"] == "vendor=1"
    facts = dict(request.attributes or {})
    assert facts["http.response.status_code"] == 200
    assert facts["orouter.request_id"] == answer.headers["x-router-request-id"]
    assert facts["gen_ai.usage.output_tokens"] == answer.json()["eval_count"]
    assert facts["gen_ai.request.model"] == "llama3.1:8b"
    assert facts["orouter.server"] == "one"
    times = (request.start_time, attempt.start_time, attempt.end_time, request.end_time)
    assert list(times) == sorted(time or 0 for time in times)


async def test_a_request_tells_how_long_it_waited_for_a_server(spans: Spans, tmp_path: Path) -> None:
    """As an event that begins with the request, with its position where it had one; also of who leaves the queue."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}) as router,
        router.client() as alice,
    ):
        sim.misbehave(Silence(), path="/api/chat", times=1)
        runs = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        waits = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.admission.waiting == 1)
        leaves = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.admission.waiting == 2)
        leaves.cancel()
        await eventually(lambda: router.services.admission.waiting == 1)
        runs.cancel()
        assert (await waits).status_code == 200
        await eventually(lambda: len([span for span in spans.all() if span.name == "POST /api/chat"]) == 3)
    requests = [span for span in spans.all() if span.name == "POST /api/chat"]
    told = [(dict(event.attributes or {}), event.timestamp) for one in requests for event in one.events]
    assert [event.name for one in requests for event in one.events] == ["queue"] * 3
    assert [facts.get("orouter.queue_position") for facts, _ in told] == [None, 1, 2]
    assert [moment for _, moment in told] == [one.start_time for one in requests]
    lasted = [float(str(facts["orouter.duration_ms"])) for facts, _ in told]
    assert min(lasted) > 0
    assert lasted[2] == pytest.approx(((requests[2].end_time or 0) - (requests[2].start_time or 0)) / 1e6, abs=0.01)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_attempt_tells_when_the_server_loaded_read_and_wrote(
    spans: Spans, tmp_path: Path, stream: bool
) -> None:
    """As events in this order within the attempt, with the durations of the server's own answer."""
    async with a_router(tmp_path) as (router, _), router.client() as alice:
        text = (await alice.post("/api/chat", json={**CHAT, "stream": stream})).text
        attempt = (await spans.of("POST /api/chat"))["attempt one"]
    told = json.loads(text.splitlines()[-1])
    phases = {event.name: event for event in attempt.events if event.name != "head"}
    assert list(phases) == ["load", "prefill", "decode"]
    durations = [dict(event.attributes or {})["orouter.duration_ms"] for event in phases.values()]
    names = ("load_duration", "prompt_eval_duration", "eval_duration")
    assert durations == pytest.approx([told[name] / 1e6 for name in names])
    moments = [event.timestamp for event in phases.values()]
    assert moments == sorted(moments)
    assert moments[-1] <= (attempt.end_time or 0)


async def test_each_server_that_was_tried_has_a_span(spans: Spans, tmp_path: Path) -> None:
    """One that refuses connections since its last health check, then one that answers."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        OllamaSimulator(models=[model("llama3.1:8b")]) as leaving,
        running_router(
            tmp_path,
            {"one": server_entry(sim, priority=2), "dead": server_entry(leaving)},
            health_check_interval=600,
        ) as router,
        router.client() as alice,
    ):
        await leaving.stop()
        answer = await alice.post("/api/chat", json=CHAT)
        found = await spans.of("POST /api/chat")
    assert answer.headers["x-router-attempts"] == "2"
    assert (found["attempt dead"].attributes or {})["error.type"] == "upstream_unreachable"
    assert (found["attempt one"].attributes or {})["http.response.status_code"] == 200


@pytest.mark.parametrize(("token", "code"), [("", "missing_credential"), ("wrong", "invalid_credential")])
async def test_strangers_leave_a_span_with_the_reason(spans: Spans, tmp_path: Path, token: str, code: str) -> None:
    """Refused requests are seen too, and end."""
    async with a_router(tmp_path) as (router, _), router.client(token) as nobody:
        await nobody.post("/api/chat", json=CHAT)
        (request,) = (await spans.of("POST /api/chat")).values()
    assert (request.attributes or {})["error.type"] == code
    assert (request.attributes or {})["http.response.status_code"] == 401


async def test_a_client_that_leaves_ends_its_spans(spans: Spans, tmp_path: Path) -> None:
    """Also the one of a server that has not answered yet."""
    async with a_router(tmp_path) as (router, sim), router.client() as alice:
        sim.time_scale, sim.load_speed = 1.0, 1.0
        asking = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: any(one.path == "/api/chat" for one in sim.requests))
        asking.cancel()
        found = await spans.of("POST /api/chat")
    assert (found["POST /api/chat"].attributes or {})["http.response.status_code"] == 499
    assert "attempt one" in found


async def test_spans_hold_no_secret(spans: Spans, tmp_path: Path) -> None:
    """No prompt, no answer, no token, no query string, no header field."""
    async with a_router(tmp_path) as (router, _), router.client() as alice:
        headers = {**SAMPLED, "x-canary": "canary-header"}
        said = (await alice.post("/api/chat?key=canary-query", json=CHAT, headers=headers)).json()["message"]["content"]
        await alice.post("/api/chat", json={**CHAT, "options": "canary-prompt"})
        await alice.get("/nowhere/canary-path")
        await eventually(lambda: len([span for span in spans.all() if span.name.startswith(("GET", "POST"))]) == 3)
        told = " ".join(span.to_json() for span in spans.all())
        for secret in ("canary", router.token, said):
            assert secret not in told


async def test_without_traces_the_client_s_context_passes_unchanged(tmp_path: Path) -> None:
    """Byte for byte."""
    async with a_router(tmp_path) as (router, sim), router.client() as alice:
        await alice.post("/api/chat", json=CHAT, headers=SAMPLED)
        (asked,) = (one for one in sim.requests if one.path == "/api/chat")
    sent = {name.lower(): value for name, value in asked.headers}
    assert {name: sent[name] for name in SAMPLED} == SAMPLED


@pytest.fixture
def without_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which the extra is not installed."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    return


@pytest.mark.usefixtures("without_opentelemetry")
def test_the_extra_is_asked_for_by_name():
    """Only who wants traces needs it."""
    assert open_traces(Settings()) is None
    with pytest.raises(ConfigError, match=r"ollama-router-server\[otel\]"):
        open_traces(Settings(enabled=True))


def duration_of(event: Span.Event) -> float:
    """Milliseconds."""
    (found,) = (fact.value.double_value for fact in event.attributes if fact.key == "orouter.duration_ms")
    return float(found)


async def test_spans_are_sent_to_the_collector(tmp_path: Path) -> None:
    """By OTLP over HTTP, at the latest when the router stops: one trace from the client's span to the attempt."""
    heads: list[bytes] = []
    bodies: list[bytes] = []

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        heads.append(head)
        bodies.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    collector = await asyncio.start_server(collect, "127.0.0.1", 0)
    port = collector.sockets[0].getsockname()[1]
    settings = {"enabled": True, "endpoint": f"http://127.0.0.1:{port}/v1/traces"}
    async with (
        collector,
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, traces=settings) as router,
        router.client() as alice,
    ):
        await alice.post("/api/chat", json=CHAT, headers=SAMPLED)
        await router.rows(1)
        await router.services.traces.aclose()  # type: ignore[union-attr]
        await eventually(lambda: bool(bodies))
    assert heads[0].startswith(b"POST /v1/traces ")
    (told,) = ExportTraceServiceRequest.FromString(bodies[0]).resource_spans
    facts = {fact.key: fact.value.string_value for fact in told.resource.attributes}
    assert facts["service.name"] == "ollama-router"
    by_name = {span.name: span for scope in told.scope_spans for span in scope.spans}
    request, attempt = by_name["POST /api/chat"], by_name["attempt one"]
    assert {span.trace_id.hex() for span in by_name.values()} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert attempt.parent_span_id == request.span_id
    (waited,) = request.events
    assert waited.name == "queue"
    assert waited.time_unix_nano == request.start_time_unix_nano
    assert waited.time_unix_nano + duration_of(waited) * 1e6 <= attempt.start_time_unix_nano + 1e6
    assert all(duration_of(event) > 0 for event in attempt.events if event.name != "head")
    assert [event.name for event in attempt.events if event.name != "head"] == ["load", "prefill", "decode"]
