"""API tokens: mint, recognise and verify them, and cache the results.

A token has 32 base62 characters: 26 random ones (154.8 bits) and their CRC-32 in 6. The checksum rejects typos and
scanners' junk without cryptography. The first 8 characters are the public `lookup`, which selects the one digest to
compare with; the other 18 random ones (107 bits) are secret.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import blake2b
from typing import Final, Generic, TypeVar

import bcrypt

from ollama_router_core.errors import AmbiguousCredential, InvalidCredential, MissingCredential

__all__ = [
    "LOOKUP_LENGTH",
    "REJECTED",
    "TOKEN_LENGTH",
    "Rejected",
    "Token",
    "VerifiedTokens",
    "check_format",
    "hash_token",
    "is_digest",
    "lookup_of",
    "mint_token",
    "read_credential",
    "verify_token",
]

TOKEN_LENGTH: Final = 32
LOOKUP_LENGTH: Final = 8

_RANDOM_LENGTH: Final = 26
_ACCEPTED_SECONDS: Final = 60.0
_REJECTED_SECONDS: Final = 30.0
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FORMAT: Final = re.compile(r"[0-9A-Za-z]{32}", re.ASCII)
_CREDENTIAL: Final = re.compile(rb"[\x21-\x7e]{1,72}")
# A cost above 16 in a stored digest would block a thread for seconds; no known program writes one.
_DIGEST: Final = re.compile(r"\$2[abxy]\$(?:0[4-9]|1[0-6])\$[./0-9A-Za-z]{53}", re.ASCII)
_STANDARD_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPT_BASE64: Final = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_TO_BCRYPT: Final = bytes.maketrans(_STANDARD_BASE64, _BCRYPT_BASE64)


class Token:
    """A secret, shown only by `reveal`, never in `repr`, `str`, f-strings or errors."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the token's text, to show it once to its owner."""
        return self._text

    def __repr__(self) -> str:
        return "Token(***)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)


