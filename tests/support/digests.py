"""Digests of tokens for tests: bcrypt's usual cost is a quarter of a second of processor time for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from ollama_router_core.access.tokens import Token, hash_token

__all__ = ["cheap_digests"]


@contextmanager
def cheap_digests() -> Iterator[None]:
    """Users who are made inside, by this process, have digests of the least cost."""

    def cheap(token: Token, *, salt: bytes, cost: int) -> str:
        return hash_token(token, salt=salt, cost=min(cost, 4))

    with patch("ollama_router_server.storage.user_store.hash_token", cheap):
        yield
