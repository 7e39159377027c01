"""The suite against simulated servers: what it sees on the wire, what it asks for, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from conformance.__main__ import main
from conformance.catalogue import exchanges
from conformance.catalogue.building import post
from conformance.playing import play
from conformance.subject import NoModelError, discover
from conformance.wire import Answer, Request, Server
from ollama_router_core.testing import Cut, SimulatorThread, StreamError

MODELS = ["llama3.1:8b", "llama3.2:1b", "qwen3:8b", "gemma3:12b", "nomic-embed-text"]


@pytest.fixture(scope="module")
def one() -> Iterator[SimulatorThread]:
    """A simulated server."""
    with SimulatorThread(models=MODELS, answer_tokens=8) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def server(one: SimulatorThread) -> Server:
    """The same, as the suite sees it."""
    return Server(url=one.url, timeout=20)


def chat(**more: object) -> Request:
    """A request with an answer of eight tokens."""
    body = {"model": "llama3.2:1b", "messages": [{"role": "user", "content": "hi"}], **more}
    return Request(method="POST", path="/api/chat", body=json.dumps(body).encode())


def test_chunks_are_seen_as_they_were_framed(server: Server) -> None:
    """One line for each token and one for the end, each in a chunk of its own."""
    answer = server.ask(chat())
    assert (answer.status, answer.framing, answer.reusable) == (200, "chunked", True)
    assert [chunk.count(b"\n") for chunk in answer.chunks] == [1] * 9


def test_framing_is_seen(server: Server) -> None:
    """A short answer has a length; one to HEAD has no body."""
    assert server.ask(chat(stream=False)).framing == "length"
    head = server.ask(Request(method="HEAD", path="/api/version"))
    assert (head.framing, head.body) == ("length", b"")


def test_100_continue_is_seen(server: Server) -> None:
    """The interim answer is kept, and the body is sent after it."""
    answer = server.ask(replace(chat(stream=False), expects=True))
    assert (answer.interim, answer.status) == ((100,), 200)


def test_one_connection_serves_many(server: Server, one: SimulatorThread) -> None:
    """A series goes over one connection."""
    before = one.simulator.connections
    answers = server.ask_all([chat(), Request(method="GET", path="/nope"), chat(stream=False)])
    assert [answer.status for answer in answers] == [200, 404, 200]
    assert one.simulator.connections == before + 1


def test_a_cut_answer_is_a_problem(server: Server, one: SimulatorThread) -> None:
    """What breaks off is not taken for complete, and nothing more is sent on that connection."""
    one.simulator.misbehave(Cut(after_chunks=2), times=1)
    first, second = server.ask_all([chat(), chat()])
    assert first.problem is not None
    assert len(first.chunks) == 2
    assert second.status == 0


class Moody:
    """A server whose fourth answer to the same question is another one, as cached prompts make a runner do."""

    def __init__(self) -> None:
        self.texts = iter([b"A", b"A", b"A", *[b"B"] * 9])

    def ask_all(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer each."""
        return [Answer(status=200, framing="length", chunks=(next(self.texts),), reusable=True) for _ in requests]


def test_what_differs_only_at_first_is_unsteady() -> None:
    """A difference is the router's if it is there each time the two are asked, one after the other."""
    moody, steady = cast("Server", Moody()), Server(url="http://127.0.0.1:9", timeout=5)
    asked = post("group", "name", "/api/chat", {})
    moody.ask_all(asked.requests * 2)
    (once,) = play([(asked, asked)], moody, moody, ("", ""))
    assert (once.different, once.unsteady) == ((), ("body $",))
    (always,) = play([(asked, asked)], moody, steady, ("", ""))
    assert "status" in {difference.where for difference in always.different}


def test_nobody_there_is_a_problem() -> None:
    """A refused connection is an answer with a problem, not an exception."""
    assert Server(url="http://127.0.0.1:9", timeout=5).ask(chat()).problem == "no connection: ConnectionRefusedError"


def test_the_smallest_models_are_chosen(server: Server) -> None:
    """By size among those that can."""
    subject = discover(server)
    assert (subject.model, subject.embedding) == ("llama3.2:1b", "nomic-embed-text:latest")
    assert (subject.thinking, subject.vision, subject.hearing) == ("qwen3:8b", "gemma3:12b", None)
    assert subject.at_least(0, 30)


def test_a_server_that_cannot_speak_is_refused() -> None:
    """Embedding models alone are not enough."""
    with SimulatorThread(models=["nomic-embed-text"]) as simulator, pytest.raises(NoModelError, match="pull a small"):
        discover(Server(url=simulator.url, timeout=5))


def test_two_nonces_give_the_same_exchanges(server: Server) -> None:
    """Both sides play the same; names made here are theirs alone, and nothing else is written to."""
    subject = discover(server)
    here, there = (exchanges(subject, nonce=nonce, destructive=True) for nonce in ("aaaa", "bbbb"))
    assert [(one.group, one.name) for one in here] == [(one.group, one.name) for one in there]
    assert len({(one.group, one.name) for one in here}) == len(here) > 700


def test_nothing_is_created_or_deleted_unasked(server: Server) -> None:
    """Without the option no request could change a library."""
    for exchange in exchanges(discover(server), nonce="aaaa", destructive=False):
        for request in exchange.requests:
            names = b"orouter-conformance-aaaa" in (request.body or b"")
            assert not names
            if request.path in {"/api/create", "/api/copy", "/api/delete", "/api/pull", "/api/push"}:
                assert exchange.group in {"wrong methods", "empty bodies", "broken bodies", "wrong types"}


def test_a_server_is_like_itself(one: SimulatorThread, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No relay, no difference: exit 0, a table, and the same as JSON."""
    result = tmp_path / "result.json"
    arguments = ["--direct", one.url, "--through", one.url, "--only", "reading", "--json", str(result)]
    assert main(arguments) == 0
    assert "total" in capsys.readouterr().out
    written = json.loads(result.read_text())
    assert (written["totals"]["different"], written["different"]) == (0, [])


def test_another_server_is_not(one: SimulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, and the difference with both sides."""
    with SimulatorThread(models=MODELS, version="0.31.0") as other:
        assert main(["--direct", one.url, "--through", other.url, "--only", "GET /api/version"]) == 1
    shown = capsys.readouterr().out
    assert "body $.version" in shown
    assert "0.31.0" in shown


def test_an_error_in_a_stream_is_found(one: SimulatorThread, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes wrong only once is not excused by asking the server again."""
    with SimulatorThread(models=MODELS, answer_tokens=8) as other:
        other.simulator.misbehave(StreamError(after_chunks=3))
        assert main(["--direct", one.url, "--through", other.url, "--only", "chat: stream true"]) == 1
    assert "DIFFERENT  chat: stream true" in capsys.readouterr().out


def test_nothing_to_play_with(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and why."""
    assert main(["--direct", "http://127.0.0.1:9", "--through", "http://127.0.0.1:9"]) == 2
    assert "does not answer GET /api/tags" in capsys.readouterr().err
