"""Commands that ask a running router of another version than theirs."""

from __future__ import annotations

import pytest

OLD = {"name": "alice", "role": "user", "models": 3, "limits": [], "requests": [], "ttft_ms": {"p50": None}}


@pytest.mark.parametrize("command", [("me",), ("usage",), ("requests", "list"), ("operations", "list")])
def test_what_its_answer_lacks_is_told(cli, monkeypatch, respx_mock, command):
    """In one line, with what to do; `--json` prints the answer as it is."""
    monkeypatch.setenv("OROUTER_TOKEN", "x" * 32)
    respx_mock.route(host="10.0.0.1").respond(json=OLD)
    asked = (*command, "--url", "http://10.0.0.1:11434")
    failed = cli(*asked)
    assert failed.code == 1
    assert "router and command have different versions; use --json" in failed.err
    assert len(failed.err.splitlines()) == 1
    assert cli(*asked, "--json").json() == OLD
