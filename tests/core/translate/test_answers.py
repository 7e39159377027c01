"""Whole answers, embeddings and errors in the client's words: the cases that the laws cannot show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.translate import (
    ReplyOptions,
    Route,
    UntranslatableReply,
    UntranslatableRequest,
    translate_error,
    translate_reply,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_GENERATE
from ollama_router_core.translate.openai.codec import OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS
from support.conversations import IDENTITY

OLLAMA, GENERATE = OLLAMA_CHAT, OLLAMA_GENERATE
OPENAI, COMPLETIONS = OPENAI_CHAT, OPENAI_COMPLETIONS
ANTHROPIC = ANTHROPIC_MESSAGES
EMBED, EMBEDDINGS = OLLAMA_EMBED, OLLAMA_EMBEDDINGS


def answer(body: dict[str, Any], source: Route, target: Route, elapsed_ns: int = 0, **options: bool) -> Any:
    """The translated answer."""
    written = translate_reply(
        json.dumps(body).encode(),
        source=source,
        target=target,
        identity=IDENTITY,
        options=ReplyOptions(**options),
        elapsed_ns=elapsed_ns,
    )
    return json.loads(written)


def openai_answer(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "o", "choices": [choice], **more}


def test_an_ollama_client_gets_what_ollama_would_have_said() -> None:
    """Name, time, counts and durations, all in Ollama's units; the durations are the router's own measure."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    written = answer(openai_answer({"content": "hi"}, usage=usage), OPENAI, OLLAMA, elapsed_ns=2_000_000_001)
    assert written == {
        "model": "gpt-4",
        "created_at": "2023-11-14T22:13:22.123456790Z",
        "message": {"role": "assistant", "content": "hi"},
        "done_reason": "stop",
        "done": True,
        "total_duration": 2_000_000_001,
        "prompt_eval_count": 3,
        "eval_count": 5,
    }


def test_a_generate_client_gets_a_response() -> None:
    """The text stands where `/api/generate` has it, thoughts beside it."""
    written = answer(openai_answer({"content": "hi", "reasoning_content": "hm"}, "length"), OPENAI, GENERATE)
    assert (written["response"], written["thinking"], written["done_reason"]) == ("hi", "hm", "length")


def test_an_openai_client_gets_a_chat_completion() -> None:
    """Ids and times come from the identity; calls without ids get one that is unique to the answer."""
    call = {"function": {"name": "f", "arguments": {"a": [1]}}}
    message = {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call, call]}
    body = {"model": "llama", "message": message, "done": True, "done_reason": "stop", "eval_count": 2}
    written = answer(body, OLLAMA, OPENAI)
    function = {"name": "f", "arguments": '{"a":[1]}'}
    assert written["choices"][0] == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": None,
            "reasoning": "hm",
            "tool_calls": [
                {"id": "call_req-1_0", "type": "function", "function": function},
                {"id": "call_req-1_1", "type": "function", "function": function},
            ],
        },
        "finish_reason": "tool_calls",
    }
    assert (written["id"], written["created"], written["model"]) == ("chatcmpl-req-1", 1_700_000_000, "gpt-4")
    assert written["usage"] == {"prompt_tokens": 0, "completion_tokens": 2, "total_tokens": 2}


def test_the_cached_part_of_a_prompt_is_counted_as_each_dialect_counts_it() -> None:
    """Anthropic counts it apart, OpenAI as a part, Ollama not at all."""
    usage = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 5}
    body = {"content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn", "usage": usage}
    written = answer(body, ANTHROPIC, OPENAI)
    assert written["usage"]["prompt_tokens"] == 105
    assert written["usage"]["prompt_tokens_details"] == {"cached_tokens": 90, "cache_write_tokens": 5}
    assert answer(written, OPENAI, ANTHROPIC)["usage"] == usage
    assert answer(body, ANTHROPIC, OLLAMA)["prompt_eval_count"] == 105


@pytest.mark.parametrize(
    ("anthropic", "openai", "ollama"),
    [
        ("end_turn", "stop", "stop"),
        ("stop_sequence", "stop", "stop"),
        ("max_tokens", "length", "length"),
        ("model_context_window_exceeded", "length", "length"),
        ("refusal", "content_filter", "content_filter"),
        ("something new", "stop", "stop"),
    ],
)
def test_reasons_to_stop(anthropic, openai, ollama) -> None:
    """Each dialect has a word for each reason; what nobody knows yet is a stop."""
    body = {"content": [{"type": "text", "text": "x"}], "stop_reason": anthropic}
    assert answer(body, ANTHROPIC, OPENAI)["choices"][0]["finish_reason"] == openai
    assert answer(body, ANTHROPIC, OLLAMA)["done_reason"] == ollama


def test_blocks_nobody_else_can_read_are_left_out() -> None:
    """Redacted thoughts and the work of Anthropic's own tools."""
    content = [{"type": "redacted_thinking", "data": "x"}, {"type": "server_tool_use"}, {"type": "text", "text": "y"}]
    assert answer({"content": content}, ANTHROPIC, OPENAI)["choices"][0]["message"]["content"] == "y"


