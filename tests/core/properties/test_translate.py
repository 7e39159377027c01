"""Laws of translation: meaning is kept, a stream says what the whole says, nothing unforeseen is raised."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.errors import UpstreamError, UpstreamIncomplete
from ollama_router_core.responses.usage import UsageReader
from ollama_router_core.translate import (
    CODECS,
    ROUTES,
    EmbeddingRoute,
    HostTraits,
    ReplyOptions,
    Route,
    StreamTranslator,
    UntranslatableReply,
    UntranslatableRequest,
    codec_of,
    translate_error,
    translate_reply,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.api_errors import ApiError
from ollama_router_core.translate.embeddings import EmbeddingRequest
from ollama_router_core.translate.framing import NDJSON
from ollama_router_core.translate.host_errors import read_host_error
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.message_parts import joined_text
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_GENERATE
from ollama_router_core.translate.openai.codec import OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS
from ollama_router_core.translate.replies import Failed, Finished, FinishReason, QueuePlace, Started, TextDelta, Usage
from support.conversations import (
    CHATS,
    IDENTITY,
    TALKS,
    answer_of,
    assembled,
    body_of,
    conversation_of,
    conversations,
    event_lists,
    events_of,
    meaning,
    prompts,
    replies,
    reply_of,
    said,
    stream_of,
    texts,
)
from support.conversations import objects as object_values
from support.conversations import values as json_values
from support.json_texts import cut, cuts

chats = st.sampled_from(CHATS)
talks = st.sampled_from(TALKS)


def translated(stream: bytes, source: Route, target: Route, places: list[float]) -> bytes:
    """The whole of a stream's translation when its bytes come in pieces."""
    translator = StreamTranslator(source, target, identity=IDENTITY, options=ReplyOptions(include_usage=True))
    return b"".join(map(translator.feed, cut(stream, places))) + translator.finish()


# --- meaning --------------------------------------------------------------------------------------


@given(conversations(), chats, chats)
def test_a_request_keeps_its_meaning(conversation, source, target) -> None:
    """Messages, their order, tool calls, results, tools, sampling and schemas arrive as they were said."""
    lost = Dropped()
    asked = source.write_request(conversation, HostTraits(), lost)
    sent = translate_request(asked, source=source, target=target, model="other")
    body = json.loads(sent.body)
    arrived, expected = meaning(conversation_of(body, target)), meaning(conversation)
    dropped = {*lost.names(), *sent.dropped}
    assert dropped <= {"stop"}, "all else can be said in every dialect"
    sampling = {"stop": ()} if dropped else {}
    if conversation.sampling.max_tokens is None and ANTHROPIC_MESSAGES in {source, target}:
        # Anthropic demands a limit; a default is the only thing that is ever added.
        sampling["max_tokens"] = arrived["sampling"].max_tokens
    expected["sampling"] = replace(conversation.sampling, **sampling)
    assert body["model"] == "other"
    assert arrived == expected
    assert sent.stream == conversation.stream


@given(prompts(), talks, talks)
def test_a_prompt_keeps_its_meaning(conversation, source, target) -> None:
    """A plain prompt can be said in every dialect, and comes back from each."""
    there = translate_request(body_of(conversation, source), source=source, target=target, model="m")
    back = translate_request(there.body, source=target, target=source, model="m")
    messages = meaning(conversation_of(json.loads(back.body), source))["messages"]
    assert messages == meaning(conversation)["messages"]
    assert back.stream == conversation.stream


@given(replies(), chats, chats)
def test_an_answer_keeps_its_meaning(reply, source, target) -> None:
    """Text, thoughts, calls, the reason to stop and the usage arrive as they were."""
    body = translate_reply(answer_of(reply, source), source=source, target=target, identity=IDENTITY)
    assert said(reply_of(body, target)) == said(reply)


# --- streams --------------------------------------------------------------------------------------


@given(st.data(), chats, chats)
def test_a_stream_says_what_the_whole_answer_says(data, source, target) -> None:
    """However an answer is cut into events and bytes, the client ends up with the same answer."""
    reply = data.draw(replies())
    stream = stream_of(data.draw(event_lists(reply)), source)
    streamed = assembled(events_of(translated(stream, source, target, data.draw(cuts())), target))
    whole = translate_reply(answer_of(reply, source), source=source, target=target, identity=IDENTITY)
    assert said(streamed) == said(reply_of(whole, target)) == said(reply)


