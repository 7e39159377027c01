"""The proxy and the client-side router are one router: a script of requests has the same effects through both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.testing import Answer, Cut, EndEarly, Reset, Silence
from support.eventually import eventually
from support.two_ways import Played, Row, Scene, Stage, play

pytestmark = pytest.mark.anyio

MODEL, OTHER, THIRD, EMBEDDER = "llama3.1:8b", "qwen3:8b", "llama3.2:1b", "all-minilm:latest"
HI: Mapping[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
CHAT: Mapping[str, Any] = {"model": MODEL, **HI, "stream": False}
CALM: Mapping[str, Any] = {"health_check_interval": 300.0}
"""Facts do not change by themselves while a script is played."""


def _servers(**entries: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Two servers; the first is preferred and also has `OTHER` and `EMBEDDER`, the second `THIRD`."""
    servers = {
        "a": {"models": [MODEL, OTHER, EMBEDDER], "entry": {"priority": 1}},
        "b": {"models": [MODEL, THIRD], "entry": {"priority": 2}},
    }
    return {
        name: {
            "answer_tokens": 3,
            "registry": ["new:1b", "newer:1b"],
            **options,
            "entry": {**options["entry"], **entries.get(name, {})},
        }
        for name, options in servers.items()
    }


def _misbehaves(server: str, fault: Any, path: str = "/api/chat", times: int | None = 1) -> Any:
    async def before(stage: Stage) -> None:
        stage.of(server).misbehave(fault, path=path, times=times)

    return before


def _resets(server: str) -> Any:
    """The next request there meets a new connection, and that is reset once it was read."""

    async def before(stage: Stage) -> None:
        await _is_measured(stage, server)
        simulator = stage.of(server)

        def none_is_open() -> bool:
            simulator.drop_connections()  # a poll may have opened another one meanwhile
            return not simulator.open_connections

        await eventually(none_is_open)
        simulator.misbehave(Reset(), path="/api/chat", times=1)

    return before


async def _is_measured(stage: Stage, server: str) -> None:
    """Nothing is being asked there any more: what is in memory since the last answer is known."""
    await stage.believes(lambda servers: all(model.size for model in servers[server].loaded.values()))


async def _refuses(stage: Stage, *names: str) -> None:
    for name in names:
        await _is_measured(stage, name)
    for name in names:
        stage.of(name).pause()
        stage.of(name).drop_connections()
    await eventually(lambda: not any(stage.of(name).open_connections for name in names))


async def _refuses_a(stage: Stage) -> None:
    await _refuses(stage, "a")


async def _refuses_both(stage: Stage) -> None:
    await _refuses(stage, "a", "b")


async def _a_returns(stage: Stage) -> None:
    await stage.of("a").resume()
    await stage.believes(lambda servers: bool(servers["a"].up) and canonical_name(MODEL) in servers["a"].loaded)


async def _a_goes(stage: Stage) -> None:
    await _refuses_a(stage)
    await stage.believes(lambda servers: servers["a"].up is False)


async def _model_is_gone(stage: Stage) -> None:
    gone = canonical_name(MODEL)
    await stage.believes(lambda servers: not any(gone in (facts.installed or {}) for facts in servers.values()))


async def _one_runs(stage: Stage) -> None:
    stage.of("a").misbehave(Silence(), path="/api/chat", times=1)
    await stage.hold("/api/chat", CHAT, running=1)


async def _a_batch_request_runs(stage: Stage) -> None:
    server = stage.of("a")
    server.misbehave(Silence(), path="/api/chat", times=1)
    await _is_measured(stage, "a")
    before = len(server.requests_to("/api/chat"))
    await stage.hold("/api/chat", CHAT, running=1, **{"x-router-priority": "batch"})
    await eventually(lambda: len(server.requests_to("/api/chat")) > before)  # so that its is the silence