@pytest.mark.parametrize("target", [GENERATE, COMPLETIONS])
def test_a_call_cannot_be_said_where_one_prompt_gets_one_text(target) -> None:
    """Leaving it out would look like an empty answer."""
    body = {"content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
    with pytest.raises(UntranslatableReply):
        answer(body, ANTHROPIC, target)


def test_numbers_that_are_none_do_not_spoil_an_answer() -> None:
    """Python servers write NaN into log probabilities."""
    body = b'{"choices":[{"message":{"content":"x"},"logprobs":{"content":[{"logprob":-Infinity}]}}]}'
    written = translate_reply(body, source=OPENAI, target=OLLAMA, identity=IDENTITY)
    assert json.loads(written)["message"]["content"] == "x"


# --- embeddings -----------------------------------------------------------------------------------


def test_embeddings_in_all_three_forms() -> None:
    """Requests and answers, one text and several."""
    sent = translate_request({"input": ["a", "b"], "dimensions": 2}, source=EMBED, target=OPENAI_EMBEDDINGS, model="m")
    assert json.loads(sent.body) == {"model": "m", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float"}
    data = [{"index": 1, "embedding": [2.0, 0.5]}, {"index": 0, "embedding": [1.0, -1.0]}]
    written = answer({"data": data, "usage": {"prompt_tokens": 4}}, OPENAI_EMBEDDINGS, EMBED, elapsed_ns=9)
    assert written == {
        "model": "gpt-4",
        "embeddings": [[1.0, -1.0], [2.0, 0.5]],
        "total_duration": 9,
        "prompt_eval_count": 4,
    }
    assert answer({"data": data[:1]}, OPENAI_EMBEDDINGS, EMBEDDINGS) == {"embedding": [2.0, 0.5]}


def test_vectors_in_base64_are_written_and_read() -> None:
    """OpenAI's own clients ask for them unless told otherwise."""
    body = {"input": "a", "encoding_format": "base64"}
    sent = translate_request(body, source=OPENAI_EMBEDDINGS, target=EMBED, model="m")
    assert sent.reply_options == ReplyOptions(base64_vectors=True)
    there = answer({"embeddings": [[0.5, -2.0]]}, EMBED, OPENAI_EMBEDDINGS, base64_vectors=True)
    assert there["data"][0]["embedding"] == "AAAAPwAAAMA="
    assert answer(there, OPENAI_EMBEDDINGS, EMBED)["embeddings"] == [[0.5, -2.0]]


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({"input": [[1, 2]]}, EMBED),
        ({"input": []}, EMBED),
        ({"input": ["a", "b"]}, EMBEDDINGS),
        ({"input": "a"}, OPENAI),
    ],
)
def test_embeddings_that_cannot_be_asked_for(body, target) -> None:
    """Tokens, nothing, several texts for a route that takes one, a chat."""
    with pytest.raises(UntranslatableRequest):
        translate_request(body, source=OPENAI_EMBEDDINGS, target=target, model="m")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": [{"embedding": [1, True]}]},
        {"data": [{"embedding": "AAA"}]},
        {"data": [{"embedding": "AAAAAAA="}]},
        {"data": [{}]},
    ],
)
def test_vectors_that_are_none(body) -> None:
    """Half a vector would be worse than none."""
    with pytest.raises(UntranslatableReply):
        answer(body, OPENAI_EMBEDDINGS, EMBED)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":"no such model"}',
        b'{"error":{"message":"no such model","type":"invalid_request_error","code":"x"}}',
        b'{"type":"error","error":{"type":"not_found_error","message":"no such model"}}',
        b'{"detail":"no such model"}',
        b"no such model\n",
    ],
)
def test_an_error_of_any_shape_reaches_every_client_in_its_own(body) -> None:
    """Status and text stay, the shape is the client's."""
    ollama = translate_error(404, body, target=OLLAMA, request_id="r")
    assert (ollama.status, json.loads(ollama.body)) == (404, {"error": "no such model"})
    openai = json.loads(translate_error(404, body, target=OPENAI, request_id="r").body)
    assert openai["error"]["message"] == "no such model"
    anthropic = json.loads(translate_error(404, body, target=ANTHROPIC, request_id="r").body)
    assert anthropic["error"] == {"type": "not_found_error", "message": "no such model"}
    assert anthropic["type"] == "error"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_routers_problem_and_stays_unseen(status) -> None:
    """The client's own credential was fine; a provider's text may hold a part of the key."""
    body = b'{"error":{"message":"Incorrect API key provided: sk-canary1234","code":"sk-canary1234"}}'
    error = translate_error(status, body, target=OPENAI, request_id="r")
    assert error.status == 502
    assert b"canary" not in error.body


def test_overloaded_is_503_to_everyone() -> None:
    """529 is Anthropic's alone."""
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}'
    assert translate_error(529, body, target=OLLAMA, request_id="r").status == 503


def test_a_page_of_html_is_not_an_error_text() -> None:
    """A gateway's page tells a client nothing."""
    error = translate_error(502, b"<html><body>Bad gateway</body></html>", target=OLLAMA, request_id="r")
    assert json.loads(error.body) == {"error": "the server answered 502 without a text"}
