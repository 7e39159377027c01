"""A host refuses a parameter that its profile does not know: asked once more without it, if that is allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.refusing_host import Refusal, RefusingHost, Seen, refusing_host
from support.router import RunningRouter, running_router

pytestmark = pytest.mark.anyio

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 1, "temperature": 0.5}


def _refuses(*names: str) -> Any:
    def refuses(seen: Seen) -> Refusal | None:
        found = next((name for name in names if name in seen.body), None)
        text = f"Unsupported parameter: '{found}' is not supported with this model."
        return None if found is None else (400, {"error": {"message": text, "param": found, "code": "unsupported"}})

    return refuses


@asynccontextmanager
async def _stage(folder: Path, *refused: str, **settings: Any) -> AsyncIterator[tuple[RunningRouter, RefusingHost]]:
    async with refusing_host(_refuses(*refused)) as host:
        paid = {"host": "127.0.0.1", "port": host.port, "protocol": "http", "api": "openai", **settings}
        async with running_router(
            folder, {}, external_hosts={"paid": paid}, model_config={"explicit_assignments": {"m": "paid", "n": "paid"}}
        ) as router:
            yield router, host


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/api/chat"])
async def test_it_is_asked_once_more_without_it(tmp_path: Path, path: str) -> None:
    """The client gets the answer, the field and the row say what was left out, and the next request goes without."""
    asked = {**ASKED, "max_tokens": 9} if path == "/v1/messages" else ASKED
    if path == "/api/chat":
        asked = {"model": "m", "messages": ASKED["messages"], "options": {"temperature": 0.5}}
    async with _stage(tmp_path, "temperature", learn_unsupported=True) as (router, host), router.client() as client:
        first = await client.post(path, json=asked)
        second = await client.post(path, json=asked)
        rows = await router.rows(2)
    assert (first.status_code, second.status_code) == (200, 200)
    assert "hello" in first.text
    assert all("temperature" in answer.headers["x-router-dropped"] for answer in (first, second))
    assert ["temperature" in seen.body for seen in host.requests] == [True, False, False]
    assert "temperature left out because paid refuses it for m" in (rows[1].reason or "")


async def test_it_is_not_asked_a_third_time(tmp_path: Path) -> None:
    """A second refusal is the client's answer; both are known to the next request but one."""
    async with (
        _stage(tmp_path, "temperature", "seed", learn_unsupported=True) as (router, host),
        router.client() as client,
    ):
        statuses = [(await client.post("/v1/chat/completions", json=ASKED)).status_code for _ in range(3)]
    assert statuses == [400, 200, 200]
    assert len(host.requests) == 2 + 2 + 1


async def test_it_is_off_unless_it_is_set(tmp_path: Path) -> None:
    """The refusal reaches the client in the host's words."""
    async with _stage(tmp_path, "temperature") as (router, host), router.client() as client:
        answer = await client.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 400
    assert "Unsupported parameter: 'temperature'" in answer.text
    assert len(host.requests) == 1


async def test_a_refusal_of_something_else_is_the_answer(tmp_path: Path) -> None:
    """Whole, though it was read first to see what it says."""
    async with (
        refusing_host(lambda _: (400, {"error": {"message": "This model's maximum context length is 8"}})) as host,
        running_router(
            tmp_path,
            {},
            external_hosts={
                "paid": {
                    "host": "127.0.0.1", "port": host.port, "protocol": "http", "api": "openai",
                    "learn_unsupported": True,
                }
            },
            model_config={"explicit_assignments": {"m": "paid"}},
        ) as router,
        router.client() as client,
    ):  # fmt: skip
        answer = await client.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"message": "This model's maximum context length is 8"}}
    assert len(host.requests) == 1


async def test_what_was_learned_is_of_one_model(tmp_path: Path) -> None:
    """Another model of the host is asked with everything."""
    async with _stage(tmp_path, "temperature", learn_unsupported=True) as (router, host), router.client() as client:
        for model in ("m", "n"):
            await client.post("/v1/chat/completions", json={**ASKED, "model": model})
    assert ["temperature" in seen.body for seen in host.requests] == [True, False, True, False]
