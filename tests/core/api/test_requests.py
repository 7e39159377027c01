"""Body bytes to routing facts: what is read, what is refused, what is sent on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.endpoints import ENDPOINTS, Body
from ollama_router_core.api.prompts import PromptSize, usual_tokens
from ollama_router_core.api.requests import ParsedRequest, RouteRequest, parse_request
from ollama_router_core.errors import (
    AmbiguousKey,
    InvalidBody,
    InvalidModelName,
    InvalidTarget,
    MissingModel,
    ModelNotFound,
)


def read(body: dict[str, Any] | bytes, path: str = "/api/chat") -> ParsedRequest:
    """Parse a body as that route would."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_request(match_endpoint("POST", path), raw)


def route(body: dict[str, Any] | bytes, path: str = "/api/chat") -> RouteRequest:
    """The routing facts of a body."""
    return read(body, path).route


def test_the_facts_of_a_request() -> None:
    """What a decision needs, read once."""
    body = {
        "model": "Llama3.1:8B",
        "options": {"num_ctx": 8192, "num_predict": 50},
        "messages": [{"role": "user", "content": "Why blue?!"}],
        "stream": False,
    }
    found = route(body)
    assert found.model_text == "Llama3.1:8B"
    assert found.model == "llama3.1:8b"
    assert (found.num_ctx, found.max_tokens, found.stream) == (8192, 50, False)
    assert found.needs == {"completion"}
    assert found.prompt == PromptSize(letters=7, marks=2, messages=1)
    assert found.prompt_tokens == usual_tokens(found.prompt)


def test_the_body_that_was_checked_is_the_body_that_is_sent() -> None:
    """Byte for byte, lone surrogates and endless numbers included."""
    body = b' {"model":"m", "prompt":"\\ud800", "x":1e400, "seed":' + b"9" * 5000 + b"}\n"
    assert read(body, "/api/generate").body == body


def test_another_model_changes_nothing_but_the_name() -> None:
    """An alias is resolved in the client's own text, and in the facts too."""
    parsed = read(b'{"x": 1.0, "model" : "alias","y":[ ]}').with_model('real:7b"')
    assert parsed.body == b'{"x": 1.0, "model" : "real:7b\\"","y":[ ]}'
    assert parsed.route.model_text == 'real:7b"'


def test_another_model_goes_where_the_name_was_read() -> None:
    """`/api/show` may name its model under `name`; that is the key that changes."""
    assert read(b'{"model":"","name":"a"}', "/api/show").with_model("b").body == b'{"model":"","name":"b"}'


def test_show_takes_model_before_name() -> None:
    """As Ollama: `model` wins when both are set."""
    assert route({"model": "a", "name": "b"}, "/api/show").model == "a:latest"
    assert route({"model": None, "name": "b"}, "/api/show").model == "b:latest"


def test_a_route_without_a_model_has_no_body() -> None:
    """Nothing is sent with a GET, whatever the client attached."""
    parsed = parse_request(match_endpoint("GET", "/api/tags"), b"not json")
    assert parsed.body == b""
    assert parsed.with_model("x") is parsed


@pytest.mark.parametrize("body", [{}, {"model": None}, {"model": ""}, {"name": "only show reads this"}])
def test_a_request_without_a_model_is_refused(body: dict[str, Any]) -> None:
    """In Ollama's own words."""
    with pytest.raises(MissingModel, match="model is required"):
        route(body)


@pytest.mark.parametrize("name", ["a\nb", "a\x00", "\ud800", "x" * 1025, "a\u2028b", "\u202emodel"])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    """Names reach headers, logs and a cache: no control characters, no lone surrogates, no megabytes."""
    with pytest.raises(InvalidModelName):
        route({"model": name})


@pytest.mark.parametrize("name", ["llama3", "hf.co/user/repo:Q4_K_M", "gpt-4o", "anthropic/claude 4 (preview)", "模型"])
def test_foreign_model_ids_pass(name: str) -> None:
    """External hosts have ids that are no Ollama names."""
    assert route({"model": name}, "/v1/chat/completions").model_text == name


