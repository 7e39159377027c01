"""Answers as servers really give them: each kind was reported about some gateway, and none may cost a word of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.errors import UpstreamIncomplete
from ollama_router_core.translate import (
    ConversationRoute,
    ReplyOptions,
    StreamTranslator,
    translate_error,
    translate_reply,
)
from ollama_router_core.translate.answer_order import events_of_reply
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES as ANTHROPIC
from ollama_router_core.translate.conversation import Text, Thinking, ToolCall
from ollama_router_core.translate.errors import HostFailed
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT as OLLAMA
from ollama_router_core.translate.openai.codec import OPENAI_CHAT as OPENAI
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES as RESPONSES
from ollama_router_core.translate.replies import Failed, Finished, FinishReason, Reply, Started, TextDelta
from support.conversations import CHATS, IDENTITY, answer_of, assembled, events_of, reply_of, said, stream_of

each_client = pytest.mark.parametrize("target", CHATS, ids=repr)


def whole(body: Any, source: ConversationRoute, target: ConversationRoute) -> Reply:
    """What the client understands of a whole answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reply_of(translate_reply(raw, source=source, target=target, identity=IDENTITY), target)


def streamed(stream: bytes, source: ConversationRoute, target: ConversationRoute) -> Reply:
    """What the client understands of a stream that must end well."""
    return assembled(events_of(written(stream, source, target), target))


def written(stream: bytes, source: ConversationRoute, target: ConversationRoute) -> bytes:
    """The client's stream."""
    translator = StreamTranslator(source, target, identity=IDENTITY, options=ReplyOptions(include_usage=True))
    return translator.feed(stream) + translator.finish()


def chat(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}], **more}


def chunks(*deltas: dict[str, Any], finish: str | None = "stop", end: bytes = b"data: [DONE]\n\n") -> bytes:
    """A stream of a chat completion."""
    values = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    values.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values) + end


def calls_of(reply: Reply) -> list[tuple[str, str]]:
    """Names and arguments."""
    return [(part.name, part.arguments) for part in reply.parts if isinstance(part, ToolCall)]


# --- content as a list ----------------------------------------------------------------------------

MISTRAL = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
    {"type": "text", "text": "four"},
    {"type": "reference", "reference_ids": [1]},
]


@each_client
@pytest.mark.parametrize(
    ("content", "thought", "text"),
    [
        (MISTRAL, "hm", "four"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "", "ab"),
        ([{"type": "thinking", "thinking": "hm"}, "four"], "hm", "four"),
        ([{"type": "output_text", "text": "four", "annotations": []}], "", "four"),
        ([{"type": "refusal", "refusal": "no"}], "", "no"),
    ],
)
def test_a_content_of_parts_is_read(content, thought, text, target) -> None:
    """Mistral's thoughts and texts are parts of a list, whole and in each delta."""
    for reply in (
        whole(chat({"content": content}), OPENAI, target),
        streamed(chunks({"content": content}), OPENAI, target),
    ):
        assert said(reply)["text"] == text
        assert said(reply)["thinking"] == thought


# --- calls ----------------------------------------------------------------------------------------


@each_client
def test_arguments_that_are_an_object_are_taken_as_one(target) -> None:
    """llama.cpp and some proxies do not write them as a text."""
    entry = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": {"path": "/srv"}}}
    message = {"content": None, "tool_calls": [entry]}
    for reply in (whole(chat(message, "tool_calls"), OPENAI, target), streamed(chunks(message), OPENAI, target)):
        assert [(name, json.loads(text)) for name, text in calls_of(reply)] == [("f", {"path": "/srv"})]
        assert reply.finish is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("source", [ANTHROPIC, OLLAMA, RESPONSES], ids=repr)
