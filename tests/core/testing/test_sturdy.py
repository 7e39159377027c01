"""Whatever is sent, the simulator answers: a test that breaks it would blame the router."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_router_core.testing import SimulatorThread
from ollama_router_core.testing.gojson import Kind, ListOf, Map, Scalar, Struct
from ollama_router_core.testing.request_fields import (
    CHAT,
    COPY,
    CREATE,
    EMBED,
    EMBEDDINGS,
    GENERATE,
    MESSAGES,
    OPENAI_CHAT,
    OPENAI_COMPLETION,
    OPENAI_EMBED,
    PULL,
    RESPONSES,
    SHOW,
)

_MAY_FAIL = {"/api/create", "/api/pull", "/api/push", "/api/embed", "/api/embeddings", "/api/generate", "/api/chat"}
ROUTES = {
    "/api/chat": CHAT,
    "/api/copy": COPY,
    "/api/create": CREATE,
    "/api/embed": EMBED,
    "/api/embeddings": EMBEDDINGS,
    "/api/generate": GENERATE,
    "/api/pull": PULL,
    "/api/push": PULL,
    "/api/show": SHOW,
    "/v1/chat/completions": OPENAI_CHAT,
    "/v1/completions": OPENAI_COMPLETION,
    "/v1/embeddings": OPENAI_EMBED,
    "/v1/messages": MESSAGES,
    "/v1/responses": RESPONSES,
}

WORDS = ["role", "user", "content", "type", "text", "function", "name", "parameters", "properties", "num_ctx"]
WORDS += ["num_predict", "json_schema", "schema", "effort", "image_url", "source", "tool_result", "input_text"]
texts = st.sampled_from(WORDS) | st.text(max_size=4)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def of_kind(kind: Kind) -> st.SearchStrategy[Any]:
    """Values the declared field takes."""
    if isinstance(kind, Scalar):
        numbers = {"int": st.integers(-10, 10), "float64": st.floats(allow_nan=False, allow_infinity=False)}
        return numbers.get(kind.go_type, st.booleans() if kind.go_type == "bool" else texts)
    if isinstance(kind, ListOf):
        return st.lists(of_kind(kind.item), max_size=2)
    if isinstance(kind, Struct):
        return st.fixed_dictionaries({}, optional={name: of_kind(one) for name, one in kind.fields.items()})
    return st.dictionaries(texts, values, max_size=3) if isinstance(kind, Map) else values


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A route and a body that decodes, naming a model that exists more often than not."""
    path = draw(st.sampled_from(sorted(ROUTES)))
    body = draw(of_kind(ROUTES[path]))
    if "model" in ROUTES[path].fields and draw(st.integers(0, 5)):
        body["model"] = "qwen3:8b"
    if "max_tokens" in ROUTES[path].fields and draw(st.booleans()):
        body["max_tokens"] = 3
    return path, body


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """A client of a server in a thread, on one connection."""
    with (
        SimulatorThread(models=["qwen3:8b"], time_scale=0.0, answer_tokens=3) as simulator,
        httpx.Client(base_url=simulator.url, trust_env=False, timeout=20.0) as client,
    ):
        yield client


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests())
def test_every_body_is_answered(http: httpx.Client, request: tuple[str, dict[str, Any]]) -> None:
    """Any JSON that fits the declared fields is answered, never dropped."""
    path, body = request
    text = json.dumps(body)
    answer = http.post(path, content=text)
    assert answer.status_code in {200, 400, 401, 404, 500, 501}
    assert answer.status_code != 500 or path in _MAY_FAIL
    if answer.status_code != 200:
        assert "error" in answer.json()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60))
def test_any_bytes_are_answered(http: httpx.Client, body: bytes) -> None:
    """What is not JSON is 400."""
    answer = http.post("/api/chat", content=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)
