"""openai-node, Anthropic's JavaScript, ollama-js, Vercel's AI SDK and LangChain on hosts of each dialect."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents.libraries import LIBRARIES, Libraries, run_libraries
from support.desk import Desk
from support.scripted_hosts import Dialect, Picture, recited

Library = Callable[..., Mapping[str, Any]]
LEAVING = [name for name in LIBRARIES if name != "langchain-js ollama"]
"""Those that close the connection of a stream that they leave; ChatOllama in JavaScript lets the server go on."""


@pytest.fixture(scope="module")
def libraries(installed: Path, outside: Mapping[str, str]) -> Iterator[Libraries]:
    """The processes with the libraries."""
    with run_libraries(installed, outside) as running:
        yield running


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, desk: Desk, dialect: Dialect, libraries: Libraries) -> Library:
    """A library, on the model of the host."""
    return partial(libraries.ask, request.param, url=desk.url, token=desk.token, model=desk.model(dialect))


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def stream(request: pytest.FixtureRequest) -> bool:
    """Whether the answer is asked for as a stream."""
    return bool(request.param)


def user(text: str, **more: str) -> Mapping[str, Any]:
    """What the user says."""
    return {"role": "user", "text": text, **more}


def test_text(library: Library, stream: bool) -> None:
    """The text is the host's."""
    assert library(messages=[user("[[say pong and ping]]")], stream=stream).get("text") == "pong and ping"


def test_tool(library: Library, stream: bool) -> None:
    """A call comes as the model made it; its result goes back to the model, which answers."""
    asked = user('[[call weather {"town": "Örebro"}]]')
    first = library(messages=[asked], tools=True, stream=stream)
    call = first["call"]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"town": "Örebro"})
    turns = [asked, {"role": "assistant", "text": "", "call": call}, {"role": "tool", "text": "rain", "call": call}]
    assert library(messages=turns, tools=True, stream=stream).get("text") == "the tool said: rain"


def test_picture(library: Library, picture: bytes, desk: Desk, dialect: Dialect) -> None:
    """A picture reaches the model byte for byte."""
    library(messages=[user("[[look]]", image=base64.b64encode(picture).decode())], stream=False)
    assert desk.hosts[dialect].seen[-1].pictures == (Picture.of("image/png", picture),)


def test_long_stream(library: Library) -> None:
    """Two thousand pieces arrive, each once and in order, and more than one at a time."""
    given = library(messages=[user("[[recite 2000]]")], stream=True)
    assert given.get("text") == recited(2000)
    assert given["pieces"] > 100


@pytest.mark.parametrize("library", LEAVING, indirect=True)
def test_cancel(library: Library, desk: Desk, dialect: Dialect) -> None:
    """A client that leaves the stream ends the generation at the host."""
    given = library(messages=[user("[[forever]]")], stream=True, leaveAfter=3)
    assert "error" in given
    desk.hosts[dialect].wait_left()


def test_second_turn(library: Library, stream: bool) -> None:
    """What was said on both sides is there in the next turn."""
    turns = [user("[[say first]]"), {"role": "assistant", "text": "first"}, user("[[recall]]")]
    assert library(messages=turns, stream=stream).get("text") == "you said 'first', I said 'first'"


@pytest.mark.parametrize("name", LIBRARIES)
def test_wrong_token(desk: Desk, stream: bool, libraries: Libraries, name: str) -> None:
    """The library's error has the router's words; nothing is asked of a host."""
    asked = {"messages": [user("[[say pong]]")], "model": desk.model(Dialect.OPENAI), "stream": stream}
    error = libraries.ask(name, url=desk.url, token="orouter-wrong", **asked)["error"]
    assert error["status"] == 401
    assert "this token is unknown" in error["message"]
    assert not any(host.seen for host in desk.hosts.values())
