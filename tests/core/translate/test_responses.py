"""OpenAI's Responses in their own words: the cases that the laws cannot show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.translate import (
    ConversationRoute,
    HostTraits,
    ReplyOptions,
    StreamEventTooLarge,
    StreamTranslator,
    UntranslatableRequest,
    translate_reply,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.errors import HostFailed
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES
from ollama_router_core.translate.replies import Failed
from support.conversations import IDENTITY, PNG, events_of
from support.openai_host import OPENAI_OWN

RESPONSES = OPENAI_RESPONSES
HI = [{"role": "user", "content": "hi"}]


def ask(
    body: dict[str, Any], source: ConversationRoute, target: ConversationRoute, traits: HostTraits | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The translated body and what was dropped."""
    sent = translate_request(body, source=source, target=target, model="m", traits=traits or HostTraits())
    return json.loads(sent.body), sent.dropped


def refusal(body: dict[str, Any], source: ConversationRoute = RESPONSES) -> str:
    """The text with which a request is refused."""
    target = OPENAI_CHAT if source is RESPONSES else RESPONSES
    with pytest.raises(UntranslatableRequest) as caught:
        ask(body, source, target)
    return str(caught.value)


def answer(body: dict[str, Any], source: ConversationRoute, target: ConversationRoute, **options: Any) -> Any:
    """The translated answer."""
    raw = json.dumps(body).encode()
    return json.loads(
        translate_reply(raw, source=source, target=target, identity=IDENTITY, options=ReplyOptions(**options))
    )


def events(*chunks: dict[str, Any]) -> bytes:
    """A stream of server-sent events."""
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode()


def payloads(stream: bytes) -> list[dict[str, Any]]:
    """The data of a stream of server-sent events."""
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith(b"data: {")]


# --- clients --------------------------------------------------------------------------------------


def test_items_of_the_input_become_messages() -> None:
    """What the assistant thought, said and called in a row is one message; outputs are messages of their own."""
    items = [
        {"role": "developer", "content": "in French"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "let me see", "annotations": [], "logprobs": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call", "call_id": "c2", "name": "now", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
        {"role": "user", "content": "go on"},
    ]
    written, dropped = ask({"instructions": "be brief", "input": items}, RESPONSES, OPENAI_CHAT)
    weather = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
    now = {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    assert written["messages"] == [
        {"role": "system", "content": "be brief\nin French"},
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "let me see", "tool_calls": [weather, now]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "c2", "content": "noon"},
        {"role": "user", "content": "go on"},
    ]
    assert dropped == ("messages.thinking",)


def test_a_text_is_a_whole_input() -> None:
    """The shortest request there is."""
    assert ask({"input": "hi"}, RESPONSES, OLLAMA_CHAT)[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert "nothing to answer" in refusal({"input": ""})


def test_images_in_messages_and_outputs() -> None:
    """By address or in the request itself, as each host takes them."""
    picture = {"type": "input_image", "detail": "high", "image_url": f"data:image/png;base64,{PNG}"}
    call = {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "what is it?"}, picture]},
        call,
        {"type": "function_call_output", "call_id": "c", "output": [{**picture, "detail": "auto"}]},
    ]
    written, dropped = ask({"input": items}, RESPONSES, OLLAMA_CHAT)
    assert [message.get("images") for message in written["messages"]] == [[PNG], None, [PNG]]
    assert dropped == ("input.content.detail",)


