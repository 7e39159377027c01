"""Servers as people see them, one by one and together."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_router_core.config.settings import Server
from ollama_router_core.fleet.notices import ServerDown
from ollama_router_core.testing import OllamaSimulator, model
from ollama_router_server.admin.views.servers import _OF_ITS_ADDRESS
from ollama_router_server.storage.incident_store import IncidentFilter
from support.eventually import eventually_async
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

SHOWN = {
    *("priority", "max_memory_gb", "gpus", "sched_spread", "system_memory_gb", "max_concurrent", "enabled", "drain"),
    *("warm_up", "default_context", "num_parallel", "max_loaded_models", "cancels_on_disconnect", "rerank"),
    *("kv_cache_type", "flash_attention", "gpu_overhead_gb"),
}
"""Settings of a server that all viewers may see."""

CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


async def test_a_list_of_servers_tells_since_when_what_failed_and_who_is_odd(tmp_path: Path) -> None:
    """Of one that is down as its incident does, of one found up nothing; a version that few have is marked."""
    sims = [OllamaSimulator(models=[model("llama3.2:3b")], version=one) for one in ("0.32.15", "0.32.15", "0.20.1")]
    async with sims[0] as one, sims[1] as two, sims[2] as old:
        servers = {"one": {**server_entry(one), "priority": 1}, "two": {**server_entry(two), "priority": 2}}
        servers |= {"old": {**server_entry(old), "priority": 3}, "off": {"host": "127.0.0.1", "port": 2}}
        async with (
            running_router(tmp_path, servers) as router,
            router.client() as client,
            router.client(router.admin_token) as admin,
        ):
            store, began = router.services.incidents.store, []

            async def is_told() -> bool:
                began[:] = await store.list(IncidentFilter(server="off", active=True))
                return bool(began)

            await eventually_async(is_told)
            await client.post("/api/chat", json=CHAT)
            await router.rows(1)
            router.services.fleet.state_times.notice(ServerDown("off", "as this process saw it first, later"))
            found = {row["name"]: row for row in (await admin.get("/router/servers")).json()["servers"]}
            detail = (await admin.get("/router/servers/off")).json()
            await admin.post("/console/session", json={"token": router.admin_token}, headers={"x-console": "1"})
            page = (await admin.get("/console/servers")).text
    assert found["off"]["since"] == detail["since"] == began[0].began_at
    assert found["one"]["since"] is None
    assert [name for name, row in found.items() if row["is_odd_version"]] == ["old"]
    assert (found["one"]["requests_last_hour"], found["one"]["failed_last_hour"]) == (1, 0)
    assert found["one"]["tokens_per_second"] > 0
    assert found["two"]["tokens_per_second"] is None
    assert page.count('class="odd"') == 1


def test_each_setting_is_shown_to_viewers_or_kept_from_them_on_purpose() -> None:
    """A new one is in neither list until somebody decides: an address or a key is not for viewers."""
    assert not SHOWN & _OF_ITS_ADDRESS
    assert set(Server.model_fields) == SHOWN | _OF_ITS_ADDRESS
