"""Two routers on one database: what happens through one holds for the other."""

from __future__ import annotations

from pathlib import Path

import httpx

from ollama_router_core.testing import SimulatorThread
from support.orouter import Orouter
from support.waiting import wait_until

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


def router_in(home: Path, simulator: SimulatorThread, variables: dict[str, str]) -> Orouter:
    """A router's folder with a config of its own."""
    home.mkdir()
    router = Orouter(home=home, variables=variables)
    router.config.write_text(f"servers: {{sim: {{host: 127.0.0.1, port: {simulator.port}}}}}\n")
    return router


def test_users_limits_and_log_are_shared(tmp_path: Path) -> None:
    """A new user, a quota used up through the other, a revocation: each is seen by both, and all rows are there."""
    database = {"OROUTER_DATABASE_URL": f"sqlite:///{tmp_path}/shared.sqlite3"}
    with SimulatorThread(models=["llama3.1:8b"]) as simulator, httpx.Client(trust_env=False) as client:
        one, two = (router_in(tmp_path / name, simulator, database) for name in ("one", "two"))
        token = one.json("users", "create", "alice")["token"]

        def status(url: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return client.post(f"{url}/api/chat", json=CHAT, headers=headers, timeout=30).status_code

        with one.serve("--port", "0") as first, two.serve("--port", "0") as second:
            assert (status(first), status(second)) == (200, 200)
            one.json("users", "set", "alice", "--tokens-per-day", "1")
            wait_until(
                lambda: status(first) == status(second) == 429, "what was used before counts against a new limit"
            )
            one.json("users", "set", "alice", "--tokens-per-day", "1000000")
            wait_until(lambda: status(first) == status(second) == 200, "both see the higher limit")
            one.json("users", "deactivate", "alice")
            wait_until(lambda: status(first) == status(second) == 403, "both see that alice is out")
        sent = simulator.call(lambda running: len(running.requests_to("/api/chat")))
    rows = one.json("logs", "list", "--limit", "1000")
    assert sum(row["server"] is not None for row in rows) == sent  # one under way may have been ended with alice