def test_files_reach_the_dialects_that_take_them_and_come_back() -> None:
    """In the request itself, for a host that is known to take them."""
    part = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    body = {
        "input": [{"type": "message", "role": "user", "content": [part, {"type": "input_text", "text": "read it"}]}]
    }
    there, _ = ask(body, RESPONSES, OPENAI_CHAT, HostTraits(accepts=OPENAI_OWN))
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}
    assert there["messages"][0]["content"][0] == {"type": "file", "file": file}
    assert ask(there, OPENAI_CHAT, RESPONSES)[0]["input"] == body["input"]
    there, _ = ask(body, RESPONSES, ANTHROPIC_MESSAGES)
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert there["messages"][0]["content"][0] == {"type": "document", "source": source, "title": "a.pdf"}
    assert ask(there, ANTHROPIC_MESSAGES, RESPONSES)[0]["input"] == body["input"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
        ("input", [{"type": "item_reference", "id": "msg_1"}]),
        ("store", True),
    ],
)
def test_what_needs_a_stored_answer_is_refused(field: str, value: Any) -> None:
    """The text says what is missing and what to do, and never what the client sent."""
    text = refusal({"input": "hi", field: value})
    assert field in text
    assert "set store to false" in text or "stores responses" in text
    assert "_1" not in text


def test_nothing_is_stored() -> None:
    """Clients leave `store` to its default and rarely mean it; the answer tells the truth."""
    assert ask({"input": "hi"}, RESPONSES, OPENAI_CHAT)[1] == ()
    assert ask({"input": "hi", "store": False}, RESPONSES, OPENAI_CHAT)[1] == ()
    got = answer({"message": {"content": "x"}}, OLLAMA_CHAT, RESPONSES, echo={"metadata": {"a": "b"}})
    assert (got["store"], got["previous_response_id"], got["metadata"]) == (False, None, {"a": "b"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "custom"}]),
        ("tool_choice", 1),
        ("input", [{"role": "tool", "content": "x"}]),
        ("text", {"format": {"type": "grammar"}}),
        ("text", {"verbosity": "huge"}),
        ("reasoning", {"effort": "huge"}),
        ("reasoning", {"summary": "long"}),
    ],
)
def test_what_cannot_be_carried_over_is_refused_by_its_place(field: str, value: Any) -> None:
    """What runs on OpenAI's own servers, and values that nobody knows."""
    words = {"tools": "tools[0]", "input": "input[0]", "text": "text", "reasoning": "reasoning"}
    assert words.get(field, field) in refusal({"input": "hi", field: value})


SCHEMA = {"type": "object", "properties": {}}


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "function", "name": "f"}])
def test_the_choice_of_a_tool_is_carried_and_comes_back(choice: Any) -> None:
    """A named function stands flat here and nested in chat completions."""
    tool = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    body = {"input": "hi", "tools": [tool], "tool_choice": choice, "parallel_tool_calls": False}
    there, _ = ask(body, RESPONSES, OPENAI_CHAT)
    named = {"type": "function", "function": {"name": "f"}}
    assert there["tool_choice"] == (named if isinstance(choice, dict) else choice)
    assert there["parallel_tool_calls"] is False
    back, _ = ask(there, OPENAI_CHAT, RESPONSES)
    assert (back["tool_choice"], back["tools"], back["parallel_tool_calls"]) == (choice, [tool], False)


def test_structured_text_and_verbosity() -> None:
    """Name, schema and strictness of a format arrive in both of OpenAI's dialects."""
    flat = {"type": "json_schema", "name": "weather", "schema": {"type": "object"}, "strict": True}
    there, _ = ask({"input": "hi", "text": {"format": flat, "verbosity": "low"}}, RESPONSES, OPENAI_CHAT)
    nested = {"name": "weather", "schema": {"type": "object"}, "strict": True}
    assert there["response_format"] == {"type": "json_schema", "json_schema": nested}
    assert there["verbosity"] == "low"
    assert ask(there, OPENAI_CHAT, RESPONSES)[0]["text"] == {"format": flat, "verbosity": "low"}
    assert ask({"input": "hi", "text": {"verbosity": "low"}}, RESPONSES, ANTHROPIC_MESSAGES)[1] == ("verbosity",)
    free = {"input": "hi", "text": {"format": {"type": "json_object"}}}
    assert ask(free, RESPONSES, OLLAMA_CHAT)[0]["format"] == "json"


