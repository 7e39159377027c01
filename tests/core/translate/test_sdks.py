"""The official clients of each dialect talk through translation to a host of another.

A transport in place of the network translates what the client sends, checks that the host would understand it, and
answers in the host's dialect, translated back in small pieces. So both our reading and our writing are held against
code that is not ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import ollama
import openai
import pytest

from ollama_router_core.translate import (
    Route,
    StreamTranslator,
    codec_of,
    translate_error,
    translate_reply,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.conversation import Message, Role, Text, Thinking, ToolCall
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES
from ollama_router_core.translate.replies import (
    Finished,
    FinishReason,
    Reply,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    Usage,
)
from support.conversations import CHATS, IDENTITY, answer_of, conversation_of, stream_of

USAGE = Usage(input_tokens=11, output_tokens=7)
REPLY = Reply(
    parts=(Thinking("hm"), Text("grüß\ngott"), ToolCall("a", "add", '{"x":1}'), ToolCall("b", "now", "{}")),
    finish=FinishReason.TOOL_CALLS,
    usage=USAGE,
)
EVENTS = [
    Started(),
    ThinkingDelta("h"),
    ThinkingDelta("m"),
    TextDelta("grü"),
    TextDelta("ß\ngott"),
    ToolCallDelta(0, "a", "add", '{"x"'),
    ToolCallDelta(0, arguments=":1}"),
    ToolCallDelta(1, "b", "now", "{}"),
    Finished(FinishReason.TOOL_CALLS, usage=USAGE),
]
TOOL = {"type": "object", "properties": {"x": {"type": "integer"}}}


class Host:
    """A host of one dialect behind translation, as a transport's handler."""

    def __init__(self, dialect: Route, source: Route) -> None:
        self.dialect = dialect
        self.source = source
        self.asked: list[dict[str, Any]] = []

    def answer(self, body: bytes) -> tuple[int, str, bytes]:
        """Status, media type and body for what a client sent."""
        sent = translate_request(body, source=self.source, target=self.dialect, model="remote")
        asked = json.loads(sent.body)
        self.asked.append(asked)
        conversation_of(asked, self.dialect)
        if "overload" in body.decode():
            refused = b'{"error":{"message":"slow down","type":"rate_limit_error"}}'
            error = translate_error(429, refused, target=self.source, request_id="r")
            return error.status, "application/json", error.body
        if not sent.stream:
            written = translate_reply(
                answer_of(REPLY, self.dialect),
                source=self.dialect,
                target=self.source,
                identity=IDENTITY,
                options=sent.reply_options,
            )
            return 200, "application/json", written
        stream = stream_of(EVENTS, self.dialect)
        translator = StreamTranslator(self.dialect, self.source, identity=IDENTITY, options=sent.reply_options)
        pieces = [translator.feed(stream[start : start + 7]) for start in range(0, len(stream), 7)]
        return 200, "text/event-stream", b"".join(pieces) + translator.finish()

    def httpx(self, request: httpx.Request) -> httpx.Response:
        """For clients on httpx."""
        status, media_type, body = self.answer(request.read())
        return httpx.Response(status, content=body, headers={"content-type": media_type})

    def httpx2(self, request: httpx2.Request) -> httpx2.Response:
        """For clients on httpx2."""
        status, media_type, body = self.answer(request.read())
        return httpx2.Response(status, content=body, headers={"content-type": media_type})


Clients = Callable[..., tuple[Any, Host]]


@pytest.fixture
def ollama_client() -> Iterator[Clients]:
    """Ollama's client in front of a host."""
    clients = []

    def make(dialect: Route) -> tuple[Any, Host]:
        host = Host(dialect, OLLAMA_CHAT)
        clients.append(ollama.Client(host="http://router", transport=httpx.MockTransport(host.httpx)))
        return clients[-1], host

    yield make
    for client in clients:
        client._client.close()


