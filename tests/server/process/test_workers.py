"""`orouter serve --workers N`: several processes that look like one."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ollama_router_core.testing import Drip, SimulatorThread
from support.orouter import Orouter
from support.waiting import wait_until
from support.workers import ServedRouter, served

CHAT = {"model": "llama3.1:8b", "stream": False, "messages": [{"role": "user", "content": "Hello"}]}


def alive(pid: int) -> bool:
    """Whether a process runs (zombies do not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def figure(router: ServedRouter, name: str, admin: httpx.Client | None = None) -> float:
    """A figure of `/metrics`, all labels summed, of any worker or of the one that a client leads to."""
    answer = router.admin("/metrics") if admin is None else admin.get("/metrics")
    lines = answer.text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def chat(client: httpx.Client) -> int:
    """Ask for a short answer."""
    return client.post("/api/chat", json=CHAT).status_code


def chat_once(router: ServedRouter) -> int:
    """The same on a connection of its own."""
    with router.client() as client:
        return chat(client)


def test_several_workers_serve_one_address_and_are_counted_as_one(tmp_path):
    """Every worker answers, `/metrics` of any one is the sum, every request has an id and a row of its own."""
    with (
        SimulatorThread(models=["llama3.1:8b"]) as simulator,
        served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}, "--workers", "3") as router,
    ):
        assert len(router.pids()) == 3
        assert router.running.output.read_text().count("listening on") == 1
        with router.each_worker() as clients:
            assert sorted(clients) == [0, 1, 2]
            assert [chat(client) for client in clients.values() for _ in range(5)] == [200] * 15
        wait_until(lambda: figure(router, "orouter_requests_total") == 15, "every worker's requests in the sum")
        wait_until(lambda: len(router.orouter.json("logs", "list", "--limit", "100")) == 15, "a row for each request")
        assert figure(router, "orouter_server_up") == 1


def test_a_worker_that_dies_is_started_again(tmp_path):
    """After `kill -9` of a worker there are as many as before, all answer, and no sum has fallen."""
    with (
        SimulatorThread(models=["llama3.1:8b"]) as simulator,
        served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}, "--workers", "2") as router,
    ):
        with router.each_worker() as clients:
            assert [chat(client) for client in clients.values() for _ in range(3)] == [200] * 6
        with router.each_worker(router.admin_token) as admins:
            for admin in admins.values():  # each reads what the other has written
                wait_until(lambda one=admin: figure(router, "orouter_requests_total", one) == 6, "written figures")
        gone = router.pids()[0]
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: len(set(router.pids()) - {gone}) == 2, "a new worker")
        with router.each_worker() as clients:
            assert [chat(client) for client in clients.values()] == [200, 200]
        wait_until(lambda: figure(router, "orouter_requests_total") == 8, "the old counts and the new")
        assert any(entry["event"] == "worker_ended" and entry["code"] == -9 for entry in router.log())


def test_connections_are_taken_while_a_worker_is_dead(tmp_path):
    """The address never refuses: what the dead worker would have taken the others take."""
    with served(tmp_path, {"a": {"host": "127.0.0.1", "port": 1}}, "--workers", "2") as router:
        os.kill(router.pids()[1], signal.SIGKILL)
        for _ in range(50):
            assert httpx.get(f"{router.url}/livez", trust_env=False).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(tmp_path, number):
    """SIGTERM or Ctrl-C to the supervisor: every process is gone, the exit code is 0, nothing is left in /tmp."""
    with served(
        tmp_path, {"a": {"host": "127.0.0.1", "port": 1}}, "--workers", "3", variables={"TMPDIR": str(tmp_path)}
    ) as router:
        pids = router.pids()
        router.running.process.send_signal(number)
        assert router.running.process.wait(timeout=20) == 0
        assert not any(alive(pid) for pid in pids)
        assert not list(tmp_path.glob("ollama-router-*"))