async def _no_held_one_runs(stage: Stage) -> None:
    (answer,) = await asyncio.gather(*stage.held)
    assert (answer.status_code, answer.headers["x-router-attempts"]) == (200, "2")
    stage.held.clear()


async def _one_waits(stage: Stage) -> None:
    await stage.hold("/api/chat", CHAT, running=1, waiting=1)


async def _nobody_runs(stage: Stage) -> None:
    await stage.let_go()
    stage.of("a").behave()


INFERENCE = Scene(
    servers=_servers(),
    config={
        **CALM,
        "model_config": {
            "aliases": {"small": THIRD},
            "fallbacks": {"missing:1b": OTHER},
            "rules": [{"pattern": "qwen3*", "max_num_ctx": 4096}],
        },
    },
    rows=[
        Row(name="chat", json=CHAT, sent=["a"]),
        Row(name="chat streamed", json={"model": MODEL, **HI}, sent=["a"]),
        Row(name="chat on the other", json={**CHAT, "model": THIRD}, sent=["b"]),
        Row(name="generate", path="/api/generate", json={"model": MODEL, "prompt": "hi"}, sent=["a"]),
        Row(name="embed", path="/api/embed", json={"model": EMBEDDER, "input": ["a", "b"]}, sent=["a"]),
        Row(name="embeddings", path="/api/embeddings", json={"model": EMBEDDER, "prompt": "hi"}, sent=["a"]),
        Row(name="show", path="/api/show", json={"model": THIRD}, sent=["b"]),
        Row(name="openai chat", path="/v1/chat/completions", json=CHAT, sent=["a"]),
        Row(name="openai stream", path="/v1/chat/completions", json={**CHAT, "stream": True}, sent=["a"]),
        Row(name="openai completions", path="/v1/completions", json={"model": MODEL, "prompt": "hi"}, sent=["a"]),
        Row(name="openai embeddings", path="/v1/embeddings", json={"model": EMBEDDER, "input": "hi"}, sent=["a"]),
        Row(name="messages", path="/v1/messages", json={**CHAT, "max_tokens": 9}, sent=["a"]),
        Row(name="messages stream", path="/v1/messages", json={**CHAT, "max_tokens": 9, "stream": True}, sent=["a"]),
        Row(name="alias", json={**CHAT, "model": "small"}, sent=["b"]),
        Row(name="fallback", json={**CHAT, "model": "missing:1b"}, sent=["a"]),
        Row(name="context clamped", json={**CHAT, "model": OTHER, "options": {"num_ctx": 32768}}, sent=["a"]),
        Row(name="load on both", json=CHAT, sent=["a"]),
        Row(name="unload", path="/api/generate", json={"model": MODEL, "keep_alive": 0}),
        Row(name="root", method="GET", path="/", sent=[], recorded=False),
    ],
)