@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
def test_arguments_in_the_other_form_are_read_in_every_dialect(source, arguments) -> None:
    """A text where the dialect has an object, and an object where it has a text."""
    body = {
        ANTHROPIC: {"content": [{"type": "tool_use", "id": "a", "name": "f", "input": arguments}]},
        OLLAMA: {"message": {"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}, "done": True},
        RESPONSES: {"output": [{"type": "function_call", "call_id": "a", "name": "f", "arguments": arguments}]},
    }[source]
    assert [(name, json.loads(text)) for name, text in calls_of(whole(body, source, OPENAI))] == [("f", {"a": 1})]


CUT = [
    {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
    {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"path": "/sr'}},
]


@each_client
@pytest.mark.parametrize("finish", ["length", "tool_calls"])
def test_a_cut_call_costs_neither_the_text_nor_the_whole_call(finish, target) -> None:
    """The half is passed in the form the dialect has, and where that is an object the end says that it was cut."""
    message = {"content": "on it", "tool_calls": CUT}
    replies = (
        whole(chat(message, finish), OPENAI, target),
        streamed(chunks({"content": "on it"}, {"tool_calls": CUT}, finish=finish), OPENAI, target),
    )
    for reply in replies:
        assert "".join(part.text for part in reply.parts if isinstance(part, Text)) == "on it"
        (first, second) = calls_of(reply)
        assert (first[0], json.loads(first[1])) == ("f", {"x": 1})
        assert second[0] == "g"
        assert '"/sr' in second[1]
        if finish == "length" or target in {ANTHROPIC, OLLAMA}:
            assert reply.finish is FinishReason.LENGTH
        else:
            assert reply.finish is FinishReason.TOOL_CALLS


def piece(index: int | None = None, call_id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    """A delta of one call; empty values are left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value}
    entry: dict[str, Any] = {"function": function}
    if index is not None:
        entry["index"] = index
    if call_id:
        entry["id"] = call_id
    return {"tool_calls": [entry]}


F, G = ("f", '{"x":1}'), ("g", '{"y":2}')


@each_client
@pytest.mark.parametrize(
    ("deltas", "calls"),
    [
        pytest.param(
            [
                piece(0, "a", "f"),
                piece(1, "b", "g"),
                piece(0, arguments='{"x":'),
                piece(1, arguments='{"y":2}'),
                piece(0, arguments="1}"),
            ],
            [F, G],
            id="interleaved",
        ),
        pytest.param([piece(0, "a"), piece(0, name="f"), piece(0, arguments=F[1])], [F], id="name later"),
        pytest.param([piece(0, name="f"), piece(0, "a", arguments=F[1])], [F], id="id later"),
        pytest.param(
            [piece(0, name="f", arguments='{"x":'), piece(0, "a", arguments="1}")], [F], id="id after arguments"
        ),
        pytest.param(
            [piece(0, "a", arguments='{"x":1'), piece(0, name="f", arguments="}")], [F], id="name after arguments"
        ),
        pytest.param(
            [piece(0, "a", "f", '{"x":'), {"content": "and"}, piece(0, arguments="1}")], [F], id="text between"
        ),
        pytest.param([piece(0, "", "f", F[1]), piece(0, "", "g", G[1])], [F, G], id="all on 0, no ids"),
        pytest.param(
            [piece(0, "", "f", F[1]), piece(0, "", "f", '{"x":2}')], [F, ("f", '{"x":2}')], id="same name twice"
        ),
        pytest.param([piece(0, "a", "f", F[1]), piece(0, "b", "g", G[1])], [F, G], id="all on 0, with ids"),
        pytest.param(
            [piece(0, "a", "f"), piece(0, "a", "f", '{"x":'), piece(0, "a", "f", "1}")], [F], id="name and id repeated"
        ),
        pytest.param(
            [piece(0, "a", "f"), piece(0, "a2", "", '{"x":'), piece(0, "a3", "", "1}")], [F], id="new id each time"
        ),
        pytest.param(
            [piece(None, "a", "f", '{"x":'), piece(None, "", "", "1}"), piece(None, "b", "g", G[1])],
            [F, G],
            id="no index",
        ),
        pytest.param([piece(0, "a", "f", F[1]), piece(1, "a", "g", G[1])], [F, G], id="one id for two calls"),
        pytest.param([piece(1, "a", "f", F[1]), piece(2, "b", "g", G[1])], [F, G], id="indexes from 1"),
        pytest.param([piece(0, "a", "f"), piece(1, "b", "g", G[1])], [("f", "{}"), G], id="no arguments"),
        pytest.param(
            [{"tool_calls": [piece(0, "a", "f", F[1])["tool_calls"][0], piece(1, "b", "g", G[1])["tool_calls"][0]]}],
            [F, G],
            id="in one delta",
        ),
        pytest.param(
            [{"function_call": {"name": "f", "arguments": '{"x":'}}, {"function_call": {"arguments": "1}"}}],
            [F],
            id="of 2023",
        ),
    ],
)
def test_the_pieces_of_calls_are_put_together_as_servers_mean_them(deltas, calls, target) -> None:
    """By index, id and name, whichever of them a server gives and whenever."""
    reply = streamed(chunks(*deltas, finish="tool_calls"), OPENAI, target)
    assert [(name, json.loads(text or "{}")) for name, text in calls_of(reply)] == [
        (name, json.loads(text)) for name, text in calls
    ]
    ids = [part.id for part in reply.parts if isinstance(part, ToolCall)]
    assert len(set(ids)) == len(ids) == len(calls), "results are told apart by them"
    assert "".join(part.text for part in reply.parts if isinstance(part, Text)) in {"", "and"}


def test_a_call_is_passed_on_while_it_comes() -> None:
    """Its first piece is not held until the last: a file of a thousand lines may be in it."""
    translator = StreamTranslator(OPENAI, ANTHROPIC, identity=IDENTITY)
    begun = translator.feed(chunks(piece(0, "a", "f", '{"x":'), end=b"").split(b"\n\n")[0] + b"\n\n")
    assert b"input_json_delta" in begun


# --- errors that come as answers --------------------------------------------------------------------


@each_client
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}, 429, "free-models-per-day"),
        (
            {
                "error": {
                    "code": 403,
                    "message": "Your chosen model requires moderation and your input was flagged",
                    "metadata": {"reasons": ["violence"], "flagged_input": "canary"},
                }
            },
            403,
            "was flagged",
        ),
        (
            {
                "error": {
                    "code": 502,
                    "message": "Provider returned error",
                    "metadata": {"raw": '{"error":{"message":"prompt too long"}}', "provider_name": "X"},
                }
            },
            502,
            "prompt too long",
        ),
        (
            {"object": "error", "message": "maximum context length is 4096", "type": "BadRequestError", "code": 400},
            400,
            "4096",
        ),
        ({"error": "model is overloaded", "error_type": "overloaded_error"}, 503, "overloaded"),
        (
            {
                "detail": [
                    {"loc": ["body", "messages", 0], "msg": "field required", "type": "missing", "input": "canary"}
                ]
            },
            502,
            "body.messages.0: field required",
        ),
        (chat({"content": "half"}, "error"), 502, "error"),
        (
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"content": "ha"},
                        "finish_reason": "error",
                        "error": {"code": 504, "message": "upstream timed out"},
                    }
                ]
            },
            504,
            "timed out",
        ),
        (chat({"content": "half"}, "network_error"), 502, "network_error"),
    ],
)
def test_an_error_with_status_200_is_an_error(body, status, text, target) -> None:
    """The provider's status and words, whole and in a stream; nothing else of what it quotes."""
    with pytest.raises(HostFailed) as caught:
        whole(body, OPENAI, target)
    assert (caught.value.error.status, text in caught.value.error.message) == (status, True)
    assert "canary" not in caught.value.error.message
    events = events_of(written(b"data: " + json.dumps(body).encode() + b"\n\n", OPENAI, target), target)
    assert isinstance(events[-1], Failed)
    assert text in events[-1].error.message


def test_an_error_field_of_llama_cpp_is_an_error() -> None:
    """Until 2025 it was no data but a field of its own."""
    stream = b'error: {"code":400,"message":"the prompt is too long","type":"invalid_request_error"}\n\n'
    last = events_of(written(stream, OPENAI, ANTHROPIC), ANTHROPIC)[-1]
    assert isinstance(last, Failed)
    assert "too long" in last.error.message


# --- a stream for an answer, an answer for a stream --------------------------------------------------

REPLY = Reply(
    parts=(Thinking("hm"), Text("on it"), ToolCall("a", "f", '{"x": 1}')),
    finish=FinishReason.TOOL_CALLS,
)


def the_same(reply: Reply) -> bool:
    """Whether it is `REPLY`, but for the counts."""
    return {**said(reply), "usage": None} == {**said(REPLY), "usage": None}


@each_client
@pytest.mark.parametrize("source", CHATS, ids=repr)
def test_a_whole_answer_in_place_of_a_stream_is_streamed(source, target) -> None:
    """Also behind blanks, and in pieces."""
    body = b"\r\n " + answer_of(REPLY, source)
    translator = StreamTranslator(source, target, identity=IDENTITY)
    pieces = [translator.feed(body[start : start + 7]) for start in range(0, len(body), 7)]
    assert the_same(assembled(events_of(b"".join(pieces) + translator.finish(), target)))


@each_client
@pytest.mark.parametrize("source", CHATS, ids=repr)
def test_half_a_whole_answer_is_not_streamed_as_if_complete(source, target) -> None:
    """It is no JSON."""
    translator = StreamTranslator(source, target, identity=IDENTITY)
    stream = translator.feed(answer_of(REPLY, source)[:-9]) + translator.finish()
    assert translator.failure is not None
    assert isinstance(events_of(stream, target)[-1], Failed)


@each_client
@pytest.mark.parametrize("source", CHATS, ids=repr)
def test_a_stream_in_place_of_a_whole_answer_is_put_together(source, target) -> None:
    """Some servers stream whatever was asked; one that breaks off is no answer."""
    stream = stream_of(events_of_reply(REPLY), source)
    assert the_same(whole(stream, source, target))
    with pytest.raises(UpstreamIncomplete):
        whole(stream[: len(stream) // 2].rpartition(b"\n")[0] + b"\n", source, target)


@each_client
def test_an_empty_reason_is_no_end(target) -> None:
    """Ollama's `/v1` of 2024 and some look-alikes say `finish_reason: ""` in each chunk."""
    text = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":""}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    assert said(streamed(text + last, OPENAI, target))["text"] == "a"
    assert isinstance(events_of(written(text, OPENAI, target), target)[-1], Failed)


@each_client
@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE] \n\n",
        b"data:[DONE]\n\n",
        b"data:  [DONE]\t\r\n\r\n",
        b"data: [DONE]",
        b"data:\n\ndata: [DONE]\n\n",
    ],
)
def test_the_end_is_seen_behind_blanks_and_empty_events(end, target) -> None:
    """Nothing is said by an event without data, and `[DONE]` is the end however it is written."""
    stream = b"data:\n\ndata: \n\ndata: null\n\n: ping\n\n" + chunks({"content": "a"}, finish=None, end=end)
    assert said(streamed(stream, OPENAI, target))["text"] == "a"


@pytest.mark.parametrize("source", [ANTHROPIC, RESPONSES], ids=repr)
def test_an_openai_end_after_the_dialects_own_is_nothing(source) -> None:
    """Proxies add `[DONE]` to every stream."""
    stream = stream_of([*events_of(answer_stream(source), source)], source)
    assert the_same(
        streamed(stream.replace(b"event:", b"data: [DONE]\n\nevent:", 1) + b"data: [DONE]\n\n", source, OLLAMA)
    )


def answer_stream(route: ConversationRoute) -> bytes:
    """`REPLY` as a stream."""
    return stream_of(events_of_reply(REPLY), route)


# --- thoughts ---------------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "hm", "content": "four"},
        {"reasoning": "hm", "content": "four"},
        {"thinking": "hm", "content": "four"},
        {"reasoning_text": "hm", "content": "four"},
        {"reasoning": "hm", "reasoning_content": "hm", "content": "four"},
        {"content": "<think>hm</think>\n\nfour"},
        {"content": "\n<thinking>hm</thinking>four"},
        {"content": "[THINK]hm[/THINK]four"},
        {
            "content": "four",
            "reasoning": None,
            "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}],
        },
        {"content": "four", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"content": MISTRAL},
    ],
)
def test_thoughts_in_every_spelling(message, target) -> None:
    """They reach the client as its own dialect has them."""
    for reply in (whole(chat(message), OPENAI, target), streamed(chunks(message), OPENAI, target)):
        assert (said(reply)["thinking"], said(reply)["text"]) == ("hm", "four")


@each_client
@pytest.mark.parametrize("source", CHATS, ids=repr)
def test_a_think_tag_may_be_cut_anywhere(source, target) -> None:
    """Streams cut tags as they cut words."""
    text = " <think>a<b</think>\n\n<think> is a tag"
    events = [Started(), *map(TextDelta, text), Finished(FinishReason.STOP)]
    reply = streamed(stream_of(events, source), source, target)
    assert (said(reply)["thinking"], said(reply)["text"]) == ("a<b", "<think> is a tag")


@each_client
@pytest.mark.parametrize("text", ["a <think>b</think>", "<thin ice>", "<", "<thinker>x"])
def test_a_tag_that_does_not_begin_the_answer_is_text(text, target) -> None:
    """An answer about tags stays one."""
    for reply in (whole(chat({"content": text}), OPENAI, target), streamed(chunks({"content": text}), OPENAI, target)):
        assert (said(reply)["thinking"], said(reply)["text"]) == ("", text)


# --- characters that end a line ----------------------------------------------------------------------


@each_client
def test_no_line_of_a_client_ends_inside_a_text(target) -> None:
    """Python's `splitlines`, and so httpx's `iter_lines`, ends lines at U+0085, U+2028 and U+2029."""
    text = "a\u2028b\u2029c\u0085d"
    stream = written(chunks({"content": text}), OPENAI, target)
    assert stream.decode().splitlines() == [line.rstrip("\r") for line in stream.decode().split("\n")[:-1]]
    assert said(streamed(chunks({"content": text}), OPENAI, target))["text"] == text


# --- counts -----------------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize(
    ("source", "body"),
    [
        (
            OPENAI,
            chat(
                {"content": "x"},
                usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 7}},
            ),
        ),
        (
            OPENAI,
            chat({"content": "x"}, usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 7}),
        ),
        (
            ANTHROPIC,
            {
                "content": [{"type": "text", "text": "x"}],
                "usage": {"input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 4},
            },
        ),
        (
            OLLAMA,
            {
                "message": {"content": "x"},
                "done": True,
                "prompt_eval_count": 9,
                "prompt_eval_cached_count": 7,
                "eval_count": 4,
            },
        ),
        (
            RESPONSES,
            {
                "output": [],
                "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 7}, "output_tokens": 4},
            },
        ),
    ],
)
def test_cached_tokens_are_told_in_each_dialects_words(source, body, target) -> None:
    """What a cache saved is a part of the prompt everywhere but at Anthropic, where it stands beside it."""
    usage = whole(body, source, target).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (9, 7, 4)


