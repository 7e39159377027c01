"""Conversations are told apart without keeping a word of them, and forgotten when no slot can hold them any more."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoint_matching import match_endpoint
from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import parse_request
from ollama_router_core.fleet.prefixes import HeldPrefix, Prefixes, conversation_of

MODEL = canonical_name("llama3.1:8b")
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
FIRST = {"role": "user", "content": "What is a router?"}
ANSWER = {"role": "assistant", "content": "A box."}
SECOND = {"role": "user", "content": "Why?"}


def number(*messages, user="alice", model="m", path="/api/chat", key=b"k", **more):
    """The number of a conversation."""
    body = json.dumps({"model": model, "messages": list(messages), **more}).encode()
    return conversation_of(parse_request(match_endpoint("POST", path), body), user, key)


class TestTelling:
    """Which turns belong together."""

    def test_every_turn_has_the_number_of_the_first(self):
        """Clients send all turns again; what comes later changes nothing."""
        assert number(SYSTEM, FIRST) == number(SYSTEM, FIRST, ANSWER, SECOND)

    def test_the_number_is_the_same_for_all_who_have_the_key(self):
        """Routers tell each other; without the key no text can be found by trying. Lone surrogates are no obstacle."""
        assert number(FIRST, key=b"k") == 15_374_766_598_807_271_543
        assert number(FIRST, key=b"other") != number(FIRST, key=b"k")
        assert number({"role": "user", "content": "\ud800"}) is not None

    @pytest.mark.parametrize(
        "other",
        [
            number(SYSTEM, SECOND),
            number(FIRST),
            number(SYSTEM, FIRST, user="bob"),
            number(SYSTEM, FIRST, model="other"),
            number(FIRST, system="You are rude."),
        ],
        ids=["another start", "no start", "another user", "another model", "another system prompt"],
    )
    def test_another_start_user_or_model_is_another(self, other):
        """Nothing of one is told to another."""
        assert number(SYSTEM, FIRST) != other

    def test_parts_count_like_texts(self):
        """OpenAI's and Anthropic's lists of parts; pictures are not looked at."""
        parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
        others = [{"type": "text", "text": "What is that?"}]
        path = "/v1/chat/completions"
        assert number({"role": "user", "content": parts}, path=path) is not None
        assert number({"role": "user", "content": parts}, path=path) != number(
            {"role": "user", "content": others}, path=path
        )

    @pytest.mark.parametrize("body", [{"prompt": "x"}, {"messages": ["x"]}])
    def test_what_is_no_conversation_has_none(self, body):
        """A prompt alone, or what a server will refuse."""
        path = "/api/generate" if "prompt" in body else "/api/chat"
        request = parse_request(match_endpoint("POST", path), json.dumps({"model": "m", **body}).encode())
        assert conversation_of(request, "alice", b"k") is None


class TestPrefixes:
    """As many conversations as there are slots."""

    def test_the_last_one_of_each_slot_is_held(self):
        """With two slots the third pushes out the first."""
        prefixes = Prefixes()
        for conversation in (1, 2, 3):
            prefixes.answered(conversation, "a", "m", tokens=100, slots=2)
        assert [prefixes.of(one) for one in (1, 2, 3)] == [None, HeldPrefix("a", 100), HeldPrefix("a", 100)]
        assert len(prefixes) == 2

    def test_a_turn_elsewhere_moves_it(self):
        """What the first server still has is behind by a turn."""
        prefixes = Prefixes()
        prefixes.answered(1, "a", "m", tokens=100, slots=1)
        prefixes.answered(1, "b", "m", tokens=300, slots=1)
        prefixes.answered(2, "a", "m", tokens=50, slots=1)
        assert prefixes.of(1) == HeldPrefix("b", 300)
        assert prefixes.of(2) == HeldPrefix("a", 50)

    def test_an_unloaded_model_holds_nothing(self):
        """Only that model, only there."""
        prefixes = Prefixes()
        prefixes.answered(1, "a", "m", tokens=100, slots=1)
        prefixes.answered(2, "a", "n", tokens=100, slots=1)
        prefixes.answered(3, "b", "m", tokens=100, slots=1)
        prefixes.forget_model("a", "m")
        assert [prefixes.of(one) is None for one in (1, 2, 3)] == [True, False, False]

    def test_ten_thousand_conversations_leave_one_a_slot(self):
        """Bounded by the fleet, not by the clients."""
        prefixes = Prefixes()
        for conversation in range(10_000):
            prefixes.answered(conversation, "ab"[conversation % 2], "m", tokens=10, slots=4)
        assert len(prefixes) == 8


def test_a_server_that_tells_its_cache_teaches_how_much_it_keeps() -> None:
    """A model that never finds a prompt again (a cache of windows, another client's request) loses its advantage."""
    prefixes = Prefixes()
    for turn in range(8):
        prefixes.was_cached(7, "a", 0)
        prefixes.answered(7, "a", MODEL, tokens=1000 * (turn + 1), slots=1)
    held = prefixes.of(7)
    assert held is not None
    assert held.tokens < 0.2 * 8000
    for turn in range(8):
        prefixes.was_cached(7, "a", 1000 * (turn + 8))
        prefixes.answered(7, "a", MODEL, tokens=1000 * (turn + 9), slots=1)
    assert prefixes.of(7).tokens > 0.8 * 16_000


def test_what_other_servers_cached_teaches_nothing() -> None:
    """A turn that went elsewhere found nothing there, as was expected."""
    prefixes = Prefixes()
    prefixes.answered(7, "a", MODEL, tokens=1000, slots=1)
    prefixes.was_cached(7, "b", 0)
    prefixes.was_cached(8, "a", 0)
    assert prefixes.of(7) == HeldPrefix("a", 1000)
