"""Proofs that a credential fits a bcrypt digest: checked in microseconds, worthless without a key."""

from __future__ import annotations

import hmac
from typing import Final

__all__ = ["KEY_LENGTH", "TokenProver"]

KEY_LENGTH: Final = 32


class TokenProver:
    """HMAC-SHA256 over a credential and the bcrypt digest that it fits.

    A proof is stored beside the digest once bcrypt has confirmed the credential. It names one credential: where there
    is a proof for a digest, any other credential is wrong, and bcrypt need not say so.

    Args:
        key: 32 random bytes, kept where the digests are not.

    Raises:
        ValueError: a key of another length.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"expected a key of {KEY_LENGTH} bytes, got {len(key)}")
        self._key = key
        self.key_id = hmac.digest(key, b"key-id", "sha256").hex()[:16]
        """Which key made a proof; tells nothing about the key."""

    def prove(self, credential: str, digest: str) -> str:
        """Return the proof, 64 hex digits."""
        # No digest has a NUL, so no two pairs have one message.
        message = digest.encode() + b"\0" + credential.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()

    def derive(self, purpose: bytes) -> bytes:
        """Return 32 bytes that all who have the key agree on, and that tell nothing about it."""
        return hmac.digest(self._key, b"derive\0" + purpose, "sha256")

    def fits(self, credential: str, digest: str, proof: str) -> bool:
        """Tell whether a stored proof is of this credential and this digest."""
        return hmac.compare_digest(self.prove(credential, digest), proof)
