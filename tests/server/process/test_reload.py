"""Another config while the router runs: SIGHUP and changed files, over real processes."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from ollama_router_core.testing import Drip, SimulatorThread
from support.waiting import wait_until
from support.workers import ServedRouter, served

MODEL = "llama3.1:8b"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}


def entry(simulator: SimulatorThread, **settings: Any) -> dict[str, Any]:
    """A server of the config."""
    return {"host": "127.0.0.1", "port": simulator.port, **settings}


def write(router: ServedRouter, **config: Any) -> None:
    """Replace the config file in one step, as careful editors do."""
    new = router.orouter.config.with_suffix(".new")
    new.write_text(json.dumps(config))
    new.replace(router.orouter.config)


def events(router: ServedRouter, name: str) -> list[dict[str, Any]]:
    """Entries of the router's log."""
    return [entry for entry in router.log() if entry["event"] == name]


def server_of(client: httpx.Client) -> str:
    """Who answered."""
    answer = client.post("/api/chat", json={**CHAT, "stream": False})
    assert answer.status_code == 200, answer.text
    return answer.headers["x-router-server"]


@pytest.mark.parametrize("workers", ["1", "3"])
def test_a_changed_file_holds_in_every_process(tmp_path, workers):
    """A new server with a better priority is used by all workers soon after the file was replaced; nobody asked."""
    with SimulatorThread(models=[MODEL]) as old, SimulatorThread(models=[MODEL]) as new:
        before = {"old": entry(old, priority=2)}
        with served(tmp_path, before, "--workers", workers) as router, router.each_worker() as clients:
            assert {server_of(client) for client in clients.values()} == {"old"}
            write(router, servers={**before, "new": entry(new, priority=1)})
            wait_until(lambda: {server_of(client) for client in clients.values()} == {"new"}, "the new server")
            write(router, servers={"new": entry(new, priority=1)})
            wait_until(lambda: "old" not in router.admin("/router/status").json()["servers"], "the old one is gone")
            wait_until(lambda: len(events(router, "config_reloaded")) == 2, "two lines, not two a worker")
            assert events(router, "config_reloaded")[0]["changed"] == ["servers.new"]
            told = router.admin("/router/audit?action=config").json()["entries"]
            assert [(entry["via"], entry["actor"]) for entry in told] == [("file", "router")] * 2
            assert told[-1]["detail"] == {"changed": ["servers.new"]}


def problems_of(router, clients):
    """What each worker's status says of the config's file."""
    headers = {"authorization": f"Bearer {router.admin_token}"}
    answers = [client.get("/router/status", headers=headers).json() for client in clients.values()]
    return [answer["config_problem"] for answer in answers]


def test_a_bad_file_is_reported_and_the_old_config_stays(tmp_path):
    """Every problem is in the log and the status page; requests go on; a mended file is taken up, and is a version."""
    with (
        SimulatorThread(models=[MODEL]) as simulator,
        served(tmp_path, {"a": entry(simulator)}, "--workers", "2") as router,
        router.each_worker() as clients,
    ):
        write(router, servers={"a": entry(simulator, priority="high")}, routing_stratgy="fastest")
        wait_until(lambda: bool(events(router, "config_refused")), "the problems in the log")
        told = events(router, "config_refused")[0]["error"]
        assert "servers.a.priority" in told
        assert "routing_stratgy" in told
        assert {server_of(client) for client in clients.values()} == {"a"}
        wait_until(lambda: all(problems_of(router, clients)), "the status page of each worker")
        assert "\norouter_config_refused 1.0\n" in router.admin("/metrics").text
        ready = router.admin("/readyz")
        assert (ready.status_code, ready.text) == (200, "ready; the config file has problems and was not applied")
        write(router, servers={"a": entry(simulator)}, routing_strategy="least_loaded")
        wait_until(lambda: bool(events(router, "config_reloaded")), "the mended file")
        assert events(router, "config_reloaded")[0]["changed"] == ["routing_strategy"]
        wait_until(lambda: not any(problems_of(router, clients)), "no problem in either worker")
        wait_until(lambda: "\norouter_config_refused 0.0\n" in router.admin("/metrics").text, "nor in the figures")
        kept = router.orouter.json("config", "history")["versions"]
        assert [(one["version"], one["changed"]) for one in kept] == [(2, ["routing_strategy"]), (1, None)]


