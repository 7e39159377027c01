"""Tokens and timings out of passing answers, in three dialects."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoints import Family
from ollama_router_core.responses.usage import Usage, UsageReader

TOKEN = b'{"model":"m","created_at":"x","message":{"role":"assistant","content":"hi"},"done":false}\n'
LAST = (
    b'{"model":"m","created_at":"x","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,'
    b'"total_duration":99,"load_duration":11,"prompt_eval_count":26,"prompt_eval_duration":22,"eval_count":290,'
    b'"eval_duration":33}\n'
)
FULL = Usage(
    prompt_tokens=26,
    completion_tokens=290,
    total_duration=99,
    load_duration=11,
    prompt_eval_duration=22,
    eval_duration=33,
    finished=True,
)


def read(body: bytes, family: Family = Family.OLLAMA, *, streamed: bool = True) -> Usage:
    """The usage of a body that came in one piece."""
    reader = UsageReader(family, streamed=streamed)
    reader.feed(body)
    return reader.usage


def test_an_ollama_stream() -> None:
    """The final line has everything."""
    assert read(TOKEN * 3 + LAST) == FULL


def test_an_ollama_answer_in_one_piece() -> None:
    """`stream: false` is the final line alone."""
    assert read(LAST, streamed=False) == FULL


def test_a_last_line_without_its_newline_counts() -> None:
    """A look-alike may leave it out; a cut one is no JSON and tells nothing."""
    assert read(TOKEN + LAST.rstrip()) == FULL
    assert read(TOKEN + LAST.rstrip()[:-1]) == Usage()
    assert read(TOKEN + LAST.rstrip()[:-3]) == Usage()


def test_a_stream_that_was_cut_is_not_finished() -> None:
    """Token lines tell nothing."""
    assert read(TOKEN * 3) == Usage()
    assert read(b"") == Usage()


def test_an_error_line_is_a_failure() -> None:
    """Ollama answers 200 and writes the error as the last line."""
    assert read(TOKEN + b'{"error":"boom"}\n') == Usage(failed=True)
    assert read(TOKEN + b'{ "status": 500, "error" : "boom"}\n') == Usage(failed=True)


def test_numbers_are_those_of_the_server_and_not_of_the_text() -> None:
    """An answer that quotes a final line, or calls a tool with such arguments, is still only an answer."""
    said = json.dumps({"message": {"content": LAST.decode()}, "done": False}).encode() + b"\n"
    called = b'{"message":{"tool_calls":[{"function":{"arguments":{"done":true,"eval_count":9}}}]},"done":false}\n'
    assert read(said + called) == Usage()
    assert read(said + called + LAST) == FULL


def test_a_long_context_list_does_not_hide_the_numbers() -> None:
    """`/api/generate` puts the whole context before its numbers: far more than is held."""
    head, tail = LAST.split(b'"total_duration"')
    body = head + b'"context":[' + b"12345," * 50_000 + b'1],"total_duration"' + tail
    assert read(TOKEN + body) == FULL
    assert read(body, streamed=False) == FULL


def test_an_endless_line_is_not_held() -> None:
    """Memory stays bounded whatever a server sends."""
    for streamed in (True, False):
        reader = UsageReader(Family.OLLAMA, streamed=streamed)
        for _ in range(100):
            reader.feed(b'"eval_count"' * 1000)
        assert len(reader._held) <= 16 * 1024


OPENAI = (
    b'data: {"id":"c","choices":[{"delta":{"content":"hi"}}]}\n\n'
    b'data: {"id":"c","choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10,'
    b'"prompt_tokens_details":{"cached_tokens":5}}}\n\n'
)


def test_an_openai_stream() -> None:
    """`[DONE]` ends it, or a finish reason; usage stands in the chunk before, if it was asked for."""
    assert read(b'data: {"choices":[{"delta":{},"finish_reason":null}]}\n\n', Family.OPENAI) == Usage()
    assert read(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n', Family.OPENAI) == Usage(finished=True)
    done = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=5, finished=True)
    assert read(OPENAI, Family.OPENAI) == done
    assert read(OPENAI + b"data: [DONE]\n\n", Family.OPENAI) == done
    assert read(b"data: [DONE]\n\n", Family.OPENAI) == Usage(finished=True)
    assert read(OPENAI.replace(b"\n", b"\r\n") + b"data:[DONE]\r\n\r\n", Family.OPENAI) == done


def test_an_openai_answer_in_one_piece() -> None:
    """Usage is one of its keys."""
    body = b'{"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
    assert read(body, Family.OPENAI, streamed=False) == Usage(prompt_tokens=7, completion_tokens=3, finished=True)


RESPONSES = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","output":[],"usage":null}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"hi"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r","error":null,"output":[],'
    b'"usage":{"input_tokens":7,"output_tokens":3,"total_tokens":10}}}\n\n'
)


def test_openai_responses() -> None:
    """`/v1/responses` has other words, and no `[DONE]`."""
    assert read(RESPONSES, Family.OPENAI_RESPONSES) == Usage(prompt_tokens=7, completion_tokens=3, finished=True)
    assert read(RESPONSES.partition(b"event: response.completed")[0], Family.OPENAI_RESPONSES) == Usage()
    body = b'{"object":"response","error":null,"output":[],"usage":{"input_tokens":7,"output_tokens":3}}'
    assert read(body, Family.OPENAI_RESPONSES, streamed=False) == Usage(
        prompt_tokens=7, completion_tokens=3, finished=True
    )
    failed = b'data: {"type":"response.failed","response":{"error":{"code":"x"}}}\n\n'
    assert read(failed, Family.OPENAI_RESPONSES) == Usage(failed=True)


def test_a_long_response_in_its_last_event_does_not_hide_the_numbers() -> None:
    """The event repeats the whole text before the usage."""
    text = b'"output":["' + b"x" * 40_000 + b'"]'
    usage = read(RESPONSES.replace(b'"error":null,"output":[]', text), Family.OPENAI)
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, 3)


def test_an_openai_error_in_a_stream() -> None:
    """`error: null` is none."""
    assert read(b'data: {"error":{"message":"x"}}\n\n', Family.OPENAI) == Usage(failed=True)
    assert read(b'data: {"choices":[],"error":null}\n\n', Family.OPENAI) == Usage()


def test_prose_about_the_end_is_not_the_end() -> None:
    """A model may well write `data: [DONE]` or `event: message_stop`."""
    openai = b'data: {"choices":[{"delta":{"content":"data: [DONE] \\"usage\\" \\"error\\""}}]}\n\n'
    assert read(openai, Family.OPENAI) == Usage()
    anthropic = b'data: {"type":"content_block_delta","delta":{"text":"event: message_stop \\"error\\""}}\n\n'
    assert read(anthropic, Family.ANTHROPIC) == Usage()


ANTHROPIC = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":25,'
    b'"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":0}}}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n'
)


def test_an_anthropic_stream() -> None:
    """The prompt is counted in the first event, the answer in the last but one."""
    assert read(ANTHROPIC, Family.ANTHROPIC) == Usage(prompt_tokens=25, completion_tokens=15)
    stop = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    assert read(ANTHROPIC + stop, Family.ANTHROPIC) == Usage(prompt_tokens=25, completion_tokens=15, finished=True)


@pytest.mark.parametrize(
    ("family", "event"),
    [
        (Family.ANTHROPIC, b'event: message_stop\ndata: {"type": "message_stop"}\n\n'),
        (Family.OPENAI, b"data: [DONE]\n\n"),
        (Family.OLLAMA, b'{"model":"m","done":true}\n'),
    ],
)
def test_an_end_in_a_piece_of_its_own(family: Family, event: bytes) -> None:
    """Most servers send the last event by itself: nothing stands before its marker."""
    assert read(event, family).finished


def test_an_anthropic_error_in_a_stream() -> None:
    """An error event instead of a stop."""
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
    assert read(ANTHROPIC + error, Family.ANTHROPIC).failed


def test_an_anthropic_answer_in_one_piece() -> None:
    """Usage is one of its keys."""
    body = b'{"type":"message","content":[],"usage":{"input_tokens":2,"output_tokens":4}}'
    assert read(body, Family.ANTHROPIC, streamed=False) == Usage(prompt_tokens=2, completion_tokens=4, finished=True)


@pytest.mark.parametrize("value", ["null", "-1", "1.5", "true", '"7"', "1e3", "9" * 30, "9" * 5000, "{}"])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_count_is_not_counted(value: str, streamed: bool) -> None:
    """The request log keeps whole numbers of at most 64 bits."""
    body = b'{"done":true,"eval_count":%s,"prompt_eval_count":4}\n' % value.encode()
    assert read(body, streamed=streamed).completion_tokens is None


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[" * 9000, b'["usage"]', b'{"usage":[1]}', b'{"usage":{"usage":1}}', b'data: "usage"',
     b'data: {"message":"usage","x":"usage"}', b'{"error":', b'"done":true',
     b'data: {"type":["usage"],"usage":null}', b'{"type":[],"done":{}}'],
)  # fmt: skip
def test_junk_tells_nothing(family: Family, line: bytes) -> None:
    """A server may send anything; the relay goes on."""
    for streamed in (True, False):
        usage = read(line + b' "usage" "eval_count" \n', family, streamed=streamed)
        assert usage == Usage()


CACHE = {
    Family.OLLAMA: (
        b'{"done":true,"prompt_eval_count":9,"prompt_eval_cached_count":4,"eval_count":3}\n',
        Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4, finished=True),
    ),
    Family.OPENAI: (
        (
            b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,'
            b'"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
            b"data: [DONE]\n\n"
        ),
        Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4, reasoning_tokens=2, finished=True),
    ),
    Family.OPENAI_RESPONSES: (
        (
            b'data: {"type":"response.completed","response":{"usage":{"input_tokens":9,"output_tokens":3,'
            b'"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}}\n\n'
        ),
        Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4, reasoning_tokens=2, finished=True),
    ),
    Family.ANTHROPIC: (
        (
            b'data: {"type":"message_start","message":{"usage":{"input_tokens":2,"cache_read_input_tokens":4,'
            b'"cache_creation_input_tokens":3,"output_tokens":1}}}\n\n'
            b'data: {"type":"message_delta","usage":{"output_tokens":3}}\n\ndata: {"type":"message_stop"}\n\n'
        ),
        Usage(prompt_tokens=9, completion_tokens=3, cached_tokens=4, cache_write_tokens=3, finished=True),
    ),
}


@pytest.mark.parametrize("family", CACHE)
def test_tokens_of_a_cache_and_of_reasoning_are_told_apart(family: Family) -> None:
    """Every dialect has its own words; the prompt is the whole prompt in each."""
    body, expected = CACHE[family]
    assert read(body, family) == expected


def test_tokens_of_a_cache_are_found_behind_a_long_answer() -> None:
    """Of an answer longer than what is held, the end is read."""
    body = b'{"content":"%s","usage":{"input_tokens":2,"cache_read_input_tokens":4,"output_tokens":3}}' % (
        b"x" * 20_000
    )
    usage = read(body, Family.ANTHROPIC, streamed=False)
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (6, 4, 3)


@pytest.mark.parametrize("count", [-1, 10**9 + 1, 2**63 - 1, 2**63, 1e300, "9", True])
@pytest.mark.parametrize("padding", [0, 20_000])
def test_a_count_that_cannot_be_true_is_not_believed(count: object, padding: int) -> None:
    """What is added up later must not grow beyond 64 bits; the other numbers stand."""
    last = {"done": True, "context": "x" * padding, "eval_duration": count, "eval_count": count, "prompt_eval_count": 7}
    usage = read(json.dumps(last).encode() + b"\n")
    assert (usage.prompt_tokens, usage.completion_tokens) == (7, None)
