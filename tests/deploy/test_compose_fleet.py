"""deploy/compose.fleet.yml without a container engine: its services as processes, its commands, config and proxy.

Hosts of the compose file become ports on loopback; everything else is as it stands there. It starts five programs,
which takes some seconds: no smaller test shows that these files work together.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from ollama_router_core.testing import SimulatorThread
from support.orouter import Orouter
from support.postgresql import find_binaries, running_cluster
from support.redis_server import find_server, running_redis
from support.waiting import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
CHAT = {"model": "llama3.2:3b", "messages": [{"role": "user", "content": "hi"}], "stream": False}

pytestmark = pytest.mark.skipif(
    shutil.which("caddy") is None or find_server() is None or find_binaries() is None,
    reason="Caddy, Redis or PostgreSQL is not installed",
)


def compose() -> dict[str, Any]:
    """The services."""
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.fleet.yml").read_text())["services"]
    return services


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def router(folder: Path, name: str, places: dict[str, str], servers: dict[str, int]) -> Orouter:
    """One router's machine: the mounted config and the environment of the compose file, with other addresses."""
    home = folder / name
    home.mkdir()
    variables = compose()[name]["environment"]
    assert set(variables) == set(places)
    machine = Orouter(home=home, variables=places)
    mounted = compose()[name]["volumes"][0].partition(":")[0]
    text = (DEPLOY / mounted).read_text().replace("0.0.0.0", "127.0.0.1")
    for host, port in servers.items():
        text = text.replace(f"host: {host},", f"host: 127.0.0.1, port: {port},")
    machine.config.write_text(text)
    return machine


@contextmanager
def caddy(folder: Path, routers: dict[str, str]) -> Iterator[str]:
    """The proxy with its config; gives its address."""
    port = free_port()
    text = (DEPLOY / "fleet.Caddyfile").read_text().replace(":8080 {", f"http://127.0.0.1:{port} {{")
    for name, url in routers.items():
        text = text.replace(f"{name}:11434", url.removeprefix("http://"))
    path = folder / "Caddyfile"
    path.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{text}")
    words = [str(path) if word == "/etc/caddy/Caddyfile" else word for word in compose()["proxy"]["command"]]
    environment = {**os.environ, "HOME": str(folder)}
    with (
        (folder / "caddy.log").open("wb") as log,
        subprocess.Popen(words, stdout=log, stderr=log, env=environment) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL with an empty database, and Redis; gives the routers' environment."""
    with ExitStack() as opened:
        cluster = opened.enter_context(running_cluster(find_binaries() or folder))
        redis = opened.enter_context(running_redis(find_server() or ""))
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE router")
        url = cluster.url.replace("/postgres?", "/router?")
        yield {"OROUTER_DATABASE_URL": url, "OROUTER_COORDINATION_URL": redis.url}


def test_the_fleet_of_the_compose_file_serves_and_one_router_may_stop(tmp_path):
    """`migrate` upgrades it, both routers answer for one user behind the proxy, and one alone goes on doing so."""
    with (
        databases(tmp_path) as places,
        SimulatorThread(models=["llama3.2:3b"]) as small,
        SimulatorThread(models=["llama3.2:3b"]) as big,
    ):
        machines = {name: router(tmp_path, name, places, {"small": small.port, "big": big.port}) for name in ROUTERS}
        refused = machines["router1"].run(*compose()["router1"]["command"])
        assert (refused.returncode, "orouter db upgrade" in refused.stderr) == (1, True)
        migrated = machines["router1"].run(*compose()["migrate"]["command"])
        assert migrated.returncode == 0, migrated.stderr
        token = machines["router1"].json("users", "create", "alice")["token"]
        headers = {"authorization": f"Bearer {token}"}
        with ExitStack() as first, machines["router2"].serve("--port", "0") as two:
            urls = {"router1": first.enter_context(machines["router1"].serve("--port", "0")), "router2": two}
            with caddy(tmp_path, urls) as proxy, httpx.Client(headers=headers, trust_env=False, timeout=30) as client:

                def served(url: str = proxy) -> bool:
                    try:
                        return client.post(f"{url}/api/chat", json=CHAT).status_code == 200
                    except httpx.TransportError:
                        return False

                for url in (*urls.values(), proxy):
                    wait_until(lambda url=url: served(url), f"{url} answers")
                first.close()
                assert all(served() for _ in range(10)), (tmp_path / "caddy.log").read_text()[-2000:]


ROUTERS = ("router1", "router2")


def test_the_compose_file_is_of_hardened_containers_and_no_password():
    """As the other one; the password has to be given."""
    text = (DEPLOY / "compose.fleet.yml").read_text()
    assert text.count("${POSTGRES_PASSWORD:?set a password}") == 2
    for name, service in compose().items():
        if name != "postgres":
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