@pytest.fixture
def openai_client() -> Iterator[Clients]:
    """OpenAI's client in front of a host."""
    clients = []

    def make(dialect: Route, source: Route = OPENAI_CHAT) -> tuple[Any, Host]:
        host = Host(dialect, source)
        http = httpx2.Client(transport=httpx2.MockTransport(host.httpx2))
        clients.append(openai.OpenAI(api_key="k", base_url="http://router/v1", http_client=http, max_retries=0))
        return clients[-1], host

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def anthropic_client() -> Iterator[Clients]:
    """Anthropic's client in front of a host."""
    clients = []

    def make(dialect: Route) -> tuple[Any, Host]:
        host = Host(dialect, ANTHROPIC_MESSAGES)
        http = httpx2.Client(transport=httpx2.MockTransport(host.httpx2))
        clients.append(anthropic.Anthropic(api_key="k", base_url="http://router", http_client=http, max_retries=0))
        return clients[-1], host

    yield make
    for client in clients:
        client.close()


HI = [{"role": "user", "content": "hi"}]


def hosts_but(route: Route) -> list[Route]:
    """Every chat of the registry but the client's own, so that a new dialect is tried by every client."""
    return [other for other in CHATS if other is not route]


@pytest.mark.parametrize("dialect", hosts_but(OLLAMA_CHAT))
@pytest.mark.parametrize("stream", [False, True])
def test_the_ollama_client_reaches_other_hosts(ollama_client, dialect, stream) -> None:
    """Text, thoughts, calls, the reason to stop and the counts, whole and streamed."""
    client, host = ollama_client(dialect)
    tools = [{"type": "function", "function": {"name": "add", "parameters": TOOL}}]
    got = client.chat("gpt-4", HI, tools=tools, stream=stream, think=True, options={"temperature": 0.5})
    chunks = list(got) if stream else [got]
    assert "".join(chunk.message.content for chunk in chunks) == "grüß\ngott"
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == "hm"
    calls = [call.function for chunk in chunks for call in chunk.message.tool_calls or []]
    assert [(call.name, dict(call.arguments)) for call in calls] == [("add", {"x": 1}), ("now", {})]
    assert (chunks[-1].done, chunks[-1].done_reason) == (True, "stop")
    assert (chunks[-1].prompt_eval_count, chunks[-1].eval_count) == (11, 7)
    assert host.asked[0]["model"] == "remote"


@pytest.mark.parametrize("dialect", hosts_but(OPENAI_CHAT))
def test_the_openai_client_reaches_other_hosts(openai_client, dialect) -> None:
    """A whole answer, with the types the client checks."""
    client, _ = openai_client(dialect)
    got = client.chat.completions.create(model="gpt-4", messages=HI)
    choice = got.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("grüß\ngott", "tool_calls")
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert calls == [("a", "add", {"x": 1}), ("b", "now", {})]
    assert (got.usage.prompt_tokens, got.usage.completion_tokens, got.usage.total_tokens) == (11, 7, 18)
    type(got).model_validate(got.model_dump(), strict=True)


@pytest.mark.parametrize("dialect", hosts_but(OPENAI_CHAT))
def test_the_openai_client_streams_from_other_hosts(openai_client, dialect) -> None:
    """Its own helper puts the pieces together, which it does only if every piece has its place."""
    client, _ = openai_client(dialect)
    tools = [{"type": "function", "function": {"name": "add", "parameters": TOOL}}]
    wanted = {"include_usage": True}
    with client.chat.completions.stream(model="gpt-4", messages=HI, tools=tools, stream_options=wanted) as stream:
        got = stream.get_final_completion()
    choice = got.choices[0]
    assert (choice.message.content, choice.finish_reason) == ("grüß\ngott", "tool_calls")
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls]
    assert calls == [("a", "add", {"x": 1}), ("b", "now", {})]
    assert (got.usage.prompt_tokens, got.usage.completion_tokens) == (11, 7)


