"""Our keys do not come back: what an external host echoes is masked as it passes.

A mask is as long as the key, so that a declared length stays true. A piece is held back only as far as it might be the
beginning of a key.
"""

from __future__ import annotations

from ollama_router_core.outbound.destinations import Destination
from ollama_router_server.upstream.interface import UpstreamResponse

__all__ = ["Redacted", "Redactor", "redacted"]


def redacted(response: UpstreamResponse, place: Destination) -> UpstreamResponse:
    """An answer as it may be relayed: unchanged from places that have no key of ours."""
    return Redacted(response, place) if place.secrets else response


class Redacted:
    """An answer without our keys; see `UpstreamResponse`."""

    def __init__(self, response: UpstreamResponse, place: Destination) -> None:
        self._response = response
        self._redactor = Redactor(place.secrets)
        self._ended = False
        self.status = response.status
        self.headers = tuple((name, place.redact(value)) for name, value in response.headers)

    @property
    def complete(self) -> bool:
        """Whether all of the body has been handed out."""
        return self._ended

    async def read(self) -> bytes:
        """The next piece."""
        while not self._ended:
            piece = await self._response.read()
            self._ended = not piece
            shown = self._redactor.feed(piece) if piece else self._redactor.end()
            if shown:
                return shown
        return b""

    def close(self) -> None:
        """Give the connection back, or cut it."""
        self._response.close()


class Redactor:
    """Masks keys in bytes that come in pieces."""

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""

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