@pytest.mark.parametrize(
    "key",
    [
        "Model",
        "MODEL",
        "mOdEl",
        "\u212aeep_alive",
        "Keep_Alive",
        "\u017ftream",
        "mes\u017fages",
        "option\u017f",
        "NAME",
    ],
)
def test_a_key_that_go_would_fold_to_a_known_one_is_refused(key: str) -> None:
    """Go matches keys without regard to case, Kelvin sign and long s included; Python does not."""
    body = json.dumps({"model": "allowed", key: "forbidden"}, ensure_ascii=False).encode()
    with pytest.raises(AmbiguousKey):
        route(body)
    with pytest.raises(AmbiguousKey):
        route(json.dumps({"model": "allowed", key: "forbidden"}).encode())


@pytest.mark.parametrize("key", ["NUM_CTX", "num_Predict", "Num_ctx"])
def test_options_are_read_as_strictly(key: str) -> None:
    """A context that the router did not see must not reload a model."""
    with pytest.raises(AmbiguousKey):
        route({"model": "m", "options": {"num_ctx": 4096, key: 131072}})


def test_keys_the_router_does_not_read_may_look_as_they_like() -> None:
    """Other servers have other keys; only those that are read here are guarded."""
    assert route({"model": "m", "Foo": 1, "foo": 2, "modelß": 3}).model == "m:latest"


WRONG = {
    "a text": "x",
    "a number": 3.5,
    "true or false": True,
    "a list": [1],
    "an object": {"a": 1},
}


@pytest.mark.parametrize(
    ("path", "key", "right", "words"),
    [
        ("/api/chat", "model", {"a text"}, "Go struct field ChatRequest.model of type string"),
        ("/api/show", "name", {"a text"}, "Go struct field ShowRequest.name of type string"),
        ("/api/chat", "stream", {"true or false"}, "Go struct field ChatRequest.stream of type bool"),
        (
            "/v1/chat/completions",
            "stream",
            {"true or false"},
            "Go struct field ChatCompletionRequest.stream of type bool",
        ),
        ("/api/chat", "options", {"an object"}, "Go struct field ChatRequest.options of type map[string]interface {}"),
        ("/api/chat", "messages", {"a list"}, "Go struct field ChatRequest.messages of type []api.Message"),
        ("/v1/messages", "tools", {"a list"}, "Go struct field MessagesRequest.tools of type []anthropic.Tool"),
        ("/v1/responses", "tools", {"a list"}, "Go struct field ResponsesRequest.tools of type []openai.ResponsesTool"),
        ("/api/generate", "images", {"a list"}, "Go struct field GenerateRequest.images of type []api.ImageData"),
        ("/api/generate", "keep_alive", {"a text", "a number"}, "Unsupported type: "),
        ("/v1/chat/completions", "max_tokens", set(), "max_tokens must be "),
        ("/v1/chat/completions", "max_completion_tokens", set(), "max_completion_tokens must be "),
        ("/v1/messages", "max_tokens", set(), "max_tokens must be "),
        ("/v1/rerank", "model", {"a text"}, "model must be a text, got "),
    ],
)
@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_type_is_refused_in_ollama_s_words(path: str, key: str, right: set[str], words: str, kind: str) -> None:
    """The text names the key and what was expected; of a member or a route that Ollama has not, in ours."""
    body = {"model": "m", key: WRONG[kind]}
    if kind in right:
        assert read(body, path).route.model_text
        return
    with pytest.raises(InvalidBody, match=re.escape(words)):
        read(body, path)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/api/chat", b"{", "unexpected EOF"),
        ("/api/chat", b" \n", "missing request body"),
        ("/v1/messages", b" \n", "EOF"),
        ("/api/show", b"model=x", "invalid character 'm' looking for beginning of value"),
        ("/api/copy", b"5", "json: cannot unmarshal number into Go value of type api.CopyRequest"),
        ("/v1/responses", b'"x"', "json: cannot unmarshal string into Go value of type openai.ResponsesRequest"),
        ("/v1/rerank", b"5", "the body must be a JSON object"),
        ("/api/chat", b'{"model": "m"} x', "invalid JSON: more data after the end of the object"),
        ("/v1/chat/completions", b"{}", "[] is too short - 'messages'"),
        ("/v1/embeddings", b'{"model": null}', "invalid input"),
    ],
)
def test_a_body_that_ollama_could_not_read_is_refused_in_its_words(path: str, body: bytes, words: str) -> None:
    """What only the router refuses has the router's."""
    with pytest.raises(InvalidBody, match=rf"^{re.escape(words)}$"):
        read(body, path)


