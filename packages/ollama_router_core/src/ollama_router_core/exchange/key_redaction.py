"""Masks the router's API keys in responses of external hosts, in every known encoding.

A mask is as long as the key, so that a declared length stays valid. Only bytes that may begin a key are held back.
"""

from __future__ import annotations

import re

from ollama_router_core.exchange.events import Piece
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.echoes import echoed

__all__ = ["Redactor", "redactor_for"]


class Redactor:
    """Masks keys in a stream of bytes."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = tuple(echoed(secret) for secret in secrets)
        self._held = b""

    def redact(self, piece: Piece) -> bytes:
        """Mask keys in a piece, the last one included; return the bytes that can be sent."""
        return self.feed(piece.data) + (self.end() if piece.complete else b"")

    def feed(self, piece: bytes) -> bytes:
        """Mask keys in a piece; return the bytes that can be sent."""
        data = self._held + piece
        for secret in self._secrets:
            data = secret.pattern.sub(_mask, data)
        keep = max((secret.held_back(data) for secret in self._secrets), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """Return the bytes held back, which are no key."""
        held, self._held = self._held, b""
        return held


def _mask(found: re.Match[bytes]) -> bytes:
    return b"*" * len(found[0])


def redactor_for(destination: Destination) -> Redactor | None:
    """Make the redactor for a destination's keys; None if it has none."""
    secrets = destination.secrets
    return Redactor(secrets) if secrets else None
