"""`GET /router/doctor`: the page of the console and `orouter doctor` with a token show it."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from ollama_router_core.testing import OllamaSimulator, exchange
from ollama_router_server.admin.doctor.connection_findings import clock_findings
from support.router import RunningRouter, running_router, server_entry

pytestmark = pytest.mark.anyio


async def doctor(router: RunningRouter) -> dict[str, list[dict[str, Any]]]:
    """Findings by what they are about."""
    async with router.client(router.admin_token) as client:
        told = (await client.get("/router/doctor")).json()
    by_subject: dict[str, list[dict[str, Any]]] = {}
    for one in told["findings"]:
        by_subject.setdefault(one["subject"], []).append(one)
    return by_subject


async def test_servers_are_asked_for_their_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the router, so that the page tells what `orouter doctor` does; a server that is down costs nothing."""
    async with OllamaSimulator() as late:
        servers = {"late": server_entry(late), "gone": {"host": "127.0.0.1", "port": 9}}
        async with running_router(tmp_path, servers) as router:
            assert not [one for one in (await doctor(router))["server late"] if "clock" in one["reason"]]
            ago = formatdate(time.time() - 3_600, usegmt=True)
            monkeypatch.setattr(exchange, "formatdate", lambda **_: ago)
            found = await doctor(router)
    (clock,) = [one for one in found["server late"] if "clock" in one["reason"]]
    assert (clock["severity"], clock["fix"]) == ("warning", "timedatectl set-ntp true")
    assert [one["severity"] for one in found["server gone"]] == ["warning"]


async def test_places_where_servers_are_found_are_told(tmp_path: Path) -> None:
    """Those that found some, and those that found none."""
    some, none = tmp_path / "some.yml", tmp_path / "none.yml"
    async with OllamaSimulator() as one:
        some.write_text(json.dumps({"found": server_entry(one)}))
        none.write_text("{}")
        async with running_router(tmp_path, {}, discovery={"files": [str(some), str(none)]}) as router:
            found = await doctor(router)
    (there,), (empty,) = found[f"discovery file:{some}"], found[f"discovery file:{none}"]
    assert (there["severity"], there["reason"]) == ("ok", "servers found: 1")
    assert (empty["severity"], empty["reason"]) == ("warning", "no server is found there")


@pytest.mark.parametrize(("ahead", "told"), [(31.0, "31 s ahead of"), (-31.0, "31 s behind"), (30.0, ""), (None, "")])
def test_a_clock_may_differ_by_half_a_minute(ahead: float | None, told: str) -> None:
    """More is told with its direction."""
    reasons = [one.reason for one in clock_findings("a", ahead)]
    assert [told in reason for reason in reasons] == ([True] if told else [])