def test_reasoning_is_asked_for_in_each_hosts_words() -> None:
    """An effort is a level elsewhere; who is shown thoughts elsewhere gets a summary here."""
    assert ask({"input": "hi", "reasoning": {"effort": "high"}}, RESPONSES, OLLAMA_CHAT)[0]["think"] == "high"
    body, _ = ask({"messages": HI, "think": True}, OLLAMA_CHAT, RESPONSES)
    assert body["reasoning"] == {"effort": "medium", "summary": "auto"}
    assert body["include"] == ["reasoning.encrypted_content"]
    body, _ = ask({"messages": HI, "reasoning_effort": "low"}, OPENAI_CHAT, RESPONSES)
    assert body["reasoning"] == {"effort": "low"}
    body, dropped = ask({"messages": HI, "think": False}, OLLAMA_CHAT, RESPONSES)
    assert ("reasoning" in body, dropped) == (False, ("think",))


# --- hosts ----------------------------------------------------------------------------------------


def test_a_host_is_asked_to_store_nothing() -> None:
    """What people write stays where it was sent to."""
    assert ask({"messages": HI}, OPENAI_CHAT, RESPONSES)[0]["store"] is False


def test_a_conversation_becomes_items() -> None:
    """The system prompt stands apart; a function without a word on strictness stays as loose as it was."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, picture]},
        {"role": "assistant", "content": "b", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ]
    body = {"messages": messages, "tools": [{"type": "function", "function": {"name": "f"}}], "max_tokens": 9}
    written, _ = ask(body, OPENAI_CHAT, RESPONSES)
    assert written["instructions"] == "s"
    assert written["max_output_tokens"] == 9
    assert written["tools"][0]["strict"] is False
    assert written["input"] == [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "detail": "auto", "image_url": "https://example.org/cat.png"},
            ],
        },
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ]


def test_options_that_responses_do_not_have() -> None:
    """They are listed as left behind, unless the host is known to take them."""
    options = {"seed": 1, "stop": ["x"], "frequency_penalty": 0.5}
    written, dropped = ask({"messages": HI, **options}, OPENAI_CHAT, RESPONSES)
    assert not set(options) & set(written)
    assert set(dropped) == set(options)
    written, dropped = ask({"messages": HI, **options}, OPENAI_CHAT, RESPONSES, HostTraits(extensions=True))
    assert {key: written[key] for key in options} == options
    assert dropped == ()


def test_an_answer_that_failed_is_an_error_and_not_an_empty_answer() -> None:
    """It comes with status 200; its words may quote the prompt, so they are not repeated."""
    with pytest.raises(HostFailed) as caught:
        answer({"status": "failed", "error": {"code": "x", "message": "canary"}}, RESPONSES, OPENAI_CHAT)
    assert "canary" not in str(caught.value)
    assert caught.value.error.message == "canary", "only the client reads it"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_output_tokens", "length"), ("content_filter", "content_filter"), ("something new", "length")],
)
def test_why_an_answer_is_incomplete(reason: str, finish: str) -> None:
    """Both reasons have a word in chat completions, and come back."""
    message = {"type": "message", "content": [{"type": "output_text", "text": "x"}]}
    body = {"status": "incomplete", "incomplete_details": {"reason": reason}, "output": [message]}
    there = answer(body, RESPONSES, OPENAI_CHAT)
    assert there["choices"][0]["finish_reason"] == finish
    back = answer(there, OPENAI_CHAT, RESPONSES)
    assert back["status"] == "incomplete"
    assert back["incomplete_details"]["reason"] in {"max_output_tokens", "content_filter"}


def test_parts_of_the_usage_are_carried() -> None:
    """Cached and reasoning tokens have other names in chat completions."""
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 17,
    }
    there = answer({"status": "completed", "output": [], "usage": usage}, RESPONSES, OPENAI_CHAT)
    assert there["usage"]["completion_tokens_details"] == {"reasoning_tokens": 5}
    assert answer(there, OPENAI_CHAT, RESPONSES)["usage"] == usage


def test_a_refusal_is_what_the_model_said() -> None:
    """Whole and streamed."""
    output = [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]
    assert answer({"status": "completed", "output": output}, RESPONSES, OLLAMA_CHAT)["message"]["content"] == "no"
    stream = events(
        {"type": "response.refusal.delta", "delta": "no"},
        {"type": "response.completed", "response": {"status": "completed", "output": output}},
    )
    written = StreamTranslator(RESPONSES, OLLAMA_CHAT, identity=IDENTITY).feed(stream)
    assert json.loads(written.splitlines()[0])["message"]["content"] == "no"


# --- streams --------------------------------------------------------------------------------------


def test_the_events_of_a_stream_in_their_order() -> None:
    """Each item and part is begun and ended, numbers rise by one, and the last event repeats the whole."""
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    chunks = [
        {"message": {"thinking": "hm"}},
        {"message": {"content": "a"}},
        {"message": {"content": "b"}},
        {"message": {"tool_calls": [call]}},
        {"message": {"content": ""}, "done": True, "prompt_eval_count": 3, "eval_count": 5},
    ]
    stream = b"".join(json.dumps(chunk).encode() + b"\n" for chunk in chunks)
    written = payloads(StreamTranslator(OLLAMA_CHAT, RESPONSES, identity=IDENTITY).feed(stream))
    assert [event["type"].removeprefix("response.") for event in written] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in written] == list(range(len(written)))
    done = [event["item"] for event in written if event["type"] == "response.output_item.done"]
    last = written[-1]["response"]
    assert last["output"] == done
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (3, 5)
    assert len({item["id"] for item in done}) == 3


def test_arguments_that_come_only_at_the_end_of_a_call() -> None:
    """Not every look-alike sends them in pieces."""
    item = {"type": "function_call", "call_id": "c", "name": "f"}
    stream = events(
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}},
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "arguments": '{"x":1}'}},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    written = StreamTranslator(RESPONSES, OLLAMA_CHAT, identity=IDENTITY).feed(stream)
    called = json.loads(written.splitlines()[0])["message"]["tool_calls"][0]
    assert called["function"]["arguments"] == {"x": 1}


def test_calls_may_take_turns() -> None:
    """The arguments of the first go on after the second has begun; each client gets one call after the other."""
    added = {"type": "response.output_item.added"}
    stream = events(
        {**added, "output_index": 0, "item": {"type": "function_call", "call_id": "a", "name": "f"}},
        {**added, "output_index": 1, "item": {"type": "function_call", "call_id": "b", "name": "g"}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": '{"y":2}'},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": '{"x":1}'},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    lines = StreamTranslator(RESPONSES, OLLAMA_CHAT, identity=IDENTITY).feed(stream).splitlines()
    calls = [json.loads(line)["message"]["tool_calls"][0] for line in lines[:2]]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [("a", {"x": 1}), ("b", {"y": 2})]


def test_parts_of_a_summary_are_paragraphs() -> None:
    """Streamed and whole they read alike."""
    stream = events(
        {"type": "response.reasoning_summary_part.added", "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 0, "delta": "a"},
        {"type": "response.reasoning_summary_part.added", "summary_index": 1},
        {"type": "response.reasoning_summary_text.delta", "summary_index": 1, "delta": "b"},
        {"type": "response.completed", "response": {"status": "completed"}},
    )
    lines = StreamTranslator(RESPONSES, OLLAMA_CHAT, identity=IDENTITY).feed(stream).splitlines()
    assert "".join(json.loads(line)["message"].get("thinking", "") for line in lines) == "a\n\nb"
    summary = [{"type": "summary_text", "text": text} for text in "ab"]
    body = {"status": "completed", "output": [{"type": "reasoning", "summary": summary}]}
    assert answer(body, RESPONSES, OLLAMA_CHAT)["message"]["thinking"] == "a\n\nb"


def test_a_failure_is_told_in_the_words_of_the_dialect() -> None:
    """A response that failed, with a code that OpenAI's clients know and what had been said until then."""
    stream = b'{"message":{"content":"x"}}\n{"error":"out of memory"}\n'
    translator = StreamTranslator(OLLAMA_CHAT, RESPONSES, identity=IDENTITY)
    written = translator.feed(stream)
    last = payloads(written)[-1]
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "server_error", "message": "out of memory"}
    assert isinstance(events_of(written, RESPONSES)[-1], Failed)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "server_error", "message": "boom", "sequence_number": 1},
        {"type": "error", "error": {"type": "server_error", "message": "boom"}},
        {"type": "response.failed", "response": {"status": "failed", "error": {"code": "x", "message": "boom"}}},
    ],
)
def test_every_way_in_which_a_host_says_that_it_failed(event: dict[str, Any]) -> None:
    """As described, as OpenAI's servers write it, and as a response."""
    translator = StreamTranslator(RESPONSES, OLLAMA_CHAT, identity=IDENTITY)
    assert json.loads(translator.feed(events(event))) == {"error": "boom"}


