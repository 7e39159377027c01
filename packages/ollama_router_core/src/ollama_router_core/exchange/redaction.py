"""Our keys do not come back: what an external host echoes is masked as it passes.

A mask is as long as the key, so that a declared length stays true. A piece is held back only as far as it might be the
beginning of a key.
"""

from __future__ import annotations

from ollama_router_core.exchange.events import Piece
from ollama_router_core.outbound.destinations import Destination

__all__ = ["Redactor", "redactor_for"]


class Redactor:
    """Masks keys in bytes that come in pieces."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""

    def redact(self, piece: Piece) -> bytes:
        """What may pass now."""
        return self.feed(piece.data) + (self.end() if piece.complete else b"")

    def feed(self, piece: bytes) -> bytes:
        """The bytes that may pass now."""
        data = self._held + piece
        for secret in self._secrets:
            data = data.replace(secret, b"*" * len(secret))
        keep = max((_overlap(data, secret) for secret in self._secrets), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """What was held back and turned out to be no key."""
        held, self._held = self._held, b""
        return held


def _overlap(data: bytes, secret: bytes) -> int:
    """How many of the last bytes are the first ones of a secret."""
    longest = min(len(data), len(secret) - 1)
    return next((size for size in range(longest, 0, -1) if data.endswith(secret[:size])), 0)


def redactor_for(destination: Destination) -> Redactor | None:
    """What masks our keys in an answer from there; None where there is no key of ours."""
    secrets = destination.secrets
    return Redactor(secrets) if secrets else None