@pytest.mark.parametrize("dialect", hosts_but(ANTHROPIC_MESSAGES))
@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_client_reaches_other_hosts(anthropic_client, dialect, stream) -> None:
    """Its own helper puts the blocks together, which it does only if they follow one another."""
    client, host = anthropic_client(dialect)
    tools = [{"name": "add", "input_schema": TOOL}]
    asked = {"model": "claude", "max_tokens": 50, "system": "s", "messages": HI, "tools": tools}
    if stream:
        with client.messages.stream(**asked) as events:
            got = events.get_final_message()
    else:
        got = client.messages.create(**asked)
    by_type = {block.type: block for block in got.content}
    assert (by_type["thinking"].thinking, by_type["text"].text) == ("hm", "grüß\ngott")
    calls = [(block.id, block.name, block.input) for block in got.content if block.type == "tool_use"]
    assert calls == [("a", "add", {"x": 1}), ("b", "now", {})]
    assert (got.stop_reason, got.usage.input_tokens, got.usage.output_tokens) == ("tool_use", 11, 7)
    assert conversation_of(host.asked[0], dialect).messages[0] == Message(Role.SYSTEM, (Text("s"),))


@pytest.mark.parametrize("dialect", hosts_but(OPENAI_RESPONSES))
@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_client_gets_responses_of_other_hosts(openai_client, dialect, stream) -> None:
    """Its own helper puts the items together, which it does only if every event names the right one."""
    client, host = openai_client(dialect, OPENAI_RESPONSES)
    tools = [{"type": "function", "name": "add", "parameters": TOOL, "strict": True}]
    asked = {"model": "gpt-5", "instructions": "s", "input": "hi", "tools": tools, "metadata": {"a": "b"}}
    if stream:
        with client.responses.stream(**asked) as events:
            seen = list(events)
            got = events.get_final_response()
        assert [event.sequence_number for event in seen if hasattr(event, "sequence_number")] == list(range(len(seen)))
    else:
        got = client.responses.create(**asked)
        type(got).model_validate(got.model_dump(), strict=True)
    assert got.output_text == "grüß\ngott"
    by_type = {item.type: item for item in got.output}
    assert [part.text for part in by_type["reasoning"].summary] == ["hm"]
    calls = [
        (item.call_id, item.name, json.loads(item.arguments)) for item in got.output if item.type == "function_call"
    ]
    assert calls == [("a", "add", {"x": 1}), ("b", "now", {})]
    assert (got.status, got.model, got.store, got.metadata) == ("completed", "gpt-4", False, {"a": "b"})
    assert (got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (11, 7, 18)
    assert got.tools[0].name == "add"
    openai.types.responses.Response.model_validate(
        got.model_dump(exclude={"output": {"__all__": {"parsed_arguments"}}})
    )
    assert conversation_of(host.asked[0], dialect).messages[0] == Message(Role.SYSTEM, (Text("s"),))


def test_an_error_in_a_stream_of_responses_reaches_the_client() -> None:
    """The event that the router ends a stream with raises in the client; it must not look like an answer."""
    tail = codec_of(OPENAI_RESPONSES.family).write_stream_error(
        ApiError(message="gone", status=502, code="upstream_disconnected"), "r"
    )
    transport = httpx2.MockTransport(
        lambda _: httpx2.Response(200, content=tail, headers={"content-type": "text/event-stream"})
    )
    with (
        httpx2.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://router/v1", http_client=http, max_retries=0) as client,
        pytest.raises(openai.APIError, match="gone"),
    ):
        list(client.responses.create(model="x", input="hi", stream=True))


def test_errors_have_the_shape_that_each_client_reads(ollama_client, openai_client, anthropic_client) -> None:
    """Status and text arrive in the client's own exception."""
    messages = [{"role": "user", "content": "overload"}]
    client, _ = ollama_client(ANTHROPIC_MESSAGES)
    with pytest.raises(ollama.ResponseError, match="slow down") as caught:
        client.chat("x", messages)
    assert caught.value.status_code == 429
    client, _ = openai_client(OLLAMA_CHAT)
    with pytest.raises(openai.RateLimitError, match="slow down"):
        client.chat.completions.create(model="x", messages=messages)
    client, _ = anthropic_client(OPENAI_CHAT)
    with pytest.raises(anthropic.RateLimitError, match="slow down"):
        client.messages.create(model="x", max_tokens=1, messages=messages)