REFUSALS = Scene(
    servers=_servers(),
    config={**CALM, "limits": {"max_body": "64KB"}},
    rows=[
        Row(name="unknown model", json={**CHAT, "model": "nobody:1b"}, status=404, sent=[]),
        Row(name="unknown model openai", path="/v1/chat/completions", json={**CHAT, "model": "nobody:1b"}, status=404),
        Row(name="unknown model messages", path="/v1/messages", json={**CHAT, "model": "nobody:1b"}, status=404),
        Row(name="no model", json=HI, status=400, sent=[]),
        Row(name="not JSON", content=b'{"model": ', status=400, sent=[]),
        Row(name="not UTF-8", content=b'{"model": "\xff"}', status=400, sent=[]),
        Row(name="a key in two cases", content=b'{"model": "a", "MODEL": "b"}', status=400, sent=[]),
        Row(name="a key twice", content=b'{"model": "a", "model": "b"}', status=400, sent=[]),
        Row(name="a wrong type", json={**CHAT, "stream": "yes"}, status=400, sent=[]),
        Row(name="an encoded body", json=CHAT, headers={"content-encoding": "gzip"}, status=415, sent=[]),
        Row(name="a body too large", json={**CHAT, "x": "x" * 70_000}, status=413, sent=[]),
        Row(name="unknown route", method="GET", path="/api/nowhere", status=404, sent=[], recorded=False),
        Row(name="wrong method", method="GET", path="/api/chat", status=405, sent=[], recorded=False),
        Row(
            name="an image for a model without eyes",
            json={**CHAT, "messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]},
            status=400,
            sent=[],
        ),
    ],
)

LISTS = Scene(
    servers=_servers(),
    config={**CALM, "external_hosts": {}, "model_config": {"explicit_assignments": {"assigned:1b": "b"}}},
    rows=[
        Row(name="tags", method="GET", path="/api/tags"),
        Row(name="load", json=CHAT, sent=["a"]),
        Row(name="ps", method="GET", path="/api/ps"),
        Row(name="version", method="GET", path="/api/version"),
        Row(name="openai models", method="GET", path="/v1/models"),
        Row(name="openai model", method="GET", path=f"/v1/models/{THIRD}"),
        Row(name="openai model unknown", method="GET", path="/v1/models/nobody", status=404),
        Row(name="status", method="GET", path="/api/status"),
        Row(name="head of tags", method="HEAD", path="/api/tags"),
    ],
)

OPERATIONS = Scene(
    servers=_servers(),
    config=CALM,
    rows=[
        Row(name="pull where it fits", path="/api/pull", json={"model": "new:1b"}, sent=["a"]),
        Row(name="chat with what was pulled", json={**CHAT, "model": "new:1b"}, sent=["a"]),
        Row(
            name="pull to one",
            path="/api/pull",
            json={"model": "new:1b", "stream": False},
            headers={"x-router-target": "b"},
            sent=["b"],
        ),
        Row(
            name="pull to all",
            path="/api/pull",
            json={"model": "newer:1b"},
            headers={"x-router-target": "all"},
            progress=True,
            sent=["a", "b"],
        ),
        Row(
            name="pull to nowhere",
            path="/api/pull",
            json={"model": "x"},
            headers={"x-router-target": "nowhere"},
            status=400,
            sent=[],
        ),
        Row(name="copy", path="/api/copy", json={"source": MODEL, "destination": "mine"}, sent=["a", "b"]),
        Row(
            name="create from a base",
            path="/api/create",
            json={"model": "own", "from": THIRD, "stream": False},
            sent=["b"],
        ),
        Row(name="push", path="/api/push", json={"model": OTHER, "stream": False}, sent=["a"]),
        Row(name="delete everywhere", method="DELETE", path="/api/delete", json={"model": MODEL}, sent=["a", "b"]),
        Row(name="chat with what was deleted", json=CHAT, before=_model_is_gone, status=404, sent=[]),
        Row(
            name="delete unknown", method="DELETE", path="/api/delete", json={"model": "nobody:1b"}, status=404, sent=[]
        ),
        Row(
            name="delete fails on one",
            method="DELETE",
            path="/api/delete",
            json={"model": "newer:1b"},
            before=_misbehaves("b", Answer(status=500, body=b'{"error":"disk"}'), "/api/delete"),
            status=502,
        ),
        Row(name="account route", path="/api/me", status=403, sent=[]),
        Row(
            name="blob asked for",
            method="HEAD",
            path="/api/blobs/sha256:" + "0" * 64,
            headers={"x-router-target": "a"},
            status=404,
            sent=["a"],
        ),
    ],
)

UNLOADING = Scene(
    servers=_servers(a={"max_concurrent": 1}),
    config=CALM,
    rows=[
        Row(name="load on the first", json=CHAT, sent=["a"]),
        Row(name="load on the second", json=CHAT, before=_one_runs, sent=["b"]),
        Row(
            name="unload from both",
            json={"model": MODEL, "messages": [], "keep_alive": 0},
            before=_nobody_runs,
            sent=["a", "b"],
        ),
    ],
)

FAILURES = Scene(
    servers=_servers(),
    config=CALM,
    rows=[
        Row(name="fine", json=CHAT, sent=["a"]),
        Row(
            name="500",
            json=CHAT,
            before=_misbehaves("a", Answer(status=500, body=b'{"error":"oops"}')),
            status=500,
            sent=["a"],
        ),
        Row(
            name="no such route",
            json=CHAT,
            before=_misbehaves("a", Answer(status=404, body=b"404 page not found", content_type="text/plain")),
            sent=["a", "b"],
        ),
        Row(
            name="503",
            json=CHAT,
            before=_misbehaves("a", Answer(status=503, body=b'{"error":"busy"}')),
            sent=["a", "b"],
        ),
        Row(
            name="429",
            json=CHAT,
            before=_misbehaves("a", Answer(status=429, body=b'{"error":"slow down"}')),
            sent=["a", "b"],
        ),
        Row(
            name="400 of a server",
            json=CHAT,
            before=_misbehaves("a", Answer(status=400, body=b'{"error":"bad"}')),
            status=400,
            sent=["a"],
        ),
        Row(
            name="redirect",
            json=CHAT,
            before=_misbehaves("a", Answer(status=302, headers=(("location", "http://x/"),))),
            status=502,
            sent=["a"],
        ),
        Row(name="reset before the head", json=CHAT, before=_resets("a"), sent=["a", "b"]),
        Row(
            name="broken stream",
            json={"model": MODEL, **HI},
            before=_misbehaves("a", Cut(after_chunks=1)),
            broken=True,
            sent=["a"],
        ),
        Row(
            name="a stream without its end",
            json={"model": MODEL, **HI},
            before=_misbehaves("a", EndEarly(after_chunks=1)),
            broken=True,
            sent=["a"],
        ),
        Row(
            name="weights that are gone",
            json=CHAT,
            before=_misbehaves("a", Answer(status=400, body=b'{"error":"\\"llama3.1:8b\\" does not support chat"}')),
            sent=["a", "b"],
        ),
        Row(name="refused", json=CHAT, before=_refuses_a, sent=["b"]),
    ],
)

MISSING = replace(
    FAILURES,
    rows=[
        Row(
            name="not there after all",
            json=CHAT,
            before=_misbehaves("a", Answer(status=404, body=b'{"error":"model not found"}')),
            sent=["a", "b"],
        ),
        Row(name="believed from then on", json=CHAT, sent=["b"]),
    ],
)

DAMAGED = replace(
    FAILURES,
    rows=[
        Row(
            name="cannot be loaded",
            json=CHAT,
            before=_misbehaves("a", Answer(status=500, body=b'{"error":"failed to load model"}')),
            sent=["a", "b"],
        ),
        Row(name="left alone", json=CHAT, sent=["b"]),
        Row(name="but for its other models", json={**CHAT, "model": OTHER}, sent=["a"]),
    ],
)


async def _answers_a_load_probe(stage: Stage) -> None:
    await stage.suspects("a", MODEL)
    assert stage.of("a").requests_to("/api/generate")


async def _answers_no_load_probe(stage: Stage) -> None:
    stage.of("a").misbehave(Answer(status=500, body=b'{"error":"runner is gone"}'), path="/api/generate")
    await stage.suspects("a", MODEL)


SUSPECTED = Scene(
    servers=_servers(),
    config={**CALM, "load_probe": True},
    rows=[Row(name="a runner that answers", json=CHAT, before=_answers_a_load_probe, sent=["a"])],
)

FROZEN = replace(
    SUSPECTED, rows=[Row(name="a runner that does not", json=CHAT, before=_answers_no_load_probe, sent=["b"])]
)

REFUSING = replace(
    FAILURES,
    rows=[
        FAILURES.rows[0],
        Row(name="all refuse", json=CHAT, before=_refuses_both, status=0, sent=[]),
    ],
)

PROBES = Scene(
    servers=_servers(),
    config={"health_check_interval": 0.1},
    rows=[
        Row(name="up", json=CHAT, sent=["a"]),
        Row(name="down", json=CHAT, before=_a_goes, sent=["b"]),
        Row(name="a model of one that is down", json={**CHAT, "model": OTHER}, status=503, sent=[]),
        Row(name="back", json=CHAT, before=_a_returns),
    ],
)

DRAINING = Scene(
    servers=_servers(a={"drain": True}),
    config=CALM,
    rows=[
        Row(name="to the other", json=CHAT, sent=["b"]),
        Row(name="only on the draining one", json={**CHAT, "model": OTHER}, status=503, sent=[]),
    ],
)

QUEUE = Scene(
    servers={"a": {"models": [MODEL], "answer_tokens": 3, "entry": {"max_concurrent": 1}}},
    config={**CALM, "queue": {"max_waiting": 1, "max_wait": 0.3}},
    rows=[
        Row(name="free", json=CHAT, sent=["a"]),
        Row(name="waits in vain", json=CHAT, before=_one_runs, status=503, sent=[]),
        Row(name="goes when it is free", json=CHAT, before=_nobody_runs, sent=["a"]),
    ],
)

FULL = replace(
    QUEUE,
    config={**CALM, "queue": {"max_waiting": 1, "max_wait": 30.0}},
    rows=[
        Row(name="runs", json=CHAT, sent=["a"]),
        Row(name="reading is free", method="GET", path="/api/tags", before=_one_runs, sent=None),
        Row(name="the queue is full", json=CHAT, before=_one_waits, status=503, sent=[]),
    ],
)

PREEMPTION = replace(
    QUEUE,
    config={**CALM, "queue": {"max_preemptions": 1}},
    rows=[
        Row(name="loads", json=CHAT, sent=["a"]),
        Row(name="has the slot of a batch request", json=CHAT, before=_a_batch_request_runs, sent=["a"]),
        Row(name="which has been answered since", json=CHAT, before=_no_held_one_runs, sent=["a"]),
    ],
)

BREAKER = Scene(
    servers=_servers(),
    config=CALM,
    rows=[
        Row(name="fine", json=CHAT, sent=["a"]),
        *(Row(name=f"cut {number}", json=CHAT, before=_resets("a"), sent=["a", "b"]) for number in range(1, 6)),
        Row(name="left alone", json=CHAT, sent=["b"]),
    ],
)

HOSTED = Scene(
    servers=_servers(),
    external={
        "paid": {
            "models": ["gpt-mini"],
            "answer_tokens": 3,
            "entry": {"api": "openai", "api_key_env": "PAID_KEY", "models": {"gpt-4": "gpt-mini"}},
        }
    },
    config={
        **CALM,
        "model_config": {"explicit_assignments": {"gpt-4": "paid"}, "local_only": ["secret*"]},
    },
    rows=[
        Row(name="translated", json={**CHAT, "model": "gpt-4"}, sent=["paid"]),
        Row(name="translated stream", json={"model": "gpt-4", **HI}, sent=["paid"]),
        Row(name="as it is", path="/v1/chat/completions", json={**CHAT, "model": "gpt-4"}, sent=["paid"]),
        Row(
            name="messages translated",
            path="/v1/messages",
            json={**CHAT, "model": "gpt-4", "max_tokens": 9, "stream": True},
            sent=["paid"],
        ),
        Row(
            name="left behind",
            path="/api/chat",
            json={**CHAT, "model": "gpt-4", "options": {"mirostat": 1}},
            sent=["paid"],
        ),
        Row(name="show made here", path="/api/show", json={"model": "gpt-4"}, sent=[]),
        Row(
            name="an error that echoes the key",
            json={**CHAT, "model": "gpt-4"},
            before=_misbehaves(
                "paid",
                Answer(status=401, body=b'{"error":{"message":"bad key sk-canary-5d1e"}}'),
                "/v1/chat/completions",
            ),
            status=502,
            sent=["paid"],
        ),
        Row(
            name="the same as it is",
            path="/v1/chat/completions",
            json={**CHAT, "model": "gpt-4"},
            before=_misbehaves(
                "paid",
                Answer(status=400, body=b'{"error":{"message":"bad key sk-canary-5d1e"}}'),
                "/v1/chat/completions",
            ),
            status=400,
            sent=["paid"],
        ),
        Row(
            name="a stream that breaks",
            json={"model": "gpt-4", **HI},
            before=_misbehaves("paid", Cut(after_chunks=1), "/v1/chat/completions"),
            broken=True,
            sent=["paid"],
        ),
        Row(name="what must stay at home", json={**CHAT, "model": "secret:1b-cloud"}, status=403, sent=[]),
        Row(name="listed", method="GET", path="/api/tags"),
    ],
)

_IN_OTHER_WORDS = {"error": "", "bytes_out": 0}
"""Of an answer that did not come or broke off: the HTTP library's words say why."""

SCENES = {
    "inference": INFERENCE,
    "refusals": REFUSALS,
    "lists": LISTS,
    "operations": OPERATIONS,
    "unloading": UNLOADING,
    "failures": FAILURES,
    "missing": MISSING,
    "damaged": DAMAGED,
    "suspected": SUSPECTED,
    "frozen": FROZEN,
    "refusing": REFUSING,
    "probes": PROBES,
    "draining": DRAINING,
    "queue": QUEUE,
    "full": FULL,
    "preemption": PREEMPTION,
    "breaker": BREAKER,
    "hosted": HOSTED,
}


@pytest.mark.parametrize("name", SCENES)
async def test_a_script_has_the_same_effects_through_both(name: str, tmp_path: Path) -> None:
    """Answers, requests seen by the servers and records are equal, but for ids, times, user and client address."""
    scene = SCENES[name]
    by_proxy, by_client = await play(scene, "proxy", tmp_path), await play(scene, "client", tmp_path)
    for row in scene.rows:
        proxy, client = by_proxy[row.name], by_client[row.name]
        _check(row, proxy, client)


def _check(row: Row, proxy: Played, client: Played) -> None:
    assert proxy.status == (row.status or proxy.status), f"{row.name}: {proxy.body!r}"
    if row.status:
        assert _answer(row, client) == _answer(row, proxy), row.name
    else:
        assert (client.status, proxy.status // 100) == (0, 5), row.name
    assert client.requests == proxy.requests, row.name
    assert client.record is not None, row.name
    assert (proxy.record is not None) == row.recorded, row.name
    if proxy.record is None:
        return
    if row.status and not row.broken:
        assert client.record == proxy.record, row.name
    else:
        assert {**client.record, **_IN_OTHER_WORDS} == {**proxy.record, **_IN_OTHER_WORDS}, row.name
    assert proxy.broken == row.broken, row.name
    if row.sent is not None:
        assert [request[0] for request in proxy.requests] == list(row.sent), row.name
    assert b"sk-canary-5d1e" not in client.body + proxy.body + json.dumps([client.record, proxy.record]).encode()


def _answer(row: Row, played: Played) -> tuple[Any, ...]:
    body = played.body.rpartition(b'{"error":')[0] if played.broken else played.body
    if row.progress:
        body = body.splitlines()[-1]
    return played.status, played.fields, body, played.broken


def test_there_are_more_than_thirty_rows() -> None:
    """Names are unique within a scene, as what came of a row is found by its name."""
    for scene in SCENES.values():
        assert len({row.name for row in scene.rows}) == len(scene.rows)
    assert sum(len(scene.rows) for scene in SCENES.values()) > 60
