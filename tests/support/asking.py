"""Clients that ask a router all the time, while something is done to it."""

from __future__ import annotations

import json
import threading
from typing import Protocol

import httpx

__all__ = ["CHAT", "MODEL", "PATIENCE", "Asker", "Router", "stream"]

MODEL = "llama3.1:8b"
PATIENCE = 240.0
"""Seconds after which something hangs; a restart alone has taken 40 on a machine with other work."""
CHAT = {"model": MODEL, "stream": False, "messages": [{"role": "user", "content": "Hello"}]}


class Router(Protocol):
    """Where they ask."""

    @property
    def url(self) -> str:
        """Base URL without a trailing slash."""

    @property
    def token(self) -> str:
        """Of a user."""

    def client(self) -> httpx.Client:
        """A client that identifies itself, and keeps one connection."""


def stream(router: Router) -> bool:
    """Whether a stream came to its end."""
    seen = b""
    with (
        httpx.Client(timeout=PATIENCE, trust_env=False) as client,
        client.stream(
            "POST",
            f"{router.url}/api/chat",
            json=CHAT | {"stream": True},
            headers={"authorization": f"Bearer {router.token}"},
        ) as answer,
    ):
        for piece in answer.iter_raw():
            seen += piece
    return json.loads(seen.splitlines()[-1])["done"] is True


class Asker:
    """Asks one request after the other, on one connection or a new one for each, until the restarts are over."""

    def __init__(self, router: Router, over: threading.Event, *, keeps: bool) -> None:
        self.router, self.over, self.keeps = router, over, keeps

    def __call__(self) -> list[int]:
        """The statuses of 20 answers at least."""
        statuses: list[int] = []
        with self.router.client() as kept:
            while len(statuses) < 20 or not self.over.is_set():
                statuses.append(self._ask(kept) if self.keeps else self._ask_anew())
                self.over.wait(0.05)  # a pace: as fast as they can, eight would leave a successor no processor
        return statuses

    def _ask(self, client: httpx.Client) -> int:
        return client.post("/api/chat", json=CHAT).status_code

    def _ask_anew(self) -> int:
        with self.router.client() as client:
            return self._ask(client)