def test_a_request_that_asks_nothing_may_lack_its_model_too() -> None:
    """Ollama's words for the first of both; with something asked, those for the model."""
    with pytest.raises(ModelNotFound):
        read(b'{"input": "x"}', "/v1/embeddings")
    with pytest.raises(MissingModel):
        read(b'{"messages": []}', "/v1/chat/completions")


@pytest.mark.parametrize("key", ["num_ctx", "num_predict"])
@pytest.mark.parametrize("value", ["x", True, [], {}, 4096.5, 1e400, 10**400, -(10**30)])
def test_an_option_that_is_no_whole_number_is_refused(key: str, value: Any) -> None:
    """A number that no server can mean never reaches a formula."""
    body = json.dumps({"model": "m", "options": {key: value}}).replace("Infinity", "1e400").encode()
    with pytest.raises(InvalidBody, match=rf"options\.{key} must be a whole number"):
        route(body)


def test_null_is_as_good_as_absent() -> None:
    """Clients in typed languages send every key."""
    found = route({"model": "m", "stream": None, "options": None, "messages": None, "tools": None, "keep_alive": None})
    assert found.stream is True
    assert found.num_ctx is None
    assert route({"model": "m", "options": {"num_ctx": None}}).num_ctx is None


@pytest.mark.parametrize(("asked", "meant"), [(8192.0, 8192), (0, 4), (-5, 4), (4, 4)])
def test_num_ctx_is_what_ollama_makes_of_it(asked: float, meant: int) -> None:
    """Whole floats count, and nothing below 4 tokens exists: a negative context must not shrink an estimate."""
    assert route({"model": "m", "options": {"num_ctx": asked}}).num_ctx == meant


def test_options_mean_nothing_on_compatible_routes() -> None:
    """`/v1` cannot set a context; believing one would count a warm model as cold."""
    assert route({"model": "m", "options": {"num_ctx": 99}}, "/v1/chat/completions").num_ctx is None


