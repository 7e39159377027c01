"""OpenTelemetry traces: a span for each request with its time in the queue, and one for each attempt with its phases.

OpenTelemetry is an extra, imported only if the config enables traces. Without it, a client's `traceparent` is
forwarded unchanged; with it, a server's span is a child of the attempt's. Names and values never contain prompts,
answers, tokens, header fields or query strings.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ollama_router_core.config.settings import Traces as Settings
from ollama_router_core.errors import ConfigError
from ollama_router_core.exchange.context import RequestContext

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

__all__ = ["RequestTrace", "Traces", "open_traces"]

_CONTEXT: Final = (b"traceparent", b"tracestate")
_NANO: Final = 1_000_000_000


class Traces:
    """Creates the traces of requests.

    Args:
        provider: receives finished spans; shut down by `aclose`.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._provider = provider
        self._tracer = provider.get_tracer("ollama_router")
        self._context = TraceContextTextMapPropagator()
        self._kinds = trace.SpanKind
        self._inside = trace.set_span_in_context
        self._error = trace.StatusCode.ERROR

    def begin(self, context: RequestContext) -> RequestTrace:
        """Start a request's trace; its header fields then name our span as the parent."""
        theirs = {name.decode(): value.decode("latin-1") for name, value in context.headers if name in _CONTEXT}
        span = self._tracer.start_span(
            context.method,
            context=self._context.extract(theirs),
            kind=self._kinds.SERVER,
            start_time=_nanoseconds(context, context.started),
            attributes={"http.request.method": context.method, "orouter.request_id": context.id},
        )
        kept = [field for field in context.headers if field[0] not in _CONTEXT]
        context.headers = [*kept, *self.fields(span)]
        return RequestTrace(self, span)

    def fields(self, span: Span) -> tuple[tuple[bytes, bytes], ...]:
        """Return the header fields that name a span as the parent."""
        carrier: dict[str, str] = {}
        self._context.inject(carrier, context=self._inside(span))
        return tuple((name.encode(), value.encode("latin-1")) for name, value in carrier.items())

    def within(self, span: Span, name: str, facts: dict[str, str | int]) -> Span:
        """Start a child span for a request to a server."""
        return self._tracer.start_span(name, context=self._inside(span), kind=self._kinds.CLIENT, attributes=facts)

    def failed(self, span: Span, kind: str) -> None:
        """Mark a span as failed, with a one-word error."""
        span.set_attribute("error.type", kind)
        span.set_status(self._error)

    async def aclose(self) -> None:
        """Send pending spans."""
        await asyncio.to_thread(self._provider.shutdown)


class RequestTrace:
    """The spans of one request, all ended by `ended` at the latest."""

    __slots__ = ("_attempt", "_span", "_traces", "_waited")

    def __init__(self, traces: Traces, span: Span) -> None:
        self._traces = traces
        self._span = span
        self._attempt: Span | None = None
        self._waited = False

    def sending(self, context: RequestContext, server: str) -> tuple[tuple[bytes, bytes], ...]:
        """Start an attempt; return the header fields for the server."""
        if context.decided is not None:
            self._note_wait(context, context.decided)
        if self._attempt is not None:
            self._attempt.end()
        facts: dict[str, str | int] = {"orouter.server": server, "orouter.attempt": context.attempts}
        self._attempt = self._traces.within(self._span, f"attempt {server}", facts)
        return self._traces.fields(self._attempt)

    def answered(self, status: int) -> None:
        """Record that the head of the server's response has arrived."""
        if self._attempt is not None:
            self._attempt.set_attribute("http.response.status_code", status)
            self._attempt.add_event("head")

    def failed(self, code: str) -> None:
        """Record that the server was unreachable or broke off."""
        if self._attempt is not None:
            self._traces.failed(self._attempt, code)

    def ended(self, context: RequestContext, now: float) -> None:
        """End the trace; `now` is seconds of the monotonic clock."""
        if context.decided is not None or context.queue_position is not None:
            self._note_wait(context, now if context.decided is None else context.decided)
        ended = _nanoseconds(context, now)
        if self._attempt is not None:
            _add_phases(self._attempt, context, ended)
            self._attempt.end(ended)
        span = self._span
        span.update_name(f"{context.method} {context.endpoint.path if context.endpoint else '(unknown)'}")
        span.set_attributes({name: value for name, value in _facts(context).items() if value is not None})
        if context.error is not None:
            self._traces.failed(span, context.error.code)
        span.end(ended)

    def _note_wait(self, context: RequestContext, until: float) -> None:
        """Record the time in the queue once, also for a request that ended without a server."""
        if self._waited:
            return
        self._waited = True
        facts: dict[str, str | int | float] = {"orouter.duration_ms": (until - context.started) * 1000}
        if context.queue_position is not None:
            facts["orouter.queue_position"] = context.queue_position
        self._span.add_event("queue", facts, timestamp=_nanoseconds(context, context.started))


def _add_phases(attempt: Span, context: RequestContext, ended: int) -> None:
    """Add events for load, prefill and decode, from the durations in the response.

    Decoding starts with a stream's first byte; a whole response arrives at its end. Times are the router's.
    """
    usage = context.usage.usage if context.usage else None
    if usage is None:
        return
    before = (usage.load_duration or 0) + (usage.prompt_eval_duration or 0)
    writes = usage.eval_duration or 0
    streamed = context.route is not None and context.route.stream
    first = _nanoseconds(context, context.first_byte) if streamed and context.first_byte is not None else ended - writes
    reached = _nanoseconds(context, context.started if context.reached is None else context.reached)
    begins = max(reached, first - before)
    phases = {"load": usage.load_duration, "prefill": usage.prompt_eval_duration, "decode": usage.eval_duration}
    for name, duration in phases.items():
        if duration:
            attempt.add_event(name, {"orouter.duration_ms": duration / _NANO * 1000}, timestamp=min(begins, ended))
            begins += duration


def _facts(context: RequestContext) -> dict[str, Any]:
    """Return the fields of the request's record under OpenTelemetry's attribute names."""
    usage = context.usage.usage if context.usage else None
    return {
        "http.route": context.endpoint.path if context.endpoint else None,
        "http.response.status_code": context.status,
        "enduser.id": context.user.name if context.user else None,
        "gen_ai.request.model": context.model_shown,
        "gen_ai.usage.input_tokens": usage.prompt_tokens if usage else None,
        "gen_ai.usage.output_tokens": usage.completion_tokens if usage else None,
        "orouter.server": context.server,
        "orouter.attempts": context.attempts,
        "orouter.reason": context.reason,
    }


def _nanoseconds(context: RequestContext, moment: float) -> int:
    """Convert a time of the monotonic clock to nanoseconds since 1970."""
    return int((context.started_at + moment - context.started) * _NANO)


def open_traces(settings: Settings) -> Traces | None:
    """Open traces that are sent with OTLP over HTTP, or return None if they are disabled.

    OpenTelemetry's variables (`OTEL_...`) supply what the settings leave open.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not settings.enabled:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415
    except ImportError:
        raise ConfigError("traces.enabled needs OpenTelemetry: install ollama-router-server[otel]") from None
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
        resource=Resource.create({SERVICE_NAME: "ollama-router"}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.endpoint)))
    return Traces(provider)
