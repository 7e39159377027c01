"""What the core costs one request, room by room: `python benchmarks/core_request.py [FILTER] [--profile]`.

Microseconds of process time an operation, one core, the least of several rounds: other processes only ever add to it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from ollama_router_core.access.grants import Grants, check_endpoint, check_expiry, check_model, check_network
from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.endpoints import Family
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import parse_request
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config.settings import Config, ExternalHost
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, LoadedModel, ServerFacts
from ollama_router_core.outbound.destinations import build_destinations
from ollama_router_core.outbound.header_fields import answer_fields, reason_field, request_fields
from ollama_router_core.outbound.sending import prepare
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.routing.forwarding import forward, outcome_of_status
from ollama_router_core.routing.policy import apply_policy
from ollama_router_core.routing.selector import ServerSelector

MODEL = "llama3.1:8b"
BODIES = {
    "ollama chat": (
        "/api/chat",
        b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"why is the sky blue"}],"stream":false}',
    ),
    "openai chat": (
        "/v1/chat/completions",
        b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"why is the sky blue"}],"stream":true}',
    ),
    "anthropic": (
        "/v1/messages",
        b'{"model":"llama3.1:8b","max_tokens":64,"messages":[{"role":"user","content":"why is the sky blue"}]}',
    ),
}
LAST_LINES = {
    Family.OLLAMA: b'{"model":"llama3.1:8b","created_at":"2025-01-01T00:00:00Z","message":{"role":"assistant",'
    b'"content":""},"done":true,"done_reason":"stop","total_duration":5191566416,"load_duration":2154458,'
    b'"prompt_eval_count":26,"prompt_eval_duration":383809000,"eval_count":298,"eval_duration":4799921000}\n',
    Family.OPENAI: b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"llama3.1:8b",'
    b'"choices":[],"usage":{"prompt_tokens":26,"completion_tokens":298,"total_tokens":324}}\n\ndata: [DONE]\n\n',
    Family.ANTHROPIC: b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"input_tokens":26,"output_tokens":298}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
}
WHOLE = {
    Family.OLLAMA: b'{"model":"llama3.1:8b","created_at":"2025-01-01T00:00:00Z","message":{"role":"assistant",'
    b'"content":"Because of the way light scatters."},"done":true,"done_reason":"stop","total_duration":5191566416,'
    b'"load_duration":2154458,"prompt_eval_count":26,"prompt_eval_duration":383809000,"eval_count":298,'
    b'"eval_duration":4799921000}',
    Family.OPENAI: b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"llama3.1:8b","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"Because of the way light scatters."},"finish_reason":"stop"'
    b'}],"usage":{"prompt_tokens":26,"completion_tokens":298,"total_tokens":324}}',
    Family.ANTHROPIC: b'{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":'
    b'"Because of the way light scatters."}],"stop_reason":"end_turn","usage":{"input_tokens":26,"output_tokens":298}}',
}
CLIENT_FIELDS = (
    (b"host", b"127.0.0.1:11434"), (b"accept", b"*/*"), (b"user-agent", b"ollama-python/0.6"),
    (b"authorization", b"Bearer or_x"), (b"content-type", b"application/json"), (b"content-length", b"97"),
)  # fmt: skip
ANSWER_FIELDS = (
    (b"content-type", b"application/json; charset=utf-8"), (b"date", b"Mon, 01 Jan 2025 00:00:00 GMT"),
    (b"content-length", b"310"),
)  # fmt: skip


def make_fleet(strategy: str) -> tuple[Config, FleetSnapshot]:
    """Four servers with one model, loaded on one of them."""
    name = canonical_name(MODEL)
    config = Config.model_validate({
        "servers": {f"server{n}": {"host": "127.0.0.1", "port": 11500 + n, "max_memory_gb": 24.0} for n in range(4)},
        "routing_strategy": strategy,
        "models": {"aliases": {"gpt-4": MODEL}, "rules": [{"pattern": "qwen*", "num_ctx": 4096}],
                   "local_only": ["secret*"]},
    })  # fmt: skip
    installed = {name: InstalledModel(name=name, spelling=MODEL, size=5 * 2**30, digest="sha256:1")}
    loaded = {name: LoadedModel(name=name, size=6 * 2**30, size_vram=6 * 2**30, context_length=4096)}
    servers = {
        server: ServerFacts(name=server, up=True, installed=installed, loaded=loaded if server == "server1" else {})
        for server in config.servers
    }
    return config, FleetSnapshot(servers=servers)


Operations = Iterator[tuple[str, Callable[[], Any]]]
CHAT = match_endpoint("POST", "/api/chat")


def reading() -> Operations:
    """From bytes to what a decision needs."""
    for name, (path, body) in BODIES.items():
        match = match_endpoint("POST", path)
        yield f"parse {name} ({len(body)} B)", lambda match=match, body=body: parse_request(match, body)
    long = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"%s"}]}' % (b"word " * 2000)
    yield "parse 10 kB chat", lambda: parse_request(CHAT, long)
    turns = b",".join([b'{"role":"user","content":"hello: %d"}' % n for n in range(100)])
    conversation = b'{"model":"llama3.1:8b","messages":[%s]}' % turns
    yield "parse 100 messages", lambda: parse_request(CHAT, conversation)
    yield "match_endpoint", lambda: match_endpoint("POST", "/api/chat")


PROFILED = {
    "no rule": b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}],"temperature":0.5}',
    "two members left out": b'{"model":"gpt-5","messages":[],"temperature":0.5,"top_p":0.5}',
}
"""A host with a profile."""


def permitting() -> Operations:
    """Access and policy."""
    config, _ = make_fleet("priority_with_memory")
    request = parse_request(CHAT, BODIES["ollama chat"][1])
    grants = Grants(models=("llama3*", "qwen3:*"), networks=("127.0.0.0/8",), expires_at=2e9)

    def access() -> None:
        check_expiry(grants, 0.0)
        check_network(grants, "127.0.0.1")
        check_endpoint("user", CHAT.endpoint, grants)
        check_model(grants, MODEL)

    yield "access", access
    yield "policy", lambda: apply_policy(request, config.models)


def choosing() -> Operations:
    """Decisions and their reasons."""
    config, snapshot = make_fleet("priority_with_memory")
    fastest, _ = make_fleet("fastest")
    route = parse_request(CHAT, BODIES["ollama chat"][1]).route
    by_priority, by_time = ServerSelector(config), ServerSelector(fastest)
    yield "decide priority", lambda: by_priority.decide(route, snapshot, now=0.0, tiebreak=7)
    yield "decide fastest", lambda: by_time.decide(route, snapshot, now=0.0, tiebreak=7)
    decision = by_priority.decide(route, snapshot, now=0.0)
    yield "reason text", lambda: decision.reason
    yield "reason + field", lambda: reason_field(decision.reason)


def sending() -> Operations:
    """Forwarding and header fields."""
    config, _ = make_fleet("priority_with_memory")
    place = build_destinations(config, {}, str, shipped_profiles())["server1"]
    request = parse_request(CHAT, BODIES["ollama chat"][1])

    def walk() -> object:
        steps = forward(("server1", "server0", "server2"))
        next(steps)
        try:
            steps.send(outcome_of_status(200))
        except StopIteration as stop:
            return stop.value
        raise AssertionError

    yield "forward success", walk
    yield "prepare", lambda: prepare(request, place)
    paid = Config(external_hosts={"paid": ExternalHost(host="api.openai.com")})
    outside = build_destinations(paid, {}, str, shipped_profiles())["paid"]
    for what, body in PROFILED.items():
        asked = parse_request(match_endpoint("POST", "/v1/chat/completions"), body)
        yield f"prepare outside, {what}", lambda asked=asked: prepare(asked, outside)
    yield "request_fields", lambda: request_fields(CLIENT_FIELDS, place, "0123456789abcdef")
    yield "answer_fields", lambda: answer_fields(ANSWER_FIELDS)


def accounting() -> Operations:
    """Usage and the row in the log."""

    def usage(family: Family, piece: bytes, *, streamed: bool) -> object:
        reader = UsageReader(family, streamed=streamed)
        reader.feed(piece)
        return reader.usage

    for family in Family:
        yield f"usage whole {family}", lambda family=family: usage(family, WHOLE[family], streamed=False)
        yield f"usage last chunk {family}", lambda family=family: usage(family, LAST_LINES[family], streamed=True)
    token = b'{"model":"llama3.1:8b","created_at":"x","message":{"role":"assistant","content":"x"},"done":false}\n'
    reader = UsageReader(Family.OLLAMA, streamed=True)
    yield "usage token chunk", lambda: reader.feed(token)
    yield "record", lambda: RequestRecord(
        id="x", started_at=0.0, user="u", client="c", method="POST", path="/api/chat", model_asked=MODEL,
        model_served=MODEL, server="server1", status=200, attempts=1, streamed=False, queue_ms=1.0, ttft_ms=1.0,
        total_ms=2.0, load_ms=None, prompt_tokens=1, completion_tokens=2, num_ctx=None, bytes_in=1, bytes_out=2,
        reason="r", error_code=None, error=None,
    )  # fmt: skip


def measure(operation: Callable[[], Any], rounds: int = 9, seconds: float = 0.03) -> float:
    """Microseconds of process time an operation: the least of several rounds."""
    count, took = 50, 0.0
    while took < seconds / 3:
        count *= 2
        took = _timed(operation, count)
    count = max(1, int(count * seconds / took))
    return min(_timed(operation, count) for _ in range(rounds)) / count * 1e6


def _timed(operation: Callable[[], Any], count: int) -> float:
    turns = range(count)
    start = time.process_time()
    for _ in turns:
        operation()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("filter", nargs="?", default="")
    parser.add_argument("--profile", action="store_true", help="show where the time goes")
    options = parser.parse_args()
    rooms = (reading, permitting, choosing, sending, accounting)
    for name, operation in chain.from_iterable(room() for room in rooms):
        if options.filter not in name:
            continue
        print(f"{name:32} {measure(operation):8.2f} us")
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(_timed, operation, 20_000)
            pstats.Stats(profile).sort_stats("tottime").print_stats(12)


if __name__ == "__main__":
    main()