@pytest.mark.parametrize(
    ("path", "body", "limit"),
    [
        ("/api/chat", {"options": {"num_predict": -1}}, None),
        ("/api/chat", {"max_tokens": 5}, None),
        ("/v1/chat/completions", {"max_tokens": 5}, 5),
        ("/v1/chat/completions", {"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ("/v1/chat/completions", {"max_tokens": 0}, None),
        ("/v1/messages", {"max_tokens": 1024}, 1024),
    ],
)
def test_the_limit_on_the_answer_has_a_name_in_each_dialect(path: str, body: dict[str, Any], limit: int | None) -> None:
    """Without a positive number the length is open."""
    assert route({"model": "m", **body}, path).max_tokens == limit


@pytest.mark.parametrize(
    ("path", "body", "needs"),
    [
        ("/api/chat", {"tools": [{}]}, {"completion", "tools"}),
        ("/api/chat", {"tools": []}, {"completion"}),
        ("/api/generate", {"suffix": "x"}, {"completion", "insert"}),
        ("/v1/completions", {"suffix": "x"}, {"completion"}),
        ("/api/generate", {"images": ["aGk="]}, {"completion", "vision"}),
        ("/api/chat", {"messages": [1, {"images": ["aGk="]}]}, {"completion", "vision"}),
        ("/v1/chat/completions", {"messages": [{"content": [{"type": "image_url"}]}]}, {"completion", "vision"}),
        ("/v1/messages", {"messages": [{"content": [{"type": "text"}, {"type": "image"}]}]}, {"completion", "vision"}),
        ("/v1/messages", {"messages": [{"content": [7, {"type": "text"}]}]}, {"completion"}),
        ("/api/embed", {"input": "x"}, {"embedding"}),
        ("/api/show", {"tools": [{}]}, set()),
    ],
)
def test_what_a_request_needs_of_a_model(path: str, body: dict[str, Any], needs: set[str]) -> None:
    """Capabilities by the names of `/api/show`."""
    assert route({"model": "m", **body}, path).needs == needs


@pytest.mark.parametrize(
    ("path", "body", "unloads"),
    [
        ("/api/generate", {"keep_alive": 0}, True),
        ("/api/chat", {"keep_alive": "0s", "messages": []}, True),
        ("/api/chat", {"keep_alive": 0, "messages": [{"role": "user"}]}, False),
        ("/api/generate", {"keep_alive": 0, "prompt": "hi"}, False),
        ("/api/generate", {"keep_alive": "0ms"}, True),
        ("/api/generate", {"keep_alive": "-0h"}, True),
        ("/api/generate", {"keep_alive": "0.0s"}, True),
        ("/api/generate", {"keep_alive": "5m"}, False),
        ("/api/generate", {}, False),
        ("/api/embed", {"keep_alive": 0}, False),
    ],
)
def test_an_order_to_unload_is_recognised(path: str, body: dict[str, Any], unloads: bool) -> None:
    """It must go to the server that holds the model, not to the best one."""
    assert route({"model": "m", **body}, path).unloads is unloads


@pytest.mark.parametrize(
    ("keep_alive", "keeps"),
    [(0, False), (0.0, False), ("0", False), ("0s", False), ("0h0m", False), ("1ns", False), ("999ms", False),
     (0.5, False), (1, True), ("1s", True), (-1, True), ("-1s", True), ("5m", True), ("1h0s", True), (None, True),
     ("soon", True)],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/embed"])
def test_a_model_that_is_gone_after_the_answer_is_recognised(path: str, keep_alive: object, keeps: bool) -> None:
    """However little time is asked for, and in whichever unit."""
    parsed = route({"model": "m", "prompt": "hi", "input": "hi", "keep_alive": keep_alive}, path)
    assert parsed.keeps_model is keeps


@pytest.mark.parametrize(
    "endpoint", [row for row in ENDPOINTS if row.model_keys and row.body is Body.JSON], ids=lambda row: row.name
)
def test_streaming_is_the_tables_default_unless_said(endpoint: Any) -> None:
    """An absent `stream` means what it means to the server."""
    named = {"model": "m", "source": "m", "destination": "n"}

    def streams(body: dict[str, Any]) -> bool:
        match = match_endpoint(endpoint.methods[0], endpoint.path)
        return parse_request(match, json.dumps(body).encode()).route.stream

    assert streams(named) is bool(endpoint.streams)
    if endpoint.streams is not None:
        assert streams({**named, "stream": not endpoint.streams}) is not endpoint.streams


def managed(name: str, body: dict[str, Any]) -> ParsedRequest:
    """Parse a body as the row of that name would."""
    row = next(row for row in ENDPOINTS if row.name == name)
    return parse_request(match_endpoint(row.methods[0], row.path), json.dumps(body).encode())


NO_NAME = {
    "chat": (MissingModel, "model is required"),
    "show": (MissingModel, "model is required"),
    "embeddings": (MissingModel, "model is required"),
    "generate": (ModelNotFound, "model '' not found"),
    "embed": (ModelNotFound, "model '' not found"),
    "openai_completions": (ModelNotFound, "model '' not found"),
    "pull": (InvalidModelName, "invalid model name"),
    "create": (InvalidModelName, "invalid model name"),
    "delete": (MissingModel, "model is required"),
    "copy": (InvalidModelName, 'source "" is invalid'),
}


@pytest.mark.parametrize("name", NO_NAME)
def test_each_route_misses_a_model_in_its_own_words(name: str) -> None:
    """Ollama's texts and statuses differ between routes; clients know them."""
    kind, text = NO_NAME[name]
    row = next(row for row in ENDPOINTS if row.name == name)
    for body in (b"{}", b"null", b'{"model": null}'):
        with pytest.raises(kind) as caught:
            parse_request(match_endpoint(row.methods[0], row.path), body)
        assert caught.value.message == text


@pytest.mark.parametrize(
    "name", ["generate", "chat", "embed", "show", "openai_chat", "anthropic_messages", "pull", "delete"]
)
@pytest.mark.parametrize("text", [" m:1b", "m:1b\n", "\u00a0m:1b\u2003", "\t m:1b \r\n"])
def test_white_space_around_a_name_does_not_count(name: str, text: str) -> None:
    """Ollama trims it, and so permissions are checked for the model that is served; the body is sent as it came."""
    parsed = managed(name, {"model": text})
    assert (parsed.route.model_text, parsed.route.model) == ("m:1b", "m:1b")
    assert json.loads(parsed.body)["model"] == text


@pytest.mark.parametrize(
    ("name", "key"), [("copy", "source"), ("copy", "destination"), ("create", "model"), ("push", "model")]
)
def test_white_space_counts_where_ollama_does_not_trim(name: str, key: str) -> None:
    """Copy, push and create's new name are read as they are, and refused."""
    names = {"model": "m", "source": "m", "destination": "n", "from": "m"}
    with pytest.raises(InvalidModelName):
        managed(name, {**names, key: " m"})


def test_a_name_of_white_space_is_none() -> None:
    """What Ollama says of it, and a separator of Python's alone is no white space to Go."""
    with pytest.raises(ModelNotFound, match="model ' ' not found"):
        managed("generate", {"model": " "})
    with pytest.raises(MissingModel, match="model is required"):
        managed("chat", {"model": " \n"})
    with pytest.raises(InvalidModelName):
        managed("chat", {"model": "\x1cm"})


@pytest.mark.parametrize("name", ["pull", "push", "create", "copy", "delete"])
def test_routes_that_change_models_take_only_ollama_s_names(name: str) -> None:
    """What cannot be a name reaches no server's disk."""
    with pytest.raises(InvalidModelName):
        managed(name, {"model": "../etc", "source": "../etc", "destination": "n"})


def test_a_copy_names_its_destination() -> None:
    """In the same words as its source."""
    with pytest.raises(InvalidModelName, match='destination "" is invalid'):
        managed("copy", {"source": "m"})


def test_a_new_model_says_what_it_is_made_of() -> None:
    """The digests have to be where it is made, and so has the model it is made from."""
    made = managed("create", {"model": "m", "from": "base", "files": {"a": "sha256:1"}, "adapters": {"b": "sha256:2"}})
    assert made.blobs == {"sha256:1", "sha256:2"}
    assert made.base == "base"
    with pytest.raises(InvalidBody):
        managed("create", {"model": "m", "files": {"a": 7}})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"model": "gpt-oss:120b-cloud"}),
        ("/api/chat", {"model": "GPT-OSS:Cloud"}),
        ("/v1/messages", {"model": "m", "tools": [{"type": "web_search_20250305"}]}),
        ("/v1/responses", {"model": "m", "tools": [{"TYPE": "web_search", "type": "function"}]}),
        ("/api/create", {"model": "m", "from": "x:cloud"}),
        ("/api/create", {"model": "m", "remote_host": "https://ollama.com"}),
    ],
)
def test_what_runs_at_ollama_com_is_seen(path: str, body: dict[str, Any]) -> None:
    """By the name, by the model it is made from, or by a hosted tool: it needs a permission of its own."""
    assert route(body, path).uses_cloud


