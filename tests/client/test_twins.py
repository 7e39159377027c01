"""The synchronous and the asynchronous transport behave alike, with httpx and httpx2, under asyncio and trio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ollama_router_core.config import Config, ExternalHost, HostedModel
from ollama_router_core.testing import FakeFleet
from support.drivers import DRIVERS, Played, Request, play

CHAT: Mapping[str, Any] = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}]}
CREATED = re.compile(
    rb'("created_at":"|"modified_at":"|"created":)[0-9T:.Z+\-]+|"total_duration":\d+|"\w*eval_duration":\d+'
)


def _fleet() -> FakeFleet:
    fleet = FakeFleet({"a": ["llama3.1:8b"], "b": ["llama3.1:8b", "qwen3:8b"], "paid": ["gpt-mini"]}, answer="Hi you")
    paid = ExternalHost(
        host="paid", port=80, protocol="http", api="anthropic", models={"gpt-4": HostedModel(name="gpt-mini")}
    )
    settings = fleet.config.models.model_copy(update={"explicit_assignments": {"gpt-4": "paid"}})
    servers = {name: server for name, server in fleet.config.servers.items() if name != "paid"}
    fleet.config = Config(servers=servers, external_hosts={"paid": paid}, models=settings)
    return fleet


SCRIPTS: dict[str, Sequence[Request]] = {
    "answers": [
        Request("POST", "/api/chat", {**CHAT, "stream": False}),
        Request("POST", "/api/chat", CHAT),
        Request("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
        Request("POST", "/v1/messages", {**CHAT, "max_tokens": 9}),
        Request("POST", "/api/embed", {"model": "qwen3:8b", "input": "x"}),
    ],
    "lists": [
        Request("GET", "/"),
        Request("GET", "/api/tags"),
        Request("GET", "/api/version"),
        Request("GET", "/api/ps"),
        Request("GET", "/v1/models"),
        Request("GET", "/v1/models/qwen3:8b"),
        Request("GET", "/v1/models/nobody"),
        Request("POST", "/api/show", {"model": "qwen3:8b"}),
        Request("POST", "/api/show", {"model": "gpt-4"}),
    ],
    "refusals": [
        Request("POST", "/api/chat", {**CHAT, "model": "nobody:1b"}),
        Request("POST", "/v1/chat/completions", {**CHAT, "model": "nobody:1b"}),
        Request("POST", "/v1/messages", {**CHAT, "model": "nobody:1b"}),
        Request("POST", "/api/chat", {**CHAT, "MODEL": "x"}),
        Request("GET", "/api/nowhere"),
        Request("GET", "/api/chat"),
        Request("DELETE", "/api/delete", {"model": "nobody:1b"}),
        Request("POST", "/api/chat", CHAT, headers={"content-encoding": "gzip"}),
    ],
    "orders": [
        Request("POST", "/api/pull", {"model": "new:1b", "stream": False}),
        Request("POST", "/api/pull", {"model": "other:1b"}, headers={"x-router-target": "b"}),
        Request("POST", "/api/pull", {"model": "third:1b"}, headers={"x-router-target": "all"}),
        Request("POST", "/api/chat", {**CHAT, "model": "third:1b"}),
        Request("DELETE", "/api/delete", {"model": "llama3.1:8b"}),
        Request("POST", "/api/pull", {"model": "x"}, headers={"x-router-target": "nowhere"}),
        Request("POST", "/api/blobs/sha256:1", {}),
        Request("DELETE", "/api/delete", {"model": "third:1b"}, before=lambda fleet: fleet.down.add("b")),
    ],
    "failures": [
        Request("POST", "/api/chat", CHAT),
        Request("POST", "/api/chat", CHAT, before=lambda fleet: fleet.down.add("a")),
        Request("POST", "/api/chat", CHAT, before=lambda fleet: fleet.down.add("b")),
        Request("POST", "/api/chat", {**CHAT, "model": "gpt-4"}, before=lambda fleet: fleet.down.add("paid")),
    ],
    "translation": [
        Request("POST", "/api/chat", {**CHAT, "model": "gpt-4"}),
        Request("POST", "/api/generate", {"model": "gpt-4", "prompt": "x", "stream": False}),
        Request("POST", "/api/generate", {"model": "gpt-4"}),
        Request("POST", "/v1/chat/completions", {**CHAT, "model": "gpt-4", "seed": 1, "stream": True}),
        Request("POST", "/v1/messages", {**CHAT, "model": "gpt-4", "max_tokens": 9, "stream": True}),
        Request("POST", "/api/embed", {"model": "gpt-4", "input": "x"}),
    ],
}  # fmt: skip


def _timeless(played: Played) -> Any:
    """What must be equal: all but times, and how a reason words facts that a refresh in the background may have met."""
    varying = {"content-length": "", "x-router-reason": ""}
    seen = [(one.status, {**one.headers, **varying}, CREATED.sub(b"", one.body), one.error) for one in played.seen]
    rows = [(*row[:9], row[11]) for row in played.rows]
    return seen, rows, sorted(played.requests), played.in_flight  # orders for several servers go out at once


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_driver_plays_a_script_alike(name: str) -> None:
    """Answers, records and what reached the servers are the same, whoever does the I/O, and nothing stays in flight."""
    expected = _timeless(play(SCRIPTS[name], fleet=_fleet()))
    assert expected[3] == {}
    for library in ("httpx", "httpx2"):
        for driver in DRIVERS:
            assert _timeless(play(SCRIPTS[name], driver=driver, library=library, fleet=_fleet())) == expected


def test_the_scripts_meet_what_they_are_named_after() -> None:
    """The comparison above would hold for twins that do nothing; these are the answers."""
    played = {name: play(script, fleet=_fleet()) for name, script in SCRIPTS.items()}
    assert [one.status for one in played["answers"].seen] == [200] * 5
    assert [one.status for one in played["lists"].seen] == [200] * 6 + [404, 200, 200]
    assert [one.status for one in played["refusals"].seen] == [404, 404, 404, 400, 404, 405, 404, 415]
    assert [one.status for one in played["orders"].seen] == [200] * 5 + [400, 400, 502]
    assert [one.headers.get("x-router-server") for one in played["orders"].seen[:5]] == ["a", "b", "a, b", "a", "a, b"]
    assert b"delete failed on b" in played["orders"].seen[7].body
    assert b"done on a" in played["orders"].seen[7].body
    assert [one.status for one in played["failures"].seen] == [200, 200, 0, 0]
    assert [one.status for one in played["translation"].seen] == [200] * 5 + [400]
    assert b"Hi" in played["translation"].seen[0].body
    assert played["translation"].seen[3].headers["x-router-dropped"] == "seed"
