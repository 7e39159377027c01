"""What a destination is sent for a request, and which header fields go along."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import ParsedRequest, parse_request
from ollama_router_core.client.shipped_profiles import shipped_profiles
from ollama_router_core.config import Config, ExternalHost, HostedModel, Server
from ollama_router_core.outbound.destinations import Destination, build_destinations
from ollama_router_core.outbound.header_fields import answer_fields, request_fields
from ollama_router_core.outbound.sending import Translation, answer_here, prepare
from ollama_router_core.translate import (
    ReplyIdentity,
    ReplyOptions,
    Route,
    UntranslatableReply,
    UntranslatableRequest,
    route_at,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES

IDENTITY = ReplyIdentity(model="gpt-4", id="r1", created_ns=1)
BODY: dict[str, Any] = {"model": "gpt-4", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


def _places(**host: Any) -> dict[str, Destination]:
    paid = ExternalHost(host="paid", models={"gpt-4": HostedModel(name="theirs")}, api_key_env="KEY", **host)
    config = Config(servers={"box": Server(host="box")}, external_hosts={"paid": paid})
    return build_destinations(config, {"KEY": "sk-12345"}, lambda path: path, shipped_profiles())


def _request(path: str, body: dict[str, Any] = BODY) -> ParsedRequest:
    return parse_request(match_endpoint("POST", path), json.dumps(body).encode())


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_server_gets_the_bytes_that_were_checked(path: str) -> None:
    """An Ollama server speaks every dialect, so nothing is touched."""
    request = _request(path, {**BODY, "input": "x"})
    outbound = prepare(request, _places()["box"])
    assert (outbound.target, outbound.body, outbound.translation) == (path, request.body, None)


@pytest.mark.parametrize(
    ("api", "path", "dialect"),
    [
        ("openai", "/api/chat", OPENAI_CHAT),
        ("openai", "/api/generate", OPENAI_CHAT),
        ("openai", "/v1/messages", OPENAI_CHAT),
        ("openai", "/v1/chat/completions", None),
        ("openai", "/v1/responses", OPENAI_CHAT),
        ("openai_responses", "/v1/responses", None),
        ("openai_responses", "/api/generate", OPENAI_RESPONSES),
        ("openai_responses", "/v1/chat/completions", OPENAI_RESPONSES),
        ("openai_responses", "/v1/messages", OPENAI_RESPONSES),
        ("anthropic", "/v1/responses", ANTHROPIC_MESSAGES),
        ("ollama", "/v1/responses", None),
        ("anthropic", "/api/chat", ANTHROPIC_MESSAGES),
        ("anthropic", "/v1/chat/completions", ANTHROPIC_MESSAGES),
        ("anthropic", "/v1/messages", None),
        ("ollama", "/v1/messages", None),
    ],
)
def test_a_host_gets_its_own_dialect(api: str, path: str, dialect: Route | None) -> None:
    """What the host speaks passes with its own name of the model; the rest is translated."""
    body = {"model": "gpt-4", "input": "hi"} if path == "/v1/responses" else {**BODY, "prompt": "hi"}
    outbound = prepare(_request(path, body), _places(api=api)["paid"])
    assert (outbound.translation.host if outbound.translation else None) is dialect
    assert outbound.target == (dialect.path if dialect else path)
    assert json.loads(outbound.body)["model"] == outbound.model == "theirs"


def test_a_route_without_translation_is_refused_by_name() -> None:
    """The text says which host, which API and what to use instead."""
    form = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-4\r\n--b--\r\n'
    match = match_endpoint("POST", "/v1/audio/transcriptions")
    request = parse_request(match, form, content_type=b"multipart/form-data; boundary=b")
    with pytest.raises(UntranslatableRequest, match=r"paid.*anthropic.*/v1/audio/transcriptions.*use.*/v1/responses"):
        prepare(request, _places(api="anthropic")["paid"])


def test_responses_pass_to_a_host_that_has_them() -> None:
    """With all that only its own servers can do, stored answers included."""
    request = _request("/v1/responses", {"model": "gpt-4", "input": "x", "previous_response_id": "resp_1"})
    outbound = prepare(request, _places(api="openai", responses=True)["paid"])
    assert outbound.translation is None
    assert json.loads(outbound.body)["previous_response_id"] == "resp_1"


def test_what_hosts_have_no_route_for_is_answered_here() -> None:
    """`/api/show` and Ollama's empty requests that load a model; a server answers for itself."""
    places = _places(api="openai")
    show = answer_here(_request("/api/show", {"model": "gpt-4"}), places["paid"], IDENTITY)
    assert json.loads(show or b"")["remote_model"] == "theirs"
    assert answer_here(_request("/api/generate", {"model": "gpt-4"}), places["paid"], IDENTITY)
    assert answer_here(_request("/api/chat"), places["paid"], IDENTITY) is None
    assert answer_here(_request("/api/show", {"model": "gpt-4"}), places["box"], IDENTITY) is None