# --- more of each kind -------------------------------------------------------------------------------


@each_client
@pytest.mark.parametrize(
    ("source", "body"),
    [
        (ANTHROPIC, {"type": "message", "content": "four", "stop_reason": "end_turn"}),
        (OLLAMA, {"message": {"content": [{"type": "text", "text": "four"}]}, "done": True}),
        (RESPONSES, {"output": [{"type": "message", "content": "four"}]}),
        (OPENAI, {"choices": [{"delta": {"content": "four"}, "finish_reason": "stop"}]}),
    ],
)
def test_a_text_in_the_other_form_is_read_in_every_dialect(source, body, target) -> None:
    """A text where the dialect has parts, and parts where it has a text."""
    assert said(whole(body, source, target))["text"] == "four"


@each_client
@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (b"event: error\ndata: the model crashed\n\n", "the model crashed"),
        (b'data: [{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]\n\n', "quota"),
        (b'[{"error":{"code":429,"message":"quota"}}]', "quota"),
        (b'{"base_resp":{"status_code":1004,"status_msg":"login fail"},"choices":null}', "login fail"),
        (b'data: {"code":1302,"msg":"too many requests"}\n\n', "too many requests"),
        (b'data: {"error":"overloaded","choices":[]}\n\n', "overloaded"),
        (b'{"success":false,"errors":[{"message":"no such model","code":7000}]}', "no such model"),
        (b'data: {"choices":[{"index":0,"delta":{"content":"a"},"error":{"message":"gone"}}]}\n\n', "gone"),
    ],
)
def test_errors_of_every_provider_inside_a_stream(stream, text, target) -> None:
    """In their own words."""
    last = events_of(written(stream, OPENAI, target), target)[-1]
    assert isinstance(last, Failed)
    assert text in last.error.message


