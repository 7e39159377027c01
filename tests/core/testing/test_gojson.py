"""Bodies are read as Go reads them: the simulator is as easy to fool as the server it stands for."""

from __future__ import annotations

import json

import httpx
import pytest

from ollama_router_core.testing import OllamaSimulator
from ollama_router_core.testing.gojson import (
    BOOL,
    INT,
    MAP,
    STRING,
    EmptyBodyError,
    GoJSONError,
    ListOf,
    Struct,
    decode,
    dumps,
)

SHAPE = Struct(
    "ChatRequest",
    {
        "model": STRING,
        "stream": BOOL,
        "keep_alive": INT,
        "options": MAP,
        "messages": ListOf(Struct("Message", {"content": STRING}), "[]api.Message"),
    },
)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"allowed","MODEL":"forbidden"}', "forbidden"),
        (b'{"MODEL":"forbidden","model":"allowed"}', "allowed"),
        (b'{"model":"a","model":"b"}', "b"),
        (b'{"model":"a","model":null}', "a"),
        (b' \n{"model":"a"} {"model":"b"}', "a"),
        (b'{"model":"a"}garbage', "a"),
        (b'{"\\u006dodel":"a"}', "a"),
        (b'{"model":"\xff"}', "\ufffd"),
        (b'{"other":{"model":"x"},"model":"a"}', "a"),
    ],
)
def test_which_model_wins(body: bytes, model: str) -> None:
    """Keys fold, the last duplicate wins, null changes nothing, what follows the first value is ignored."""
    assert decode(body, SHAPE)["model"] == model


@pytest.mark.parametrize("key", ["KEEP_ALIVE", "keep_ali\u017fe".replace("\u017f", "v"), "\u212aeep_alive"])
def test_keys_fold_beyond_ascii(key: str) -> None:
    """The Kelvin sign is a k to Go."""
    assert decode(json.dumps({key: 5}).encode(), SHAPE) == {"keep_alive": 5}


def test_duplicate_maps_merge_and_null_clears() -> None:
    """A second `options` adds to the first one's map; null takes the map away."""
    assert decode(b'{"options":{"a":1},"Options":{"b":2}}', SHAPE)["options"] == {"a": 1, "b": 2}
    assert decode(b'{"options":{"a":1},"options":null}', SHAPE)["options"] is None


@pytest.mark.parametrize("body", [b"", b" \n\t"])
def test_no_value_is_eof(body: bytes) -> None:
    """Nothing to decode is a kind of its own."""
    with pytest.raises(EmptyBodyError, match="EOF"):
        decode(body, SHAPE)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "unexpected EOF"),
        (b'{"model":"a', "unexpected EOF"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{model:1}", "invalid character 'm' looking for beginning of object key string"),
        (b'{"model" "a"}', "invalid character '\"' after object key"),
        (b'{"model":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"model":5}', "json: cannot unmarshal number into Go struct field ChatRequest.model of type string"),
        (b'{"stream":"no"}', "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool"),
        (
            b'{"messages":[{"content":[]}]}',
            "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string",
        ),
        (b"[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_errors_have_gos_words(body: bytes, text: str) -> None:
    """Syntax and type errors read as Go's."""
    with pytest.raises(GoJSONError) as caught:
        decode(body, SHAPE)
    assert str(caught.value) == text


def test_output_is_escaped_for_html() -> None:
    """Go escapes angle brackets, ampersands and the two line separators."""
    assert dumps({"a": "<&>\u2028é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028é"}'.encode()


@pytest.mark.anyio
async def test_a_naive_access_check_is_fooled(sim: OllamaSimulator, http: httpx.AsyncClient) -> None:
    """Over the wire: Python reads one model, the server runs the other."""
    body = b'{"model":"llama3.1:8b","MODEL":"qwen3:8b"}'
    answer = await http.post("/api/generate", content=body)
    assert sim.requests[-1].json["model"] == "llama3.1:8b"
    assert answer.json()["model"] == "qwen3:8b"
    assert sim.loaded == ["qwen3:8b"]


@pytest.mark.anyio
async def test_content_type_is_not_checked(http: httpx.AsyncClient) -> None:
    """A body is JSON whatever its Content-Type says."""
    headers = {"Content-Type": "text/plain"}
    answer = await http.post("/api/generate", content=b'{"model":"llama3.1:8b"}', headers=headers)
    assert answer.status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/chat", {"error": "missing request body"}),
        ("/api/delete", {"error": "missing request body"}),
        (
            "/v1/chat/completions",
            {"error": {"message": "EOF", "type": "invalid_request_error", "param": None, "code": None}},
        ),
    ],
)
async def test_an_empty_body_is_400(http: httpx.AsyncClient, path: str, error: object) -> None:
    """Native routes have a text for it, /v1 shows Go's EOF."""
    answer = await http.request("DELETE" if path == "/api/delete" else "POST", path)
    assert (answer.status_code, answer.json()) == (400, error)