@given(st.data(), talks, talks)
def test_plain_answers_stream_between_all_dialects(data, source, target) -> None:
    """The routes that take one prompt stream as the chats do, but for thoughts, which completions cannot say."""
    reply = data.draw(replies(calls=False))
    stream = stream_of(data.draw(event_lists(reply)), source)
    streamed = said(assembled(events_of(translated(stream, source, target, []), target)))
    expected = said(reply)
    if OPENAI_COMPLETIONS in {source, target}:
        expected["thinking"] = ""
    assert streamed == expected


@given(st.data(), talks, talks)
def test_where_the_bytes_are_cut_makes_no_difference(data, source, target) -> None:
    """The same bytes in give the same bytes out, in total, also when the stream is broken or cut short."""
    reply = data.draw(replies())
    stream = stream_of(data.draw(event_lists(reply)), source if source in CHATS else OLLAMA_CHAT)
    place = data.draw(st.integers(0, len(stream)))
    damage = data.draw(
        st.sampled_from([b"", b"", b"\n", b"\r\n", b"\xff", b'{"error":"x"}\n', b"data: {\n\n", b"data"])
    )
    stream = data.draw(st.sampled_from([stream[:place] + damage + stream[place:], stream[:place] + damage]))
    once = translated(stream, source, target, [])
    assert translated(stream, source, target, data.draw(cuts())) == once
    assert b"".join(map(bytes, [once])) == translated(stream, source, target, [i / 50 for i in range(50)])


@given(st.data(), chats, chats)
def test_a_stream_cut_before_its_end_is_never_ended_as_if_complete(data, source, target) -> None:
    """What was cut before its end ends with an error in the client's dialect, and the translator says so."""
    events = data.draw(event_lists(data.draw(replies())))
    unfinished = stream_of(events[:-1], source)
    translator = StreamTranslator(source, target, identity=IDENTITY)
    written = translator.feed(unfinished[: data.draw(st.integers(0, len(unfinished)))]) + translator.finish()
    assert isinstance(translator.failure, UpstreamIncomplete | UntranslatableReply)
    assert isinstance(events_of(written, target)[-1], Failed)


@given(st.data(), chats, chats)
def test_a_stream_cut_anywhere_is_whole_or_failed(data, source, target) -> None:
    """Nothing in between: an answer that is not reported as failed has all that the model said."""
    reply = data.draw(replies())
    stream = stream_of(data.draw(event_lists(reply)), source)
    translator = StreamTranslator(source, target, identity=IDENTITY)
    written = translator.feed(stream[: data.draw(st.integers(0, len(stream)))]) + translator.finish()
    last = events_of(written, target)[-1]
    assert isinstance(last, Failed) is (translator.failure is not None)
    if translator.failure is None:
        got, expected = said(assembled(events_of(written, target))), said(reply)
        assert {**got, "usage": None} == {**expected, "usage": None}


# --- robustness -----------------------------------------------------------------------------------


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A value with something else in one of its places."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        return {**value, key: mutated(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(draw, value[index]), *value[index + 1 :]]
    return draw(
        st.one_of(json_values, st.sampled_from([10**400, -1, "", [], {}, [[]], [{}], {"": None}, float("inf")]))
    )


SAMPLES: dict[Route, list[dict[str, Any]]] = {
    OLLAMA_CHAT: [
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "x", "images": ["/9j/"]},
                {"role": "assistant", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
                {"role": "tool", "tool_name": "f", "content": "1"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "options": {"temperature": 1, "stop": ["a"], "num_predict": -1, "num_ctx": 5},
            "format": "json",
            "think": "high",
            "keep_alive": 0,
        }
    ],
    OLLAMA_GENERATE: [{"model": "m", "prompt": "x", "system": "s", "suffix": "", "context": [], "raw": False}],
    OPENAI_CHAT: [
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "s"}]},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]},
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning": "t",
                    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "a", "content": "1"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}},
            "reasoning_effort": "low",
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 5,
            "n": 1,
            "modalities": ["text"],
        }
    ],
    OPENAI_COMPLETIONS: [{"model": "m", "prompt": ["x"], "suffix": "y", "best_of": 1, "echo": False}],
    ANTHROPIC_MESSAGES: [
        {
            "model": "m",
            "max_tokens": 2000,
            "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x"}}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "t", "signature": "s"},
                        {"type": "redacted_thinking", "data": "d"},
                        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "a", "content": "1", "is_error": True}],
                },
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        }
    ],
    OLLAMA_EMBED: [{"model": "m", "input": ["x"], "dimensions": 3, "truncate": True}],
    OLLAMA_EMBEDDINGS: [{"model": "m", "prompt": "x"}],
    OPENAI_EMBEDDINGS: [{"model": "m", "input": "x", "encoding_format": "base64"}],
}


