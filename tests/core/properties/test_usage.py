"""Laws of reading usage."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.endpoints import Family
from ollama_router_core.responses.usage import Usage, UsageReader
from ollama_router_core.translate.token_counts import MAX_COUNT
from support.json_texts import cut, cuts, texts, values

counts = st.integers(0, MAX_COUNT)
words = texts | st.sampled_from(['"eval_count":1', "data: [DONE]", "message_stop", '"usage"', "\n\n", "x" * 9000])
filler = st.sampled_from([0, 1, 16_000, 16_384, 17_000, 40_000])


PIECES = {
    Family.OLLAMA: b'{"message":{"content":"a"},"done":false}\n',
    Family.OPENAI: b'data: {"choices":[{"delta":{"content":"a"}}],"usage":null}\n\n',
    Family.OPENAI_RESPONSES: b'event: x\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
    Family.ANTHROPIC: b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"a"}}\n\n',
}
BEGINNINGS = dict.fromkeys(Family, b"") | {
    Family.ANTHROPIC: b'event: message_start\ndata: {"type":"message_start",'
    b'"message":{"usage":{"input_tokens":9,"output_tokens":0}}}\n\n'
}


def lines(payloads: list[str], prefix: str, end: str) -> bytes:
    """Payloads as a stream of lines."""
    return "".join(f"{prefix}{payload}{end}" for payload in payloads).encode()


@st.composite
def streams(draw: st.DrawFn) -> tuple[Family, bytes, Usage]:
    """A whole stream in one of the dialects and the usage it tells."""
    family = draw(st.sampled_from(Family))
    said = draw(st.lists(words, max_size=4))
    prompt, answer = draw(counts), draw(counts)
    usage = Usage(prompt_tokens=prompt, completion_tokens=answer, finished=True)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    if family is Family.OLLAMA:
        tokens = [json.dumps({"message": {"content": word}, "done": False}, separators=(",", ":")) for word in said]
        last = {"done": True, "context": "x" * draw(filler), "prompt_eval_count": prompt, "eval_count": answer}
        return family, lines([*tokens, json.dumps(last, separators=(",", ":"))], "", end), usage
    if family is Family.OPENAI:
        tokens = [json.dumps({"choices": [{"delta": {"content": word}}]}) for word in said]
        last = {"choices": "x" * draw(filler), "usage": {"prompt_tokens": prompt, "completion_tokens": answer}}
        return family, lines([*tokens, json.dumps(last), "[DONE]"], "data: ", end * 2), usage
    if family is Family.OPENAI_RESPONSES:
        tokens = [json.dumps({"type": "response.output_text.delta", "delta": word}) for word in said]
        counted = {"input_tokens": prompt, "output_tokens": answer}
        last = {"type": "response.completed", "response": {"output": "x" * draw(filler), "usage": counted}}
        return family, lines([*tokens, json.dumps(last)], f"event: x{end}data: ", end * 2), usage
    tokens = [json.dumps({"type": "content_block_delta", "delta": {"text": word}}) for word in said]
    first = json.dumps({"type": "message_start", "message": {"usage": {"input_tokens": prompt, "output_tokens": 1}}})
    last = {"type": "message_delta", "pad": "x" * draw(filler), "usage": {"output_tokens": answer}}
    stop = '{"type":"message_stop"}'
    return family, lines([first, *tokens, json.dumps(last), stop], f"event: x{end}data: ", end * 2), usage


@given(streams(), cuts())
def test_however_a_stream_is_cut_the_usage_is_the_same(
    stream: tuple[Family, bytes, Usage], places: list[float]
) -> None:
    """Pieces may end anywhere: in a key, in a number, between CR and LF."""
    family, body, expected = stream
    reader = UsageReader(family, streamed=True)
    for piece in cut(body, places):
        reader.feed(piece)
    assert reader.usage == expected
    assert reader.uncounted == 0 or expected.completion_tokens == 0


@given(st.sampled_from(Family), st.integers(0, 50), cuts())
def test_a_stream_that_breaks_off_is_counted_by_its_pieces(family: Family, pieces: int, places: list[float]) -> None:
    """However its bytes are cut, and whatever a count at its beginning says."""
    reader = UsageReader(family, streamed=True)
    for piece in cut(BEGINNINGS[family] + PIECES[family] * pieces, places):
        reader.feed(piece)
    assert (reader.usage.finished, reader.uncounted) == (False, pieces)


junk = st.lists(
    st.binary(max_size=30)
    | st.sampled_from([b"\n", b"data: ", b'{"done":true', b'"eval_count":', b"12", b",", b"}", b'"usage"', b"x" * 9000])
    | values.map(lambda value: json.dumps(value).encode()),
    max_size=30,
).map(b"".join)


@given(st.sampled_from(Family), st.booleans(), junk, cuts(30))
def test_the_same_holds_for_any_bytes(family: Family, streamed: bool, body: bytes, places: list[float]) -> None:
    """And asking in between changes nothing."""
    whole, cut_up = UsageReader(family, streamed=streamed), UsageReader(family, streamed=streamed)
    whole.feed(body)
    for piece in cut(body, places):
        before = bytes(piece)
        cut_up.feed(piece)
        assert piece == before
        _ = cut_up.usage
    assert cut_up.usage == whole.usage


@given(st.sampled_from(Family), st.booleans(), junk)
def test_byte_by_byte_is_no_special_case(family: Family, streamed: bool, body: bytes) -> None:
    """The worst cut there is."""
    body = body[:2000]
    whole, dripped = UsageReader(family, streamed=streamed), UsageReader(family, streamed=streamed)
    whole.feed(body)
    for byte in body:
        dripped.feed(bytes([byte]))
    assert dripped.usage == whole.usage