def test_fields_of_a_translated_request_belong_to_the_hosts_dialect() -> None:
    """Nothing of the client's API goes along, and no credential of the client's ever does."""
    client = [
        (b"authorization", b"Bearer client"), (b"x-api-key", b"client"), (b"cookie", b"a=b"), (b"accept", b"x"),
        (b"content-type", b"text/odd"), (b"openai-beta", b"x"), (b"user-agent", b"me"), (b"connection", b"user-agent"),
    ]  # fmt: skip
    place = _places(api="anthropic")["paid"]
    outbound = prepare(_request("/api/chat"), place)
    fields = dict(request_fields(client, place, "r1", own=outbound.headers, translated=True))
    assert fields == {
        b"content-type": b"application/json",
        b"anthropic-version": b"2023-06-01",
        b"via": b"1.1 ollama-router",
        b"x-request-id": b"r1",
        b"x-api-key": b"sk-12345",
    }


def test_fields_of_an_answer() -> None:
    """What the list does not name stays behind; of a new body, its old length too."""
    server = [(b"set-cookie", b"a"), (b"x-router-server", b"evil"), (b"content-length", b"5"), (b"x-request-id", b"1")]
    assert answer_fields(server) == [(b"content-length", b"5"), (b"x-request-id", b"1")]
    assert answer_fields(server, rewritten=True) == [(b"x-request-id", b"1")]


@pytest.mark.parametrize(
    "name",
    [
        "x-accel-redirect", "x-accel-buffering", "x-accel-expires", "x-accel-limit-rate", "x-accel-charset",
        "x-sendfile", "x-lighttpd-send-file", "x-reproxy-url", "retry-after", "x-ratelimit-remaining-requests",
        "x-should-retry", "set-cookie", "cache-control", "refresh", "link", "content-security-policy",
        "access-control-allow-headers", "clear-site-data", "transfer-encoding", "keep-alive", "upgrade", "location",
        "x-anything",
    ],
)  # fmt: skip
def test_no_server_speaks_to_what_stands_in_front_of_the_router(name: str) -> None:
    """Proxies act on some fields, clients on others; a server's do not reach them, whatever case it writes."""
    for rewritten in (False, True):
        assert answer_fields([(name.encode(), b"/users.json")], rewritten=rewritten) == []


def _translated(path: str, host: str, reply: dict[str, Any]) -> dict[str, Any]:
    spoken, asked = route_at(path), route_at(host)
    assert spoken is not None
    assert asked is not None
    translation = Translation(client=spoken, host=asked, stream=False, options=ReplyOptions())
    identity = ReplyIdentity(model="m", id="1", created_ns=0)
    text = json.dumps(reply).encode()
    written: dict[str, Any] = json.loads(
        translation.reply([text[:9], text[9:]], identity, elapsed_ns=1, keep=lambda _: None)
    )
    return written


def test_a_batch_of_vectors_is_many_numbers() -> None:
    """A decoder makes little of numbers: 300 vectors of 1,536 are translated."""
    vector = [0.5] * 1536
    reply = {"data": [{"index": n, "embedding": vector} for n in range(300)], "usage": {"prompt_tokens": 3}}
    assert _translated("/api/embed", "/v1/embeddings", reply)["embeddings"] == [vector] * 300


def test_an_answer_of_more_values_than_a_model_writes_is_not_translated() -> None:
    """What a decoder takes long for holds up everybody: the answer is refused, and the text says for what."""
    message = {"role": "assistant", "content": "", "logprobs": [0] * 300_001}
    with pytest.raises(UntranslatableReply, match="the answer has more than 300,000 values"):
        _translated("/api/chat", "/v1/chat/completions", {"choices": [{"message": message}]})


def test_trace_context_is_kept_from_hosts_where_the_setting_says_so() -> None:
    """The client's and our own; servers get it, and with the default so do hosts."""
    context = ((b"traceparent", b"00-1"), (b"tracestate", b"a=1"))
    host = ExternalHost(host="paid", models={"gpt-4": HostedModel(name="theirs")})

    def names(name: str, *, to_hosts: bool) -> set[bytes]:
        traces = Config.model_validate({"traces": {"to_hosts": to_hosts}}).traces
        config = Config(servers={"box": Server(host="box")}, external_hosts={"paid": host}, traces=traces)
        place = build_destinations(config, {}, lambda path: path, shipped_profiles())[name]
        return {field for field, _ in request_fields([*context], place, "id", own=context[:1])}

    both = {name for name, _ in context}
    assert both <= names("box", to_hosts=False)
    assert not both & names("paid", to_hosts=False)
    assert both <= names("paid", to_hosts=True)
