"""`orouter connect`: where the token comes from, and that it is never shown."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.fixture
def served(monkeypatch):
    """What would have been served."""
    calls = []

    async def serve_shim(address, token, sock, *, ready, refused):
        calls.append((address, token, sock.getsockname()[0]))
        ready()
        refused()

    monkeypatch.setattr("ollama_router_cli.commands.connect.serve_shim", serve_shim)
    return calls


def test_the_token_comes_from_a_file_or_the_environment(cli, served, tmp_path, monkeypatch):
    """Never from the command line, where every process can read it."""
    file = tmp_path / "token"
    file.write_text("from-file\n")
    result = cli("connect", "http://box:1", "--port", "0", "--token-file", str(file))
    assert result.code == 0
    assert result.out.startswith("listening on http://127.0.0.1:")
    assert "401" in result.err
    monkeypatch.setenv("OROUTER_TOKEN", "from-variable")
    assert cli("connect", "http://box:1", "--port", "0").code == 0
    assert [(token, host) for _, token, host in served] == [("from-file", "127.0.0.1"), ("from-variable", "127.0.0.1")]


@pytest.mark.parametrize("token", ["", "two words", "ümlaut", "x" * 73])
def test_what_is_no_token_is_refused_without_showing_it(cli, served, token, monkeypatch):
    """Exit code 1 and what to do."""
    monkeypatch.setenv("OROUTER_TOKEN", token)
    result = cli("connect", "http://box:1", "--port", "0")
    assert result.code == 1
    assert "--token-file" in result.err
    assert not token or token not in result.err
    assert served == []


def test_a_token_file_that_is_not_there_is_named(cli):
    """In words, with the file."""
    result = cli("connect", "http://box:1", "--port", "0", "--token-file", "nowhere")
    assert (result.code, result.err) == (1, "orouter: cannot read nowhere: No such file or directory\n")


def test_it_imports_nothing_that_it_does_not_need():
    """No database, no config, no log, no routing: it listens within half a second, where those took one more."""
    heavy = ("sqlalchemy", "pydantic", "falcon", "structlog", "httpx", "jinja2", "ollama_router_core.translate",
             "ollama_router_core.config", "ollama_router_core.fleet", "ollama_router_core.routing",
             "ollama_router_server.http.strict", "ollama_router_server.telemetry")  # fmt: skip
    code = f"import sys, ollama_router_cli.commands.connect; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
