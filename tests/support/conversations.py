"""Conversations and answers for the tests of translation: strategies, normal forms, streams taken apart.

A normal form keeps what a conversation means and forgets how a dialect cuts it: neighbouring messages of one side are
one, arguments are values and not text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby, pairwise
from typing import Any

from hypothesis import strategies as st

from ollama_router_core.translate import ROUTES, ConversationRoute, HostTraits, ReplyIdentity, ReplyOptions, codec_of
from ollama_router_core.translate.answer_order import events_of_reply
from ollama_router_core.translate.conversation import (
    Conversation,
    Image,
    JsonSchema,
    Message,
    Part,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from ollama_router_core.translate.framing import MAX_EVENT_BYTES
from ollama_router_core.translate.json_reader import Dropped, JsonReader
from ollama_router_core.translate.message_parts import joined_text, joined_thinking
from ollama_router_core.translate.replies import (
    Event,
    Failed,
    Finished,
    FinishReason,
    Reply,
    Started,
    TextDelta,
    ThinkingDelta,
    ThinkingSigned,
    ToolCallDelta,
    Usage,
)

TALKS = tuple(route for route in ROUTES if isinstance(route, ConversationRoute))
"""Every route of every dialect that continues a conversation."""
CHATS = tuple(route for route in TALKS if not route.plain_prompt)
PROMPTS = tuple(route for route in TALKS if route.plain_prompt)
IDENTITY = ReplyIdentity(model="gpt-4", id="req-1", created_ns=1_700_000_000_123_456_789)
PNG = "iVBORw0KGgoAAAANSUhEUg=="
JPEG = "/9j/4AAQSkZJRg=="

texts = st.text(st.characters(exclude_categories=[]), min_size=1, max_size=12).filter(
    lambda text: not text.lstrip().startswith(("<think", "<thought", "<reasoning", "[THINK"))
)
"""Texts with lone surrogates among them; none begins as thoughts do, which hosts write into the text."""
words = texts.filter(str.strip)
"""Texts of more than blanks, which Anthropic refuses."""
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
images = st.builds(Image, st.just("image/png"), st.just(PNG)) | st.builds(Image, st.just("image/jpeg"), st.just(JPEG))


# --- conversations --------------------------------------------------------------------------------


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Message]:
    """What a user says, or what an assistant says with the results of the tools it calls."""
    if draw(st.booleans()):
        parts: list[Part] = list(draw(st.lists(images, max_size=2)))
        return [Message(Role.USER, (*parts, Text(draw(words))))]
    calls = [
        ToolCall(f"call-{number}-{index}", draw(names), json.dumps(draw(objects)))
        for index in range(draw(st.integers(0, 3)))
    ]
    said = [Text(draw(words))] if not calls or draw(st.booleans()) else []
    results = [Message(Role.TOOL, (ToolResult(call.id, (Text(draw(words)),)),)) for call in calls]
    return [Message(Role.ASSISTANT, (*said, *calls)), *results]


samplings = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 1),
    top_p=st.none() | st.floats(0, 1),
    max_tokens=st.none() | st.integers(1, 10**6),
    stop=st.lists(words, max_size=3).map(tuple),
)
schemas = st.builds(
    lambda properties, more: {**more, "type": "object", "properties": properties},
    objects,
    objects.map(lambda more: {key: value for key, value in more.items() if key != "required"}),
)
tools = st.lists(st.builds(Tool, name=names, description=texts | st.just(""), parameters=schemas), max_size=3).map(
    tuple
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A conversation that every chat dialect can say in full."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message(Role.SYSTEM, (Text(draw(words)),)))
    messages.append(Message(Role.USER, (Text(draw(words)),)))
    for number in range(draw(st.integers(0, 4))):
        messages.extend(draw(turns(number)))
    return Conversation(
        messages=tuple(messages),
        tools=draw(tools),
        sampling=draw(samplings),
        format=draw(st.none() | st.builds(JsonSchema, schema=objects.filter(bool))),
        stream=draw(st.booleans()),
    )


@st.composite
def prompts(draw: st.DrawFn) -> Conversation:
    """A conversation of one prompt that every dialect can say in full."""
    message = Message(Role.USER, (Text(draw(words)),))
    return Conversation(messages=(message,), sampling=draw(samplings), stream=draw(st.booleans()))


def body_of(conversation: Conversation, route: ConversationRoute, model: str = "m") -> dict[str, Any]:
    """The request a client of the dialect would send."""
    return {"model": model, **route.write_request(conversation, HostTraits(), Dropped())}


def conversation_of(body: dict[str, Any], route: ConversationRoute) -> Conversation:
    """What a server of the dialect understands."""
    return route.read_request(JsonReader(body, "", Dropped()))


def meaning(conversation: Conversation) -> dict[str, Any]:
    """The normal form of a conversation."""
    groups = groupby(conversation.messages, lambda message: message.role)
    merged = [(role, _side(role, [part for message in group for part in message.parts])) for role, group in groups]
    wanted = conversation.format
    return {
        "messages": [(role, side) for role, side in merged if any(side)],
        "tools": [(tool.name, tool.description, tool.parameters) for tool in conversation.tools],
        "sampling": conversation.sampling,
        "schema": wanted.schema if isinstance(wanted, JsonSchema) else wanted,
        "stream": conversation.stream,
    }


def _side(role: Role, parts: list[Part]) -> tuple[list[object], str, list[object]]:
    """Images, text, calls and results of one side; Ollama keeps images apart from the text."""
    calls: list[object] = []
    for part in parts:
        if isinstance(part, ToolCall):
            calls.append(("call", part.id, part.name, json.loads(part.arguments or "{}")))
        elif isinstance(part, ToolResult):
            calls.append(("result", part.call_id, joined_text(part.parts, "\n")))
    separator = "" if role is Role.ASSISTANT else "\n"
    return [part for part in parts if isinstance(part, Image)], joined_text(parts, separator), calls


# --- answers --------------------------------------------------------------------------------------


@st.composite
def replies(draw: st.DrawFn, *, calls: bool = True) -> Reply:
    """An answer that the dialects can say in full: thoughts, then text, then calls."""
    made = [
        ToolCall(f"id-{index}", draw(names), json.dumps(draw(objects)))
        for index in range(draw(st.integers(0, 3)) if calls else 0)
    ]
    thought = [Thinking(draw(texts))] if draw(st.booleans()) else []
    said = [Text(draw(texts))] if draw(st.booleans()) else []
    ends = [FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER]
    finish = FinishReason.TOOL_CALLS if made else draw(st.sampled_from(ends))
    counts = st.integers(0, 10**9)
    usage = Usage(input_tokens=draw(counts), output_tokens=draw(counts))
    return Reply(parts=(*thought, *said, *made), finish=finish, usage=usage)


def answer_of(reply: Reply, route: ConversationRoute) -> bytes:
    """The whole answer as a server of the dialect gives it."""
    return json.dumps(route.write_reply(reply, IDENTITY, ReplyOptions())).encode()


def reply_of(body: bytes, route: ConversationRoute) -> Reply:
    """What a client of the dialect understands."""
    return route.read_reply(json.loads(body))


def said(reply: Reply) -> dict[str, Any]:
    """The normal form of an answer."""
    calls = [part for part in reply.parts if isinstance(part, ToolCall)]
    return {
        "thinking": joined_thinking(reply.parts),
        "text": joined_text(reply.parts, ""),
        "calls": [(call.id, call.name, json.loads(call.arguments or "{}")) for call in calls],
        "finish": reply.finish,
        "usage": reply.usage,
    }


# --- streams --------------------------------------------------------------------------------------


@st.composite
def event_lists(draw: st.DrawFn, reply: Reply) -> list[Event]:
    """The answer as a stream, its texts and arguments in any pieces."""
    events: list[Event] = [Started()]
    number = 0
    for part in reply.parts:
        if isinstance(part, ToolCall):
            first, *rest = draw(pieces(part.arguments))
            events.append(ToolCallDelta(number, part.id, part.name, first))
            events.extend(ToolCallDelta(number, arguments=piece) for piece in rest)
            number += 1
        else:
            kind = TextDelta if isinstance(part, Text) else ThinkingDelta
            events.extend(kind(piece) for piece in draw(pieces(part.text)))
    return [*events, Finished(reply.finish, usage=reply.usage)]


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """A text cut in any places, without empty pieces."""
    places = sorted(draw(st.sets(st.integers(1, len(text)), max_size=4))) if text else []
    edges = [0, *(place for place in places if place < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def stream_of(events: Iterable[Event], route: ConversationRoute) -> bytes:
    """The stream as a server of the dialect writes it."""
    writer = route.stream_writer(IDENTITY, ReplyOptions(include_usage=True), MAX_EVENT_BYTES)
    return b"".join(writer.write(event) for event in events)


def event_stream(answer: bytes, route: ConversationRoute) -> bytes:
    """A whole answer of a server as its stream."""
    return stream_of(events_of_reply(route.read_reply(json.loads(answer))), route)


def events_of(stream: bytes, route: ConversationRoute) -> list[Event]:
    """The events a client of the dialect sees, the end included."""
    frames = codec_of(route.family).framing.frames(MAX_EVENT_BYTES)
    reader = route.stream_reader()
    events = [event for payload in (*frames.feed(stream), *frames.end()) for event in reader.read(payload)]
    ended = any(isinstance(event, Finished | Failed) for event in events)
    return events if ended else [*events, *reader.end()]


def assembled(events: Iterable[Event]) -> Reply:
    """The whole answer of a stream that ended well."""
    parts: list[Text | Thinking | ToolCall] = []
    calls: dict[int, ToolCall] = {}
    for event in events:
        match event:
            case TextDelta(text=text):
                parts.append(Text(text))
            case ThinkingDelta(text=text):
                parts.append(Thinking(text))
            case ToolCallDelta(index=index):
                known = calls.get(index, ToolCall("", "", ""))
                calls[index] = ToolCall(
                    known.id or event.id, known.name or event.name, known.arguments + event.arguments
                )
            case Finished():
                return Reply(parts=(*parts, *calls.values()), finish=event.finish, usage=event.usage)
            case _:
                assert isinstance(event, Started | ThinkingSigned), event
    raise AssertionError("the stream did not end")
