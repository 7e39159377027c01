"""How many tokens an answer took: by the server's word, and without it."""

from __future__ import annotations

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.responses.token_counts import NO_TOKENS, TokenCounts, count_tokens
from ollama_router_core.responses.usage import UsageReader

CHAT = match_endpoint("POST", "/api/chat").endpoint
EMBED = match_endpoint("POST", "/api/embeddings").endpoint
OPENAI = match_endpoint("POST", "/v1/chat/completions").endpoint
MESSAGES = match_endpoint("POST", "/v1/messages").endpoint
TRANSCRIBE = match_endpoint("POST", "/v1/audio/transcriptions").endpoint
LINE = b'{"message":{"content":"a"},"done":false}\n'
CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'


def counted(body: bytes, endpoint=CHAT, *, streamed: bool = True, **route) -> TokenCounts:
    """The tokens of one answer to a request of about 100 tokens."""
    reader = UsageReader(endpoint.family, streamed=streamed)
    reader.feed(body)
    return count_tokens(reader, endpoint, RouteRequest(**{"prompt_tokens": 100, **route}))


def test_what_the_server_counted_is_believed() -> None:
    """Whatever the number of pieces was."""
    end = b'{"done":true,"prompt_eval_count":3,"eval_count":50}\n'
    assert counted(LINE * 7 + end) == TokenCounts(prompt=3, completion=50)


def test_a_stream_that_broke_off_took_a_token_for_each_piece() -> None:
    """The prompt's are those of the estimate."""
    assert counted(LINE * 7) == TokenCounts(prompt=100, completion=7, estimated=True)
    assert counted(CHUNK * 7, OPENAI) == TokenCounts(prompt=100, completion=7, estimated=True)


def test_a_stream_without_counts_is_estimated_though_it_ended() -> None:
    """A host that refuses `stream_options` counts nothing."""
    assert counted(CHUNK * 7 + b"data: [DONE]\n\n", OPENAI).completion == 7


def test_a_count_at_the_beginning_stands_for_what_came_before_it() -> None:
    """Anthropic tells the prompt first, with the first token of the answer."""
    begin = b'data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
    delta = b'data: {"type":"content_block_delta","delta":{"text":"a"}}\n\n'
    assert counted(begin + delta * 6, MESSAGES) == TokenCounts(prompt=9, completion=7, estimated=True)
    assert counted(begin, MESSAGES) == TokenCounts(prompt=9, completion=1)


def test_counts_in_every_chunk_are_not_added_to_its_pieces() -> None:
    """A host such as vLLM can tell the usage so far in each."""
    chunk = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":4,"completion_tokens":%d}}\n\n'
    assert counted(b"".join(chunk % n for n in range(1, 6)), OPENAI) == TokenCounts(prompt=4, completion=5)


def test_zeros_before_the_counts_are_no_counts() -> None:
    """Ollama writes them into every chunk of `/v1/completions` but the last."""
    chunk = b'data: {"choices":[{"text":"a"}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}\n\n'
    last = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":6,"total_tokens":10}}\n\n'
    assert counted(chunk * 6, OPENAI) == TokenCounts(prompt=100, completion=6, estimated=True)
    assert counted(chunk * 6 + last, OPENAI) == TokenCounts(prompt=4, completion=6)


def test_an_answer_in_one_piece_without_counts_is_estimated_by_its_length() -> None:
    """Vectors are no text: of those the prompt is counted."""
    text = b'{"choices":[{"message":{"content":"%s"}}]}' % (b"x" * 362)
    assert counted(text, OPENAI, streamed=False) == TokenCounts(prompt=100, completion=100, estimated=True)
    vectors = b'{"embedding":[%s]}' % b",".join([b"0.123456"] * 1000)
    assert counted(vectors, EMBED, streamed=False) == TokenCounts(prompt=100, completion=None, estimated=True)


@pytest.mark.parametrize("body", [b"", b'{"done":true,"done_reason":"load"}\n', b'{"error":"boom"}\n'])
def test_nothing_was_used_where_nothing_was_generated(body: bytes) -> None:
    """Loading a model, an error, an answer that never began."""
    assert counted(body) == NO_TOKENS