@pytest.mark.parametrize(
    ("status", "body", "client_status", "text"),
    [
        (
            422,
            {"detail": [{"loc": ["body", "tools"], "msg": "extra fields", "input": "canary"}]},
            422,
            "body.tools: extra fields",
        ),
        (422, {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "bad"}]}}, 422, "body: bad"),
        (403, {"error": {"message": "flagged by moderation", "code": 403}}, 403, "flagged by moderation"),
        (
            403,
            {
                "error": {
                    "message": "Country, region, or territory not supported",
                    "code": "unsupported_country_region_territory",
                }
            },
            403,
            "region",
        ),
        (403, {"error": {"message": "Your API key may not use this model"}}, 502, "credential"),
        (402, {"error": {"message": "Insufficient credits", "code": 402}}, 402, "Insufficient credits"),
        (400, [{"error": {"code": 400, "message": "bad schema", "status": "INVALID_ARGUMENT"}}], 400, "bad schema"),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 503, "Overloaded"),
        (
            429,
            {"error": {"message": "Provider returned error", "metadata": {"raw": "x is rate-limited upstream"}}},
            429,
            "x is rate-limited upstream",
        ),
    ],
)
@pytest.mark.parametrize("client", [OLLAMA, ANTHROPIC], ids=repr)
def test_errors_of_providers_keep_status_and_words(status, body, client_status, text, client) -> None:
    """A validator's list is told without the values that it found wrong."""
    error = translate_error(status, json.dumps(body).encode(), target=client, request_id="r")
    assert error.status == client_status
    assert text in error.body.decode()
    assert b"canary" not in error.body


@each_client
@pytest.mark.parametrize("finish", ["sensitive", "content_filter", "refusal"])
def test_every_word_for_a_filter_is_one(finish, target) -> None:
    """Z.AI's, OpenAI's, Anthropic's."""
    assert whole(chat({"content": "x"}, finish), OPENAI, target).finish is FinishReason.CONTENT_FILTER


@each_client
def test_an_index_may_be_a_text(target) -> None:
    """And `tool_calls` one call in place of a list."""
    entry = {"index": "0", "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}}
    reply = streamed(chunks({"tool_calls": entry}, finish="tool_calls"), OPENAI, target)
    assert [(name, json.loads(text)) for name, text in calls_of(reply)] == [("f", {"x": 1})]


@each_client
def test_an_answer_may_not_have_calls_without_end(target) -> None:
    """Each is remembered, and a server must not make the router grow."""
    calls = (piece(number, f"call_{number}", "f", "{}") for number in range(5000))
    last = events_of(written(chunks(*calls), OPENAI, target), target)[-1]
    assert isinstance(last, Failed)
    assert "4096 tool calls" in last.error.message
