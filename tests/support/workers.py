"""A router of several workers as processes, and a connection to each of them."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from support.orouter import Orouter, Running
from support.router import users_in

__all__ = ["ServedRouter", "served"]

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of http addresses: each would load the machine's authorities, which costs more than its requests."""


@dataclass(frozen=True, kw_only=True)
class ServedRouter:
    """A router that accepts connections; `token` is alice's, `admin_token` root's."""

    url: str
    running: Running
    orouter: Orouter
    token: str = field(repr=False)
    admin_token: str = field(repr=False)

    def client(self, token: str | None = None) -> httpx.Client:
        """A client that identifies itself as alice or by `token`; it keeps one connection, and so one worker."""
        headers = {"authorization": f"Bearer {self.token if token is None else token}"}
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=60)
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=120, verify=_NO_TLS, trust_env=False, limits=limits
        )

    def admin(self, path: str) -> httpx.Response:
        """What any worker answers an admin."""
        with self.client(self.admin_token) as client:
            return client.get(path)

    @contextmanager
    def each_worker(self, token: str | None = None) -> Iterator[dict[int, httpx.Client]]:
        """A client for each worker, by its index. Who answers is asked as an admin, on the same connection."""
        with ExitStack() as opened:
            found: dict[int, httpx.Client] = {}
            count = 1
            for _ in range(400):
                client = opened.enter_context(self.client(token))
                told = self.worker_of(client)
                count = told["count"]
                found.setdefault(told["index"], client)
                if len(found) == count:
                    yield found
                    return
        raise AssertionError(f"only {sorted(found)} of {count} workers ever answered")

    def worker_of(self, client: httpx.Client) -> dict[str, int]:
        """Which worker a client's connection leads to."""
        headers = {"authorization": f"Bearer {self.admin_token}"}
        worker: dict[str, int] = client.get("/router/status", headers=headers).json()["worker"]
        return worker

    def pids(self) -> list[int]:
        """The workers' processes."""
        pid = self.running.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def log(self) -> list[dict[str, Any]]:
        """The router's own log so far."""
        whole, _, _ = self.running.errors.read_text().rpartition("\n")  # the last line may still be written
        lines = whole.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextmanager
def served(
    folder: Path,
    servers: dict[str, dict[str, Any]],
    *arguments: str,
    variables: dict[str, str] | None = None,
    **config: Any,
) -> Iterator[ServedRouter]:
    """Run `orouter serve` with these arguments over these servers; other keyword arguments are settings."""
    token, admin_token = asyncio.run(users_in(folder))
    orouter = Orouter(home=folder, variables=variables or {})
    orouter.config.write_text(json.dumps({"servers": servers, **config}))
    with orouter.start("serve", "--port", "0", *arguments) as running:
        url = running.listening_url()
        yield ServedRouter(url=url, running=running, orouter=orouter, token=token, admin_token=admin_token)