def plain_bodies(source: Route) -> st.SearchStrategy[dict[str, Any]]:
    """Requests of a route as its own codec writes them."""
    if isinstance(source, EmbeddingRoute):
        return st.just({"model": "m", **source.write_request(EmbeddingRequest(inputs=("x",)), Dropped())})
    return (prompts() if source.plain_prompt else conversations()).map(lambda said: body_of(said, source))


@st.composite
def odd_bodies(draw: st.DrawFn, source: Route) -> dict[str, Any] | bytes:
    """Requests that are nearly right, and bytes that are not JSON at all."""
    known = SAMPLES.get(source)
    body = draw(st.sampled_from(known) | plain_bodies(source) if known else plain_bodies(source))
    for _ in range(draw(st.integers(0, 2))):
        body = mutated(draw, body)
    if isinstance(body, dict) and draw(st.booleans()):
        return body
    return draw(st.sampled_from([json.dumps(body).encode(), json.dumps(body).encode()[:-1]]) | st.binary(max_size=30))


@given(st.data(), st.sampled_from(ROUTES), st.sampled_from(ROUTES))
def test_no_request_raises_anything_but_its_own_error(data, source, target) -> None:
    """Whatever a client sends is translated into valid JSON or refused with a 400."""
    body = data.draw(odd_bodies(source))
    try:
        sent = translate_request(body, source=source, target=target, model="m")
    except UntranslatableRequest:
        return
    assert json.loads(sent.body)["model"] == "m"
    assert all(name.isascii() and name.isprintable() for name in sent.dropped)


ANSWERS = [
    json.loads(answer_of(reply, dialect))
    for dialect in TALKS
    for reply in [reply_of(b'{"message":{"content":"x"},"eval_count":1}', OLLAMA_CHAT)]
]


@given(st.data(), st.sampled_from(ROUTES), st.sampled_from(ROUTES))
@example(None, OPENAI_EMBEDDINGS, OLLAMA_EMBED)
def test_no_answer_raises_anything_but_its_own_error(data, source, target) -> None:
    """Whatever a server answers is translated into valid JSON or called untranslatable."""
    if data is None:
        body: Any = {"data": [{"embedding": [1, "x"]}]}
    else:
        body = data.draw(
            st.sampled_from([*ANSWERS, {"data": [{"index": 1, "embedding": [0.5]}]}, {"embeddings": [[1]]}])
        )
        for _ in range(data.draw(st.integers(0, 2))):
            body = mutated(data.draw, body)
    raw = json.dumps(body).encode()
    if data is not None and data.draw(st.booleans()):
        raw = data.draw(st.binary(max_size=30))
    try:
        written = translate_reply(
            raw, source=source, target=target, identity=IDENTITY, options=ReplyOptions(base64_vectors=True)
        )
    except (UntranslatableReply, UpstreamError):
        return
    assert isinstance(json.loads(written), dict)


@given(st.data(), chats, talks)
def test_no_stream_raises_and_what_is_written_can_always_be_read(data, source, target) -> None:
    """Events that are nearly right, in any order, give a stream that a client can parse to its end."""
    lines = [line for line in stream_of(data.draw(event_lists(data.draw(replies()))), source).split(b"\n") if line]
    payloads = [json.loads(line.removeprefix(b"data: ")) for line in lines if line[-1:] == b"}"]
    chosen = data.draw(st.lists(st.sampled_from(payloads), max_size=6))
    odd = [mutated(data.draw, payload) if data.draw(st.booleans()) else payload for payload in chosen]
    prefix, end = ("", "\n") if codec_of(source.family).framing is NDJSON else ("data: ", "\n\n")
    stream = "".join(f"{prefix}{json.dumps(payload)}{end}" for payload in odd).encode()
    translator = StreamTranslator(source, target, identity=IDENTITY)
    written = translator.feed(stream) + translator.finish()
    assert translator.done
    assert isinstance(events_of(written, target)[-1], Failed) is (translator.failure is not None)


