"""Proofs that a credential matches a bcrypt digest: verified in microseconds, useless without the key."""

from __future__ import annotations

import hmac
from typing import Final

__all__ = ["KEY_LENGTH", "TokenProver"]

KEY_LENGTH: Final = 32


class TokenProver:
    """HMAC-SHA256 over a credential and its bcrypt digest.

    A proof is stored with the digest once bcrypt has verified the credential. It identifies one credential: if a digest
    has a proof, any other credential is wrong without another bcrypt check.

    Args:
        key: 32 random bytes, stored apart from the digests.

    Raises:
        ValueError: the key has another length.
    """

    __slots__ = ("_key", "key_id")

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"expected a key of {KEY_LENGTH} bytes, got {len(key)}")
        self._key = key
        self.key_id = hmac.digest(key, b"key-id", "sha256").hex()[:16]
        """Identifies the key of a proof without revealing it."""

    def prove(self, credential: str, digest: str) -> str:
        """Return the proof, 64 hex digits."""
        # A digest contains no NUL, so each pair has a distinct message.
        message = digest.encode() + b"\0" + credential.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, message, "sha256").hex()

    def derive(self, purpose: bytes) -> bytes:
        """Derive 32 bytes from the key for a purpose, without revealing the key."""
        return hmac.digest(self._key, b"derive\0" + purpose, "sha256")

    def fits(self, credential: str, digest: str, proof: str) -> bool:
        """Return whether a stored proof is of this credential and this digest."""
        return hmac.compare_digest(self.prove(credential, digest), proof)