def test_workers_end_when_their_supervisor_was_killed(tmp_path):
    """`kill -9` of the supervisor leaves no worker behind."""
    with served(tmp_path, {"a": {"host": "127.0.0.1", "port": 1}}, "--workers", "2") as router:
        pids = router.pids()
        router.running.process.kill()
        wait_until(lambda: not any(alive(pid) for pid in pids), "the workers' end")


def test_a_drain_reaches_every_worker(tmp_path):
    """What one worker is told about a server, all do; `undrain` likewise."""
    with (
        SimulatorThread(models=["llama3.1:8b"]) as simulator,
        served(tmp_path, {"a": {"host": "127.0.0.1", "port": simulator.port}}, "--workers", "3") as router,
        router.each_worker(router.admin_token) as clients,
    ):

        def drained() -> set[bool]:
            answers = (client.get("/router/status").json() for client in clients.values())
            return {answer["servers"]["a"]["draining"] for answer in answers}

        for order, expected in (("drain", {True}), ("undrain", {False})):
            clients[0].post(f"/router/servers/a/{order}")
            wait_until(lambda expected=expected: drained() == expected, f"{order} in every worker")


def test_requests_in_flight_are_seen_by_all_and_a_full_server_is_full_for_all(tmp_path):
    """`max_concurrent` holds for the workers together: what one worker sent counts for the others' decisions."""
    with SimulatorThread(models=["llama3.1:8b"]) as simulator:
        seen_by_all = threading.Event()
        held = Drip(size=1, seconds=lambda: 0.0 if seen_by_all.is_set() else 0.5)
        simulator.simulator.faults.add([held], path="/api/chat")
        entry = {"host": "127.0.0.1", "port": simulator.port, "max_concurrent": 2}
        with (
            served(tmp_path, {"a": entry}, "--workers", "2", queue={"max_wait": 120}) as router,
            router.each_worker(router.admin_token) as clients,
            ThreadPoolExecutor(12) as pool,
        ):
            asked = [pool.submit(chat_once, router) for _ in range(12)]

            def in_flight(client: httpx.Client) -> int:
                return client.get("/router/status").json()["servers"]["a"]["in_flight"]

            try:
                for client in clients.values():
                    wait_until(lambda client=client: in_flight(client) >= 2, "each worker sees both", seconds=60)
            finally:
                seen_by_all.set()
            assert [one.result(timeout=100) for one in asked] == [200] * 12
            # Two workers may take the last slot in the same moment: one more than the limit is the most there can be.
            assert simulator.simulator.max_in_flight <= 3


def test_a_router_that_cannot_start_says_so_once(tmp_path):
    """A database that cannot be used is one message and exit code 1, with any number of workers."""
    orouter = Orouter(home=tmp_path, variables={"OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/no.db/x.sqlite3"})
    (tmp_path / "no.db").write_text("a file")
    orouter.config.write_text("servers: {a: {host: 127.0.0.1, port: 1}}\n")
    done = orouter.run("serve", "--port", "0", "--workers", "3")
    assert done.returncode == 1
    assert done.stderr.count("orouter: cannot open the database") == 1


def test_only_the_first_worker_loads_models(tmp_path):
    """`warm_up` loads once for the whole router."""
    with SimulatorThread(models=["llama3.1:8b"]) as simulator:
        entry = {"host": "127.0.0.1", "port": simulator.port, "warm_up": ["llama3.1:8b"]}
        with served(tmp_path, {"a": entry}, "--workers", "3") as router, router.each_worker(router.admin_token) as all_:
            wait_until(lambda: simulator.simulator.loads == 1, "the model is loaded")
            wait_until(
                lambda: all(client.get("/router/status").json()["servers"]["a"]["loaded"] for client in all_.values()),
                "every worker knows of it",
            )
            asked = [one for one in simulator.simulator.requests if one.path == "/api/generate"]
            assert len(asked) == 1
