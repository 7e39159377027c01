"""Streams in the client's words: the cases that the laws cannot show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.errors import UpstreamDisconnected
from ollama_router_core.translate import (
    ReplyOptions,
    Route,
    StreamEventTooLarge,
    StreamTranslator,
    codec_of,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_GENERATE
from ollama_router_core.translate.openai.codec import OPENAI_CHAT, OPENAI_COMPLETIONS
from ollama_router_core.translate.replies import Failed, Finished, FinishReason, Usage
from support.conversations import IDENTITY, assembled, events_of, said

OLLAMA, GENERATE = OLLAMA_CHAT, OLLAMA_GENERATE
OPENAI, COMPLETIONS = OPENAI_CHAT, OPENAI_COMPLETIONS
ANTHROPIC = ANTHROPIC_MESSAGES


def lines(*chunks: dict[str, Any]) -> bytes:
    """A stream of Ollama."""
    return b"".join(json.dumps(chunk).encode() + b"\n" for chunk in chunks)


def events(*chunks: dict[str, Any] | str) -> bytes:
    """A stream of server-sent events."""
    texts = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def delta(fields: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """A chunk of OpenAI."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(index: int | None, call_id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    """A chunk of OpenAI with a piece of a tool call."""
    entry: dict[str, Any] = {"function": {"name": name, "arguments": arguments}, "id": call_id}
    return delta({"tool_calls": [entry if index is None else {**entry, "index": index}]})


def translator(source: Route, target: Route, **more: Any) -> StreamTranslator:
    """A translator with the tests' identity."""
    return StreamTranslator(source, target, identity=IDENTITY, **more)


def client_sees(stream: bytes, source: Route, target: Route) -> dict[str, Any]:
    """The whole answer a client ends up with."""
    translation = translator(source, target, options=ReplyOptions(include_usage=True))
    written = translation.feed(stream) + translation.finish()
    assert translation.failure is None
    return said(assembled(events_of(written, target)))


def test_each_dialect_names_its_media_type() -> None:
    """The relay sets the header from it."""
    assert codec_of(OLLAMA.family).framing.media_type == "application/x-ndjson"
    assert codec_of(ANTHROPIC.family).framing.media_type == "text/event-stream"


def test_what_has_come_is_written_at_once() -> None:
    """A token is never held back for the next one."""
    translation = translator(OPENAI, OLLAMA)
    written = json.loads(translation.feed(events(delta({"content": "to"}))))
    assert written["message"] == {"role": "assistant", "content": "to"}
    assert written["done"] is False


def test_the_usage_chunk_is_for_those_who_asked() -> None:
    """OpenAI's clients do not expect a chunk without choices otherwise."""
    stream = lines({"message": {"content": "x"}}, {"message": {"content": ""}, "done": True, "eval_count": 3})
    for wanted in (True, False):
        translation = translator(OLLAMA, OPENAI, options=ReplyOptions(include_usage=wanted))
        written = translation.feed(stream)
        assert (b'"completion_tokens":3' in written) is wanted
        assert written.endswith(b"data: [DONE]\n\n")


def test_the_last_chunk_of_ollama_has_the_routers_own_durations() -> None:
    """Until the first piece of the answer, from there on, and all; the host said nothing of the kind."""
    translation = translator(OPENAI, OLLAMA)
    translation.feed(events(delta({"role": "assistant"})), elapsed_ns=10)
    translation.feed(events(delta({"content": "x"})), elapsed_ns=30)
    translation.feed(events(delta({"content": "y"})), elapsed_ns=60)
    last = json.loads(translation.feed(events(delta({}, "stop"), "[DONE]"), elapsed_ns=100))
    durations = {key: value for key, value in last.items() if key.endswith("_duration")}
    assert durations == {"total_duration": 100, "prompt_eval_duration": 30, "eval_duration": 70}


def test_durations_of_an_ollama_server_are_its_own() -> None:
    """What the server measured is better than what the router saw."""
    stream = lines({"message": {"content": "x"}, "done": True, "total_duration": 7, "load_duration": 2})
    last = json.loads(translator(OLLAMA, GENERATE).feed(stream, elapsed_ns=100).splitlines()[-1])
    assert (last["total_duration"], last["load_duration"]) == (7, 2)


@pytest.mark.parametrize(
    "pieces",
    [
        [call(0, "a", "f", '{"x":'), call(0, "", "", "1}"), call(1, "b", "g", "{}")],
        [call(0, "a", "f", '{"x":1}'), call(0, "b", "g", "{}")],
        [call(None, "a", "f", '{"x":'), call(None, "", "", "1}"), call(None, "b", "g")],
        [call(0, "a", "f", '{"x":'), call(0, "a", "f", "1}"), call(1, "b", "g")],
    ],
)
@pytest.mark.parametrize("target", [OLLAMA, ANTHROPIC])
def test_tool_calls_of_every_look_alike(pieces, target) -> None:
    """As OpenAI sends them, all at index 0, without an index, with the id in every piece."""
    stream = events(*pieces, delta({}, "tool_calls"), "[DONE]")
    seen = client_sees(stream, OPENAI, target)
    assert seen["calls"] == [("a", "f", {"x": 1}), ("b", "g", {})]
    assert seen["finish"] is FinishReason.TOOL_CALLS


def test_a_call_without_arguments_is_an_empty_object_to_openai_clients() -> None:
    """They parse what they collected, and nothing is not JSON."""
    stream = events(
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "a", "name": "f"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
        {"type": "message_stop"},
    )
    written = translator(ANTHROPIC, OPENAI).feed(stream)
    assert b'"arguments":"{}"' in written


