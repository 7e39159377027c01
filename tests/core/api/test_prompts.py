"""What of a request a model reads, whatever the dialect it is written in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.prompts import PromptSize, size_of_prompt, size_of_text, usual_tokens
from ollama_router_core.api.strict_json import parse_object

PICTURE = "aGVsbG8h" * 1000


def size(**body: Any) -> PromptSize:
    """The size of a request with these members."""
    return size_of_prompt(parse_object(json.dumps({"model": "m", **body}).encode()))


def test_characters_are_counted_by_kind() -> None:
    """A tokenizer prices them differently: a digit is often a token of its own."""
    assert size_of_text("It's 42,\nжди 我") == PromptSize(
        messages=1, letters=3, digits=2, marks=2, lines=1, foreign=4, heavy=1
    )


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "Why is it blue?"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why is it blue?"}]}]},
        {
            "input": [
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Why is it blue?"}]}
            ]
        },
        {"input": "Why is it blue?"},
        {"prompt": "Why is it blue?"},
    ],
    ids=["ollama", "anthropic", "responses", "short", "generate"],
)
def test_the_same_words_are_the_same_size_in_every_dialect(body: dict[str, Any]) -> None:
    """Names of members, roles and ids are no part of what is read."""
    found = size(**body)
    assert (found.letters, found.marks, found.messages) == (11, 1, 1)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]},
        {"system": "Be brief.", "messages": [{"role": "user", "content": "Why?"}]},
        {"system": [{"type": "text", "text": "Be brief."}], "messages": [{"role": "user", "content": "Why?"}]},
        {"instructions": "Be brief.", "input": "Why?"},
        {"system": "Be brief.", "prompt": "Why?"},
    ],
)
def test_what_is_said_to_the_system_is_a_message_wherever_it_stands(body: dict[str, Any]) -> None:
    """A template dresses it in any case."""
    found = size(**body)
    assert (found.messages, found.letters, found.marks) == (2, 10, 2)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": "hi", "images": [PICTURE]}]},
        {"prompt": "hi", "images": [PICTURE]},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "hi"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": [
            {"type": "text", "text": "hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}]}]}]},
        {"input": [{"role": "user", "content": [
            {"type": "input_text", "text": "hi"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}]}]},
    ],
    ids=["ollama", "generate", "openai", "anthropic", "in a result", "responses"],
)  # fmt: skip
def test_a_picture_counts_as_one_and_its_bytes_as_nothing(body: dict[str, Any]) -> None:
    """Ten megabytes of base64 are no two million tokens."""
    found = size(**body)
    assert (found.images, found.letters + found.digits) == (1, 2)


def test_a_document_that_is_text_is_text() -> None:
    """Anthropic's `source` of the type `text` has it under the key that holds base64 elsewhere."""
    part = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hello"}}
    found = size(messages=[{"role": "user", "content": [part]}])
    assert (found.letters, found.images) == (5, 0)


def test_tools_and_calls_are_told_apart() -> None:
    """What describes a tool has a price of its own; what was called with is text of the conversation."""
    tool = {"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}
    call = {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a.py"}}
    found = size(messages=[{"role": "assistant", "content": [call]}], tools=[tool])
    assert found.tools == len(json.dumps([tool]))
    assert found.letters == len("read" + "path" + "apy")


def test_numbers_that_are_tokens_are_counted_as_such() -> None:
    """Ollama's `context`, and prompts of `/v1/completions` as lists of numbers."""
    assert size(prompt="hi", context=[1, 2, 3]).tokens == 3
    assert size(prompt=[1, 2, 3]).tokens == 3
    assert size(prompt=[[1, 2], [3]]).tokens == 3


def test_a_long_text_is_sampled() -> None:
    """The time for it is bounded; what is mixed evenly is found within 5 %."""
    text = "A line of words, 12 of them.\n" * 20_000
    whole, found = len(text), size_of_text(text)
    assert found.letters == pytest.approx(text.count("A") * 18, rel=0.05)
    assert found.letters + found.digits + found.marks + found.lines < whole


@given(st.text(), st.integers(0, 3))
def test_an_estimate_is_never_nothing(text: str, images: int) -> None:
    """Every prompt has a token, and whatever is added makes it longer."""
    assert 1 <= usual_tokens(size_of_text(text)) <= usual_tokens(size_of_text(text + "x1,\n", images=images))