def test_sighup_reads_the_config_at_once_and_the_log_names_no_value(tmp_path):
    """Also keys that come from files; what needs a restart is told; secrets are not."""
    secret = "sk-" + "canary" * 5
    key = tmp_path / "key"
    key.write_text(secret)
    with SimulatorThread(models=[MODEL]) as simulator, served(tmp_path, {"a": entry(simulator)}) as router:
        host = {"host": "example.invalid", "api": "openai", "api_key_file": str(key), "headers": {"x-org": secret}}
        router.orouter.config.write_text(
            json.dumps({"servers": {"a": entry(simulator)}, "external_hosts": {"paid": host}, "proxy_port": 12345})
        )
        os.kill(router.running.process.pid, signal.SIGHUP)
        wait_until(lambda: bool(events(router, "config_reloaded")), "the line")
        told = events(router, "config_reloaded")[0]
        assert (told["changed"], told["needs_restart"]) == (["proxy_port", "external_hosts.paid"], ["proxy_port"])
        assert secret not in router.running.errors.read_text()


def test_streams_under_way_are_not_touched(tmp_path):
    """Their server goes, the strategy changes, limits shrink: every stream still comes to its own end."""
    with SimulatorThread(models=[MODEL]) as old, SimulatorThread(models=[MODEL]) as new:
        old.simulator.faults.add([Drip(seconds=0.05, size=256)], path="/api/chat")

        def stream(router: ServedRouter) -> tuple[str, bool]:
            with router.client() as client, client.stream("POST", "/api/chat", json=CHAT) as answer:
                lines = list(answer.iter_lines())
                return answer.headers["x-router-server"], json.loads(lines[-1])["done"]

        with served(tmp_path, {"old": entry(old)}, "--workers", "2") as router, ThreadPoolExecutor(8) as pool:
            streams = [pool.submit(stream, router) for _ in range(8)]
            wait_until(lambda: old.simulator.in_flight == 8, "all streams run")
            write(router, servers={"new": entry(new)}, routing_strategy="fastest", limits={"max_in_flight": 9})
            os.kill(router.running.process.pid, signal.SIGHUP)
            wait_until(lambda: bool(events(router, "config_reloaded")), "the new config")
            assert old.simulator.in_flight, "the test is too slow to say anything"
            assert [one.result() for one in streams] == [("old", True)] * 8
            with router.client() as client:
                assert server_of(client) == "new"


def test_what_is_known_of_servers_that_stay_survives(tmp_path):
    """A breaker that is open, a drain and learned facts are as before for a server whose address did not change."""
    with (
        SimulatorThread(models=[MODEL]) as kept,
        SimulatorThread(models=[MODEL]) as other,
        served(tmp_path, {"kept": entry(kept), "other": entry(other)}) as router,
        router.client() as client,
    ):
        server_of(client)
        with router.client(router.admin_token) as admin:
            assert admin.post("/router/servers/other/drain").status_code == 200
            before = admin.get("/router/status").json()["servers"]["kept"]
            write(router, servers={"kept": entry(kept, priority=3), "other": entry(other)})
            wait_until(lambda: bool(events(router, "config_reloaded")), "the new config")
            after = admin.get("/router/status").json()["servers"]
        assert after["other"]["draining"] is True
        assert (after["kept"]["loaded"], after["kept"]["models"]) == (before["loaded"], before["models"])
        assert after["kept"]["up"] is True


def test_the_front_s_bounds_are_the_config_s_and_follow_it(tmp_path):
    """A head with more fields than `limits.max_fields` is refused, until the setting allows it."""
    fields = {f"x-field-{number}": "1" for number in range(20)}
    with served(tmp_path, {"a": {"host": "127.0.0.1", "port": 1}}, limits={"max_fields": 15}) as router:
        asked = f"{router.url}/livez"
        assert httpx.get(asked, headers=fields, trust_env=False).status_code == 431
        assert httpx.get(asked, trust_env=False).status_code == 200
        write(router, servers={"a": {"host": "127.0.0.1", "port": 1}}, limits={"max_fields": 50})
        os.kill(router.running.process.pid, signal.SIGHUP)
        wait_until(lambda: httpx.get(asked, headers=fields, trust_env=False).status_code == 200, "the new bound holds")
