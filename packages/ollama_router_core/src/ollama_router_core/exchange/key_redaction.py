"""Our keys do not come back: what an external host echoes is masked as it passes, however it is spelled.

A mask is as long as the key, so that a declared length stays true. A piece is held back only as far as it might be the
beginning of a key.
"""

from __future__ import annotations

import re

from ollama_router_core.exchange.events import Piece
from ollama_router_core.outbound.destinations import Destination
from ollama_router_core.outbound.echoes import echoed

__all__ = ["Redactor", "redactor_for"]


class Redactor:
    """Masks keys in bytes that come in pieces."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = tuple(echoed(secret) for secret in secrets)
        self._held = b""

    def redact(self, piece: Piece) -> bytes:
        """Redact a piece; return what may pass now."""
        return self.feed(piece.data) + (self.end() if piece.complete else b"")

    def feed(self, piece: bytes) -> bytes:
        """Mask keys in a piece; return the bytes that may pass now."""
        data = self._held + piece
        for secret in self._secrets:
            data = secret.pattern.sub(_mask, data)
        keep = max((secret.held_back(data) for secret in self._secrets), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """Return what was held back and turned out to be no key."""
        held, self._held = self._held, b""
        return held


def _mask(found: re.Match[bytes]) -> bytes:
    return b"*" * len(found[0])


def redactor_for(destination: Destination) -> Redactor | None:
    """Make the redactor of our keys in an answer from there; None where there is no key of ours."""
    secrets = destination.secrets
    return Redactor(secrets) if secrets else None