def test_what_is_held_of_an_answer_has_a_cap() -> None:
    """The last event repeats everything, so everything is held until then."""
    translator = StreamTranslator(OLLAMA_CHAT, RESPONSES, identity=IDENTITY, max_event_bytes=500)
    for _ in range(30):
        translator.feed(b'{"message":{"content":"' + b"y" * 50 + b'"}}\n')
    assert isinstance(translator.failure, StreamEventTooLarge)


# --- proofs of thoughts ---------------------------------------------------------------------------


CALL = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
SIGNED = {"type": "thinking", "thinking": "hm", "signature": "sig"}


def test_a_responses_client_keeps_the_signature_of_an_anthropic_host() -> None:
    """A turn with a tool goes on only with signed thoughts: the client sends back what it was given."""
    got = answer({"content": [SIGNED, CALL], "stop_reason": "tool_use"}, ANTHROPIC_MESSAGES, RESPONSES)
    output = {"type": "function_call_output", "call_id": "c", "output": "1"}
    again = {"input": [{"role": "user", "content": "hi"}, *got["output"], output], "reasoning": {"effort": "low"}}
    there, dropped = ask(again, RESPONSES, ANTHROPIC_MESSAGES)
    assert there["messages"][1]["content"] == [SIGNED, CALL]
    assert there["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert dropped == ()
    _, dropped = ask(again, RESPONSES, RESPONSES)
    assert dropped == ("messages.thinking",), "another host could not check it"


def test_an_anthropic_client_keeps_the_reasoning_of_a_responses_host() -> None:
    """Its signature carries what the host needs, and no Anthropic host is shown it."""
    item = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "enc"}
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    got = answer({"status": "completed", "output": [item, call]}, RESPONSES, ANTHROPIC_MESSAGES)
    result = {"type": "tool_result", "tool_use_id": "c", "content": "1"}
    messages = [*HI, {"role": "assistant", "content": got["content"]}, {"role": "user", "content": [result]}]
    there, _ = ask({"max_tokens": 9, "messages": messages}, ANTHROPIC_MESSAGES, RESPONSES)
    assert there["input"][1] == item
    elsewhere, dropped = ask({"max_tokens": 9, "messages": messages}, ANTHROPIC_MESSAGES, ANTHROPIC_MESSAGES)
    assert [block["type"] for block in elsewhere["messages"][1]["content"]] == ["tool_use"]
    assert dropped == ("messages.thinking",)


def test_proofs_are_streamed_too() -> None:
    """Anthropic sends its signature as the last delta of a block, Responses with the end of an item."""
    stream = events(
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    )
    written = StreamTranslator(ANTHROPIC_MESSAGES, RESPONSES, identity=IDENTITY).feed(stream)
    (item,) = payloads(written)[-1]["response"]["output"]
    assert (item["summary"][0]["text"], item["encrypted_content"]) == ("hm", "anthropic:sig")
    back = payloads(StreamTranslator(RESPONSES, ANTHROPIC_MESSAGES, identity=IDENTITY).feed(written))
    deltas = [event["delta"] for event in back if event["type"] == "content_block_delta"]
    assert deltas == [
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "sig"},
    ]
