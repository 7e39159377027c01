"""Codex, Claude Code, opencode and aider, headless, on models of hosts of each dialect."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agents.programs import AIDER, CLAUDE_CODE, CODEX, OPENCODE, Program, Session
from support.desk import Desk
from support.scripted_hosts import Dialect, recited

PROGRAMS = (CODEX, CLAUDE_CODE, OPENCODE, AIDER)
WITH_TOOLS = (CODEX, CLAUDE_CODE, OPENCODE)
WITH_PICTURES = (CODEX, OPENCODE, AIDER)
Open = Callable[[Program], Session]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def open_session(
    desk: Desk,
    dialect: Dialect,
    installed: Path,
    tmp_path: Path,
    outside: Mapping[str, str],
) -> Callable[..., Session]:
    """Open a session with a program, with alice's token or another."""

    def opened(program: Program, token: str = desk.token) -> Session:
        if program is AIDER and not (installed / "aider").is_dir():
            pytest.skip("aider needs Python 3.11 or 3.12")
        if program is OPENCODE and not any((installed / "js" / "node_modules").glob("opencode-*")):
            pytest.skip("the build of opencode that is pinned is for Linux on x64")
        places = {"installed": installed, "folder": tmp_path, "outside": outside}
        return Session(program=program, desk=desk, dialect=dialect, token=token, **places)

    return opened


def named(program: Program) -> str:
    """The name of a test's program."""
    return program.name


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_text(open_session: Open, program: Program) -> None:
    """An answer is printed."""
    ran = open_session(program).run("[[say pong and ping]]")
    assert "pong and ping" in ran.output, ran.errors


@pytest.mark.parametrize("program", WITH_TOOLS, ids=named)
def test_tool(open_session: Open, program: Program) -> None:
    """A call is carried out, and its result reaches the model."""
    ran = open_session(program).run(program.running % "echo forty-$((6*7))")
    assert "the tool said" in ran.output, ran.errors
    assert "forty-42" in ran.output


def test_edit(open_session: Open) -> None:
    """Aider writes the file that the answer holds."""
    session = open_session(AIDER)
    ran = session.run("[[say greeting.txt\n```\nforty-two\n```\n]]")
    assert (session.work / "greeting.txt").read_text() == "forty-two\n", ran.output


@pytest.mark.parametrize("program", WITH_PICTURES, ids=named)
def test_picture(open_session: Open, program: Program, picture: bytes) -> None:
    """A picture given with the prompt reaches the model as it is; Claude Code can only read one."""
    session = open_session(program)
    path = session.work / "pic.png"
    path.write_bytes(picture)
    ran = session.run("[[look]]", pictures=[path])
    assert f"I see <image/png {hashlib.sha256(picture).hexdigest()[:16]}>" in ran.words, ran.errors


@pytest.mark.parametrize("program", WITH_TOOLS, ids=named)
def test_picture_that_a_tool_reads(open_session: Open, program: Program, picture: bytes) -> None:
    """A picture inside the result of a tool reaches the model as it is, and the session goes on after it."""
    session = open_session(program)
    path = session.work / "pic.png"
    path.write_bytes(picture)
    ran = session.run(program.reading % path)
    assert f"<image/png {hashlib.sha256(picture).hexdigest()[:16]}>" in ran.words, ran.errors
    assert "still here" in session.run("[[say still here]]", again=True).output


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_long_stream(open_session: Open, program: Program) -> None:
    """Two thousand pieces arrive, each once and in order."""
    assert recited(2000) in open_session(program).run("[[recite 2000]]").words


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_cancel(open_session: Open, program: Program) -> None:
    """Ctrl-C ends the generation at the host, not only on the screen."""
    session = open_session(program)
    host = session.desk.hosts[session.dialect]
    with session.start("[[forever]]") as process:
        host.wait_asked("[[forever]]")
        os.killpg(process.pid, signal.SIGINT)
        host.wait_left()


@pytest.mark.parametrize("dialect", [Dialect.OPENAI])
@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_wrong_token(open_session: Callable[..., Session], desk: Desk, program: Program) -> None:
    """The program ends by itself and shows the router's words; nothing reaches a host."""
    ran = open_session(program, token="orouter-wrong").run("[[say pong]]")
    assert "this token is unknown" in " ".join((ran.output + ran.errors).split())
    assert "pong" not in ran.output.replace("[[say pong]]", "")
    assert not any(host.seen for host in desk.hosts.values())


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_second_turn(open_session: Open, program: Program) -> None:
    """A conversation that is taken up again holds what was said on both sides."""
    session = open_session(program)
    session.run("[[say first things first]]")
    ran = session.run("[[recall]]", again=True)
    assert "you said 'first things first', I said 'first things first'" in ran.words, ran.errors


@pytest.mark.parametrize("dialect", [Dialect.OPENAI_RESPONSES])
def test_listed_search(open_session: Open, desk: Desk) -> None:
    """Codex's search, listed in each request, is passed to a host that can run it, if its use is granted."""
    open_session(CODEX).run("[[say pong]]")
    tools = desk.hosts[Dialect.OPENAI_RESPONSES].seen[-1].body["tools"]
    assert "web_search" in [tool["type"] for tool in tools]