def _checksum(random_part: str) -> str:
    """Return the CRC-32 of the ASCII bytes as 6 base62 digits, most significant first (62**6 > 2**32)."""
    rest = zlib.crc32(random_part.encode("ascii"))
    digits = ""
    for _ in range(TOKEN_LENGTH - _RANDOM_LENGTH):
        rest, digit = divmod(rest, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def mint_token(randbelow: Callable[[int], int]) -> Token:
    """Mint a token.

    Args:
        randbelow: returns an unpredictable integer in `range(n)`, as `secrets.randbelow` does.
    """
    random_part = "".join(_ALPHABET[randbelow(62)] for _ in range(_RANDOM_LENGTH))
    return Token(random_part + _checksum(random_part))


def check_format(text: str) -> bool:
    """Return whether a text has the format of a token; any change of a single character is detected.

    CRC-32 detects every change within 32 consecutive bits, so also that of one 8-bit character.
    """
    return _FORMAT.fullmatch(text) is not None and _checksum(text[:_RANDOM_LENGTH]) == text[_RANDOM_LENGTH:]


def lookup_of(text: str) -> str:
    """Return the public first 8 characters, which identify a token in lists and look-ups."""
    return text[:LOOKUP_LENGTH]


def hash_token(token: Token, *, salt: bytes, cost: int = 12) -> str:
    """Compute the bcrypt digest to store (`$2b$`).

    Args:
        token: the token, hashed as a whole.
        salt: 16 random bytes.
        cost: binary logarithm of the rounds, 4 to 16; 12 takes about a quarter of a second.

    Raises:
        ValueError: salt or cost out of range, or a token over bcrypt's limit of 72 bytes.
    """
    if len(salt) != 16 or not 4 <= cost <= 16:
        raise ValueError("expected 16 bytes of salt and a cost from 4 to 16")
    encoded = base64.b64encode(salt).rstrip(b"=").translate(_TO_BCRYPT)
    return bcrypt.hashpw(token.reveal().encode("ascii"), b"$2b$%02d$%s" % (cost, encoded)).decode("ascii")


def is_digest(text: str) -> bool:
    """Return whether a text is a bcrypt digest that `verify_token` accepts."""
    return _DIGEST.fullmatch(text) is not None


def verify_token(credential: str, digest: str) -> bool:
    """Return whether the digest is of this credential; the time depends on the digest's cost.

    Digests of other programs (`$2a$`, `$2y$`) and credentials of any format are supported. Input that bcrypt rejects
    returns False: over 72 bytes, NUL, not ASCII, a malformed digest.
    """
    secret = credential.encode("utf-8", "surrogatepass")
    if _CREDENTIAL.fullmatch(secret) is None or not is_digest(digest):
        return False
    try:
        return bcrypt.checkpw(secret, digest.encode("ascii"))
    except ValueError:  # a salt whose spare bits are set
        return False


def read_credential(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the credential in a request's header fields.

    It may be in `Authorization` (Bearer, or Basic with the token as password) or in `x-api-key`, or in both if they
    agree, as some SDKs send it. If both are present, an empty one is ignored: clients without a key send it empty.
    Field names must be in lower case, as in ASGI.

    Raises:
        MissingCredential: neither field is present.
        AmbiguousCredential: a field is repeated, or the two disagree.
        InvalidCredential: another scheme, or not 1 to 72 printable ASCII characters.
    """
    authorization = api_key = None
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                raise AmbiguousCredential("send one Authorization header, not several")
            authorization = value
        elif name == b"x-api-key":
            if api_key is not None:
                raise AmbiguousCredential("send one x-api-key header, not several")
            api_key = value
    if authorization is None:
        if api_key is None:
            raise MissingCredential("send a token: Authorization: Bearer TOKEN, or x-api-key: TOKEN")
        return _checked(api_key.strip())
    given = _from_authorization(authorization)
    if not given and api_key is not None and api_key.strip():
        return _checked(api_key.strip())
    credential = _checked(given)
    if api_key is not None and api_key.strip() and _checked(api_key.strip()) != credential:
        raise AmbiguousCredential("Authorization and x-api-key have different credentials; send one of them")
    return credential


def _from_authorization(value: bytes) -> bytes:
    scheme, _, rest = value.strip().partition(b" ")
    scheme, rest = scheme.lower(), rest.strip()
    if scheme == b"bearer":
        return rest
    if scheme != b"basic":
        raise InvalidCredential("Authorization must be: Bearer TOKEN (or Basic with the token as password)")
    try:
        _, colon, password = base64.b64decode(rest, validate=True).partition(b":")
    except binascii.Error:
        colon, password = b"", b""
    if not colon:
        raise InvalidCredential("Authorization: Basic must contain base64 of USER:TOKEN")
    return password


def _checked(credential: bytes) -> str:
    if _CREDENTIAL.fullmatch(credential) is None:
        raise InvalidCredential("the token must be 1 to 72 printable ASCII characters")
    return credential.decode("ascii")


class Rejected(Enum):
    """The type of `REJECTED`: the credential was checked and matches no user."""

    REJECTED = "rejected"


REJECTED: Final = Rejected.REJECTED

Value = TypeVar("Value")


class _Entry(Generic[Value]):
    __slots__ = ("epoch", "expires", "value")

    def __init__(self, value: Value, epoch: int, expires: float) -> None:
        self.value = value
        self.epoch = epoch
        self.expires = expires


class VerifiedTokens(Generic[Value]):
    """A cache of bcrypt results, keyed by a keyed BLAKE2b of each credential.

    Every entry belongs to one `epoch` of the user table and is ignored in any other; `carry_over` moves entries that
    are still valid. An accepted credential expires a minute after its last use (a bcrypt result does not age, and the
    epoch covers changes of users), a rejected one 30 seconds after its check. Accepted and rejected entries are in
    separate bounded LRU caches, so that junk cannot evict valid credentials. `now` is seconds of a monotonic clock.

    Args:
        key: at most 64 random bytes, shared only by processes that exchange results, so that keys in a memory dump
            match nothing elsewhere.
        max_accepted: maximum number of accepted entries.
        max_rejected: maximum number of rejected entries.
    """

    __slots__ = ("_accepted", "_key", "_max_accepted", "_max_rejected", "_rejected")

    def __init__(self, key: bytes, *, max_accepted: int = 16_384, max_rejected: int = 4_096) -> None:
        self._key = key
        self._max_accepted = max_accepted
        self._max_rejected = max_rejected
        self._accepted: OrderedDict[bytes, _Entry[Value]] = OrderedDict()
        self._rejected: OrderedDict[bytes, _Entry[Rejected]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accepted) + len(self._rejected)

    def find(self, credential: str, *, epoch: int, now: float) -> Value | Rejected | None:
        """Return the accepted credential's value, `REJECTED`, or None if bcrypt must decide."""
        key = self.key(credential)
        accepted = self._accepted.get(key)
        if accepted is not None:
            if accepted.epoch == epoch and now < accepted.expires:
                accepted.expires = now + _ACCEPTED_SECONDS
                self._accepted.move_to_end(key)
                return accepted.value
            del self._accepted[key]
        rejected = self._rejected.get(key)
        if rejected is not None:
            if rejected.epoch == epoch and now < rejected.expires:
                self._rejected.move_to_end(key)
                return rejected.value
            del self._rejected[key]
        return None

    def accept(self, credential: str, value: Value, *, epoch: int, now: float) -> None:
        """Cache an accepted credential of this epoch with its value."""
        self.accept_key(self.key(credential), value, epoch=epoch, now=now)

    def accept_key(self, key: bytes, value: Value, *, epoch: int, now: float) -> None:
        """Cache a credential accepted by another process; check its `proof` first."""
        self._rejected.pop(key, None)
        self._accepted[key] = _Entry(value, epoch, now + _ACCEPTED_SECONDS)
        self._accepted.move_to_end(key)
        if len(self._accepted) > self._max_accepted:
            self._accepted.popitem(last=False)

    def reject(self, credential: str, *, epoch: int, now: float) -> None:
        """Cache a credential that matches no user in this epoch."""
        key = self.key(credential)
        self._rejected[key] = _Entry(REJECTED, epoch, now + _REJECTED_SECONDS)
        self._rejected.move_to_end(key)
        if len(self._rejected) > self._max_rejected:
            self._rejected.popitem(last=False)

    def proof(self, key: bytes, digest: str) -> bytes:
        """Prove to a process with the same key that the credential of this `key` matches a token's bcrypt digest."""
        return blake2b(key + digest.encode(), key=self._key, digest_size=16, person=b"fits").digest()

    def carry_over(self, epoch: int, renew: Callable[[Value], Value | None]) -> None:
        """Enter a new epoch, keeping accepted credentials that are still valid.

        Rejections are dropped, as tokens may have been added.

        Args:
            epoch: the new epoch.
            renew: maps an entry's value to its new value, None if the digest it was verified against has changed.
        """
        self._rejected.clear()
        for key, entry in list(self._accepted.items()):
            value = renew(entry.value)
            if value is None:
                del self._accepted[key]
            else:
                entry.value, entry.epoch = value, epoch

    def key(self, credential: str) -> bytes:
        """Return the cache key of a credential; useless without this object's own key."""
        return blake2b(credential.encode("utf-8", "surrogatepass"), key=self._key, digest_size=32).digest()