def test_blocks_of_anthropic_follow_one_another() -> None:
    """Each is begun and ended before the next, with rising numbers."""
    stream = lines(
        {"message": {"thinking": "hm"}},
        {"message": {"content": "a"}},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}, {"function": {"name": "g"}}]}},
        {"message": {"content": "b"}},
        {"done": True},
    )
    written = translator(OLLAMA, ANTHROPIC).feed(stream)
    payloads = [json.loads(line[6:]) for line in written.splitlines() if line.startswith(b"data: ")]
    blocks = [(value["type"], value["index"]) for value in payloads if "index" in value]
    edges = [edge for edge in blocks if edge[0] != "content_block_delta"]
    assert edges == [(f"content_block_{edge}", number) for number in range(5) for edge in ("start", "stop")]
    assert payloads[0]["type"] == "message_start"
    assert payloads[-1]["type"] == "message_stop"


def test_the_counts_of_anthropic_are_running_totals() -> None:
    """The prompt is counted at the start, the answer at the end, and a later count replaces an earlier one."""
    stream = events(
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "ping"},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    assert client_sees(stream, ANTHROPIC, OPENAI)["usage"] == Usage(input_tokens=5, output_tokens=9)


def test_a_finish_reason_is_enough_of_an_end() -> None:
    """Not every look-alike says `[DONE]`."""
    assert client_sees(events(delta({"content": "x"}, "stop")), OPENAI, OLLAMA)["text"] == "x"


def test_an_answer_that_begins_with_its_end_is_still_begun() -> None:
    """Anthropic's clients demand the beginning."""
    written = translator(OPENAI, ANTHROPIC).feed(b"data: [DONE]\n\n")
    assert written.startswith(b"event: message_start\n")
    assert isinstance(events_of(written, ANTHROPIC)[-1], Finished)


@pytest.mark.parametrize(
    ("source", "stream"),
    [
        (OLLAMA, lines({"message": {"content": "x"}}, {"error": "out of memory"})),
        (OPENAI, events(delta({"content": "x"}), {"error": {"message": "out of memory"}})),
        (ANTHROPIC, events({"type": "error", "error": {"type": "api_error", "message": "out of memory"}})),
    ],
)
@pytest.mark.parametrize("target", [OLLAMA, OPENAI, ANTHROPIC])
def test_an_error_inside_a_stream_reaches_the_client_as_its_own(source, stream, target) -> None:
    """And nothing after it; the relay learns it from `failure`."""
    translation = translator(source, target)
    written = translation.feed(stream + stream)
    last = events_of(written, target)[-1]
    assert isinstance(last, Failed)
    assert last.error.message == "out of memory"
    assert "memory" not in str(translation.failure), "a server may quote the prompt, and this text may be logged"
    assert translation.feed(stream) == translation.finish() == b""


def test_a_lost_connection_is_told_to_the_client() -> None:
    """The relay knows that the host is gone, the translator knows how to say it."""
    translation = translator(ANTHROPIC, OPENAI)
    written = translation.abort(UpstreamDisconnected("the server went away"))
    assert json.loads(written.removeprefix(b"data: "))["error"]["message"] == "the server went away"
    assert translation.failure is not None
    assert translation.abort(UpstreamDisconnected("again")) == b""


def test_what_is_held_has_a_cap() -> None:
    """Of one line, and of the arguments of a call, which Ollama's clients get whole."""
    translation = translator(OLLAMA, OPENAI, max_event_bytes=100)
    translation.feed(b"x" * 200)
    assert isinstance(translation.failure, StreamEventTooLarge)
    translation = translator(OPENAI, OLLAMA, max_event_bytes=200)
    translation.feed(events(call(0, "a", "f", '{"x":"'), *(call(0, "", "", "yyyyyyyyyy") for _ in range(30))))
    assert isinstance(translation.failure, StreamEventTooLarge)


def test_completions_stream_text() -> None:
    """The older route has `text` in its choices and no thoughts."""
    stream = lines({"response": "a", "thinking": "hm"}, {"response": "b", "done": True, "done_reason": "length"})
    written = translator(GENERATE, COMPLETIONS).feed(stream)
    payloads = [json.loads(line[6:]) for line in written.splitlines() if line[:7] == b"data: {"]
    assert [value["choices"][0]["text"] for value in payloads] == ["a", "b", ""]
    assert payloads[-1]["choices"][0]["finish_reason"] == "length"


def test_what_is_nested_too_deeply_ends_the_stream() -> None:
    """A thousand brackets must not exhaust the stack."""
    for payload in (b"[" * 5000, b'{"message":{"tool_calls":' + b'{"a":' * 5000 + b"1" + b"}" * 5002):
        translation = translator(OLLAMA, OPENAI)
        translation.feed(payload + b"\n")
        assert translation.failure is not None


def test_durations_of_llama_cpp_are_its_own() -> None:
    """It says them in milliseconds beside the usage."""
    timings = {"prompt_ms": 119.064, "predicted_ms": 572.774}
    stream = events(delta({"content": "x"}, "length"), {"choices": [], "timings": timings}, "[DONE]")
    last = json.loads(translator(OPENAI, OLLAMA).feed(stream, elapsed_ns=5).splitlines()[-1])
    durations = [last[f"{kind}_duration"] for kind in ("total", "prompt_eval", "eval")]
    assert durations == [691_838_000, 119_064_000, 572_774_000]
