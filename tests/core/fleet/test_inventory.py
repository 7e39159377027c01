"""One round of questions to a server about its models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ollama_router_core.config.settings import ModelSettings
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.inventory import PollReply, PollRequest, poll_models
from ollama_router_core.fleet.snapshot import ServerFacts
from support.work import calls

TAGS = {"models": [{"name": "m:1b", "size": 5, "digest": "d1"}, {"name": "n:1b", "size": 6, "digest": "d2"}]}
SHOW = {"model_info": {"general.architecture": "llama", "llama.block_count": 3}, "capabilities": ["completion"]}
REPLIES: dict[str, Any] = {"/api/tags": TAGS, "/api/ps": {"models": []}, "/api/show": SHOW}


class Notes:
    """Facts in a dictionary."""

    def __init__(self, *names: str) -> None:
        self.servers: Mapping[str, ServerFacts] = {name: ServerFacts(name=name, up=True) for name in names}

    def update(self, name: str, change: Callable[[ServerFacts], ServerFacts]) -> None:
        """Swap in new facts."""
        self.servers = {**self.servers, name: change(self.servers[name])}


def play(
    book: Notes,
    replies: Mapping[str, Any],
    *,
    name: str = "a",
    now: float = 1.0,
    models: ModelSettings | None = None,
    unusable: Callable[[UpstreamProtocolError], None] = lambda _: None,
) -> list[PollRequest]:
    """Answer every question of a round; None stands for no answer, a number for that status."""
    asked = []
    steps = poll_models(name, book, models or ModelSettings(), now=now, unusable=unusable)
    told: PollReply | None = None
    while True:
        try:
            question = steps.send(told) if asked else next(steps)
        except StopIteration:
            return asked
        asked.append(question)
        reply = replies.get(question.path, 404)
        told = None
        if isinstance(reply, int):
            told = PollReply(reply, b"{}", now, now, now)
        elif reply is not None:
            told = PollReply(200, reply if isinstance(reply, bytes) else json.dumps(reply).encode(), now, now, now)


def paths(asked: list[PollRequest]) -> list[str]:
    """What was asked, in order."""
    return [one.path for one in asked]


def test_a_first_round_asks_for_everything() -> None:
    """Lists, memory, and what each model is made of."""
    book = Notes("a")
    asked = play(book, REPLIES)
    assert paths(asked) == ["/api/tags", "/api/ps", "/api/show", "/api/show"]
    assert asked[2].body == b'{"model": "m:1b"}'
    installed = book.servers["a"].installed
    assert installed is not None
    assert [model.facts is not None for model in installed.values()] == [True, True]


def test_what_is_known_is_not_asked_again() -> None:
    """The list until it has grown old, a digest once in the whole fleet; memory always."""
    book = Notes("a", "b")
    play(book, REPLIES)
    assert paths(play(book, REPLIES, now=2.0)) == ["/api/ps"]
    assert paths(play(book, REPLIES, name="b")) == ["/api/tags", "/api/ps"]
    assert paths(play(book, REPLIES, now=400.0)) == ["/api/tags", "/api/ps"]
    always = ModelSettings(cache_model_info=False)
    assert paths(play(book, REPLIES, now=3.0, models=always)) == ["/api/tags", "/api/ps"]


def test_a_question_without_answer_ends_nothing_but_a_row_of_the_same() -> None:
    """A server that does not give one list may give the other; one that hangs is not asked about each model."""
    book = Notes("a")
    assert paths(play(book, {**REPLIES, "/api/tags": None})) == ["/api/tags", "/api/ps"]
    assert paths(play(book, {**REPLIES, "/api/ps": None, "/api/show": None})) == ["/api/tags", "/api/ps", "/api/show"]
    assert paths(play(book, {**REPLIES, "/api/show": 404}, now=2.0)) == ["/api/ps", "/api/show", "/api/show"]


def test_a_body_that_is_none_of_its_routes_is_told_and_changes_nothing() -> None:
    """The round goes on."""
    book, told = Notes("a"), []
    play(book, {**REPLIES, "/api/ps": b"<html>"}, unusable=told.append)
    assert len(told) == 1
    assert book.servers["a"].loaded_at is None
    assert book.servers["a"].installed


def test_one_digest_is_asked_about_once_however_many_names_it_has() -> None:
    """2,000 names of one model cost one question, and calls in proportion to their number."""

    def work(count: int) -> int:
        rows = [{"name": f"m{number}-{count}:1b", "size": 5, "digest": "d"} for number in range(count)]
        book = Notes("a")
        replies = {**REPLIES, "/api/tags": {"models": rows}}
        asked: list[PollRequest] = []
        made = calls(lambda: asked.extend(play(book, replies)))
        assert paths(asked) == ["/api/tags", "/api/ps", "/api/show"]
        assert all(model.facts is not None for model in (book.servers["a"].installed or {}).values())
        return made

    assert work(2000) <= 2.1 * work(1000)


def test_a_list_beyond_the_cap_is_refused() -> None:
    """120,000 rows are no models; what was known stays."""
    rows = json.dumps({"models": [{"name": f"m{number}"} for number in range(120_000)]}).encode()
    errors: list[UpstreamProtocolError] = []
    book = Notes("a")
    assert paths(play(book, {**REPLIES, "/api/tags": rows}, unusable=errors.append)) == ["/api/tags", "/api/ps"]
    assert book.servers["a"].installed is None
    assert len(errors) == 1


def test_a_round_asks_about_so_many_models_and_the_next_goes_on() -> None:
    """A server of many models is known after some rounds."""
    rows = [{"name": f"m{number}:1b", "size": 5, "digest": f"d{number}"} for number in range(250)]
    book = Notes("a")
    replies = {**REPLIES, "/api/tags": {"models": rows}}
    assert paths(play(book, replies)).count("/api/show") == 200
    assert paths(play(book, replies)).count("/api/show") == 50


def test_members_that_are_no_numbers_are_named() -> None:
    """The operator reads which, the model is known without them."""
    tags = b'{"models":[{"name":"m:1b","digest":"d","size":1e999,"details":{"context_length":1e999}}]}'
    errors: list[UpstreamProtocolError] = []
    book = Notes("a")
    play(book, {**REPLIES, "/api/tags": tags}, unusable=errors.append)
    (model,) = (book.servers["a"].installed or {}).values()
    assert (model.size, model.context_length) == (0, None)
    assert [error.message for error in errors] == [
        "the server's answer has members that are no numbers, left out: 'context_length', 'size'"
    ]
