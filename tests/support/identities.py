"""Tokens and header fields that are the same in every run."""

from __future__ import annotations

import random

from ollama_router_core.access.tokens import Token, mint_token

__all__ = ["bearer", "seeded_token"]


def seeded_token(seed: int = 1) -> Token:
    """A well-formed token; equal seeds give equal tokens."""
    return mint_token(random.Random(seed).randrange)  # noqa: S311 - test data, nothing secret


def bearer(token: Token | str) -> list[tuple[bytes, bytes]]:
    """Header fields of a request with this token."""
    text = token.reveal() if isinstance(token, Token) else token
    return [(b"host", b"router"), (b"authorization", f"Bearer {text}".encode())]