@given(st.lists(st.binary(max_size=40), max_size=6), talks, talks)
def test_no_bytes_make_a_stream_raise(chunks, source, target) -> None:
    """Bytes that are no stream end in an error of the client's dialect."""
    translator = StreamTranslator(source, target, identity=IDENTITY)
    for chunk in chunks:
        translator.feed(chunk)
    translator.finish()
    assert translator.done


@given(
    st.integers(400, 599),
    object_values.map(json.dumps).map(str.encode) | st.binary(),
    st.sampled_from(ROUTES),
    st.sampled_from(ROUTES),
)
def test_every_error_answer_is_put_into_the_clients_shape(status, body, source, target) -> None:
    """Whatever the body of an error is, the client gets a text where its dialect has it."""
    error = translate_error(status, body, target=target, request_id="r")
    read = read_host_error(error.status, error.body)
    assert read.message
    assert (read.status, 400 <= error.status <= 599) == (error.status, True)


plain_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
plain_errors = st.builds(
    ApiError,
    message=plain_texts,
    status=st.integers(400, 599).filter(lambda status: status not in {401, 403, 529}),
    code=st.just("no_server_fits"),
)


@given(plain_errors, st.sampled_from(list(CODECS)))
def test_an_error_comes_back_as_it_was_written(error, family) -> None:
    """Text and status survive in every dialect, the code where the dialect has a place for it."""
    codec = codec_of(family)
    read = read_host_error(error.status, codec.write_error(error, "r"))
    assert (read.message, read.status) == (error.message, error.status)
    assert read.code in {error.code, UpstreamError.code}


@given(plain_errors, talks)
def test_an_error_ends_a_stream_and_comes_back(error, route) -> None:
    """The last words of a stream are read as a failure with the same text, whether or not it has begun."""
    tail = codec_of(route.family).write_stream_error(error, "r")
    last = events_of(tail, route)[-1]
    assert isinstance(last, Failed)
    assert last.error.message == error.message
    last = events_of(stream_of([Started(), TextDelta("x"), Failed(error)], route), route)[-1]
    assert isinstance(last, Failed)
    assert last.error.message == error.message


@given(talks, st.lists(plain_texts, max_size=3))
def test_a_heartbeat_says_nothing(route, words) -> None:
    """It may come before the first word, and a client of the dialect skips it."""
    codec = codec_of(route.family)
    beat = codec.heartbeat(route.path, IDENTITY, None) or b""
    beat += codec.heartbeat(route.path, IDENTITY, QueuePlace(2, 1.5)) or b""
    events = [Started(), *map(TextDelta, words), Finished(FinishReason.STOP, usage=Usage())]
    got = assembled(events_of(beat + beat + stream_of(events, route), route))
    assert joined_text(got.parts, "") == "".join(words)


@given(st.data(), chats)
def test_a_stream_of_any_dialect_tells_its_tokens(data, route) -> None:
    """The counts that pass by are those the answer was given."""
    reply = data.draw(replies())
    reader = UsageReader(route.family, streamed=True)
    for piece in cut(stream_of(data.draw(event_lists(reply)), route), data.draw(cuts())):
        reader.feed(piece)
    assert (reader.usage.prompt_tokens, reader.usage.completion_tokens, reader.usage.finished) == (
        reply.usage.input_tokens,
        reply.usage.output_tokens,
        True,
    )


@given(texts, st.integers(0, 3))
def test_what_is_refused_is_not_repeated(secret, place) -> None:
    """The text of an error names places in the body and never what stands there: prompts stay out of logs."""
    secret = "\N{SNOWMAN}" + secret
    bad: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": {"prompt": secret}}]},
        {"messages": [{"role": secret, "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "images": [secret + "!"]}]},
        {"messages": [{"role": "tool", "content": secret}]},
    ]
    try:
        translate_request(bad[place], source=OLLAMA_CHAT, target=OPENAI_CHAT, model="m")
        said = ""
    except UntranslatableRequest as error:
        said = str(error)
    assert secret not in said