@pytest.mark.parametrize("name", ["llama3:local", "cloud:7b", "mycloud", "x:cloudy"])
def test_what_only_sounds_like_the_cloud_does_not_need_it(name: str) -> None:
    """The tag decides."""
    assert not route({"model": name}).uses_cloud


def test_an_alias_does_not_loosen_what_was_seen() -> None:
    """A hosted tool stays hosted when the model changes its name."""
    parsed = read({"model": "m", "tools": [{"type": "web_search"}]}, "/v1/responses")
    assert parsed.with_model("other").route.uses_cloud
    assert read({"model": "m"}).with_model("x:cloud").route.uses_cloud


def test_routes_about_the_account_send_an_object_or_nothing() -> None:
    """They have no model; what is sent was read as strictly as anything else."""
    match = match_endpoint("POST", "/api/me")
    assert parse_request(match, b"").body == b""
    assert parse_request(match, b'{"query":"x"}').body == b'{"query":"x"}'
    with pytest.raises(InvalidBody):
        parse_request(match, b"{}{}")


def test_the_path_to_send_is_built_from_the_table() -> None:
    """A parameter is decoded once and may only hold plain characters."""
    digest = "sha256:" + "a" * 64
    match = match_endpoint("POST", "/api/blobs/sha256%3A" + "a" * 64)
    assert parse_request(match, b"").target == f"/api/blobs/{digest}"
    with pytest.raises(InvalidTarget):
        parse_request(match_endpoint("POST", "/api/blobs/..%5C.."), b"")
