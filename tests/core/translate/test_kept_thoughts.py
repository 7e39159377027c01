"""Thoughts that a client cannot send back are put back for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.translate import (
    ConversationRoute,
    KeptThoughts,
    StreamTranslator,
    TurnThoughts,
    translate_reply,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES as ANTHROPIC
from ollama_router_core.translate.conversation import Thinking
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT as OLLAMA
from ollama_router_core.translate.openai.codec import OPENAI_CHAT as OPENAI
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES as RESPONSES
from support.conversations import IDENTITY, event_stream

HI = [{"role": "user", "content": "hi"}]
CALL = {"id": "call_8f21c9", "type": "function", "function": {"name": "f", "arguments": "{}"}}
GEMINI = {**CALL, "extra_content": {"google": {"thought_signature": "sig"}}}


def answer_of(host: ConversationRoute) -> dict[str, Any]:
    """An answer that thinks and calls."""
    if host is ANTHROPIC:
        thought = {"type": "thinking", "thinking": "hm", "signature": "sig"}
        return {"content": [thought, {"type": "tool_use", "id": "toolu_01AB", "name": "f", "input": {}}]}
    if host is RESPONSES:
        thought = {"type": "reasoning", "summary": [], "encrypted_content": "enc"}
        return {
            "output": [thought, {"type": "function_call", "call_id": "call_77aa01", "name": "f", "arguments": "{}"}]
        }
    message = {"content": None, "reasoning_content": "hm", "tool_calls": [GEMINI]}
    return {"choices": [{"message": message, "finish_reason": "tool_calls"}]}


def stream_of_host(host: ConversationRoute) -> bytes:
    """The same as a stream."""
    if host is not OPENAI:
        return event_stream(json.dumps(answer_of(host)).encode(), host)
    message = answer_of(host)["choices"][0]["message"]
    chunk = {"choices": [{"index": 0, "delta": message, "finish_reason": "tool_calls"}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"


def second_turn(client: ConversationRoute, answer: dict[str, Any]) -> dict[str, Any]:
    """What a client that keeps no thoughts sends after it made the call."""
    if client is OLLAMA:
        turn = {key: value for key, value in answer["message"].items() if key != "thinking"}
        return {"messages": [*HI, turn, {"role": "tool", "tool_name": "f", "content": "1"}], "think": True}
    if client is OPENAI:
        turn = {
            "role": "assistant",
            "content": None,
            "tool_calls": [dict(answer["choices"][0]["message"]["tool_calls"][0])],
        }
        turn["tool_calls"][0].pop("extra_content", None)
        result = {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": "1"}
        return {"messages": [*HI, turn, result], "reasoning_effort": "high"}
    if client is RESPONSES:
        call = next(item for item in answer["output"] if item["type"] == "function_call")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "1"}
        return {"input": [{"role": "user", "content": "hi"}, call, output]}
    call = next(block for block in answer["content"] if block["type"] == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "1"}
    return {"messages": [*HI, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]}


@pytest.mark.parametrize("client", [OLLAMA, OPENAI, ANTHROPIC, RESPONSES], ids=repr)
@pytest.mark.parametrize("host", [ANTHROPIC, OPENAI, RESPONSES], ids=repr)
@pytest.mark.parametrize("streamed", [False, True])
def test_what_led_to_a_call_comes_back_to_its_host(streamed, host, client) -> None:
    """Signed, encrypted, as `reasoning_content`, and Gemini's proof of the call itself; whole and streamed."""
    raw = json.dumps(answer_of(host)).encode()
    kept = KeptThoughts()
    if streamed:
        translator = StreamTranslator(host, OLLAMA, identity=IDENTITY)
        translator.feed(stream_of_host(host))
        translator.finish()
        assert translator.thoughts is not None
        kept.keep(1, translator.thoughts)
        given = json.loads(translate_reply(raw, source=host, target=client, identity=IDENTITY))
    else:
        given = json.loads(
            translate_reply(raw, source=host, target=client, identity=IDENTITY, keep=lambda turn: kept.keep(1, turn))
        )
    body = second_turn(client, given)
    sent = translate_request(body, source=client, target=host, model="m", recall=kept.recall(1))
    said = json.dumps(json.loads(sent.body))
    if host is ANTHROPIC:
        assert '{"type": "thinking", "thinking": "hm", "signature": "sig"}' in said
    elif host is RESPONSES:
        assert '"encrypted_content": "enc"' in said
    else:
        assert '"reasoning_content": "hm"' in said
        assert '"thought_signature": "sig"' in said
    other = translate_request(body, source=client, target=host, model="m", recall=kept.recall(2))
    assert b"hm" not in other.body
    assert b"enc" not in other.body.replace(b"reasoning.encrypted_content", b"")


def turn(name: str, size: int = 10) -> TurnThoughts:
    """Thoughts of some size that led to one call."""
    return TurnThoughts((Thinking("x" * size, "sig"),), ((name, ""),))


def test_a_user_cannot_make_it_grow() -> None:
    """The oldest of the same user go first, and none of another's."""
    kept = KeptThoughts(user_chars=3000, all_chars=9000)
    kept.keep(2, turn("call_theirs", 1000))
    for number in range(20):
        kept.keep(1, turn(f"call_id_{number}", 1000))
    mine, theirs = kept.recall(1), kept.recall(2)
    assert [mine(f"call_id_{number}") is not None for number in range(16, 20)] == [False, False, True, True]
    assert theirs("call_theirs") is not None


def test_all_users_together_cannot_make_it_grow() -> None:
    """Who has been away longest loses first."""
    kept = KeptThoughts(user_chars=3000, all_chars=5000)
    for user in range(10):
        kept.keep(user, turn("call_id_0", 1000))
    assert [kept.recall(user)("call_id_0") is not None for user in range(10)] == [False] * 7 + [True] * 3


def test_what_no_host_wants_back_is_not_kept() -> None:
    """Thoughts without a proof, without a call, or too large."""
    kept = KeptThoughts()
    kept.keep(1, TurnThoughts((Thinking("x"),), (("call_id_0", ""),)))
    kept.keep(1, TurnThoughts((Thinking("x", "sig"),), ()))
    kept.keep(1, turn("call_id_0", 10**6))
    assert kept.recall(1)("call_id_0") is None


def test_the_same_call_again_replaces_what_was_kept() -> None:
    """A request that was tried again has the same calls."""
    kept = KeptThoughts()
    kept.keep(1, turn("call_id_0", 1))
    kept.keep(1, turn("call_id_0", 2))
    found = kept.recall(1)("call_id_0")
    assert found is not None
    assert found.thoughts[0].text == "xx"


@pytest.mark.parametrize("name", ["call_0", "0", "functions.read:0"])
def test_what_led_to_a_call_without_an_id_of_its_own_is_not_kept(name) -> None:
    """It would come back in another conversation of the same user."""
    kept = KeptThoughts()
    kept.keep(1, turn(name))
    assert kept.recall(1)(name) is None
