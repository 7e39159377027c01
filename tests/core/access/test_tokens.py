"""Tokens: their format, digests, how they are read from header fields, what the cache remembers."""

from __future__ import annotations

import base64

import bcrypt
import pytest

from ollama_router_core.access.tokens import (
    REJECTED,
    VerifiedTokens,
    check_format,
    hash_token,
    lookup_of,
    mint_token,
    read_credential,
    verify_token,
)
from ollama_router_core.errors import AmbiguousCredential, InvalidCredential, MissingCredential
from support.identities import seeded_token

SALT = bytes(range(16))


def basic(text: str) -> bytes:
    """An Authorization value of the Basic scheme."""
    return b"Basic " + base64.b64encode(text.encode())


class TestFormat:
    """What a token looks like."""

    def test_has_32_base62_characters_with_a_checksum(self) -> None:
        """Format: 26 random characters and 6 of checksum."""
        text = seeded_token().reveal()
        assert len(text) == 32
        assert text.isalnum()
        assert text.isascii()
        assert check_format(text)

    def test_known_checksum(self) -> None:
        """The format is pinned by hand: crc32(26 zeros) in base62, so that old tokens stay valid for ever."""
        assert mint_token(lambda _: 0).reveal() == "0" * 26 + "3vSKjy"

    def test_lookup_is_the_first_eight_characters(self) -> None:
        """The public part by which a token is listed."""
        assert lookup_of(seeded_token().reveal()) == seeded_token().reveal()[:8]

    @pytest.mark.parametrize("text", ["", "a", "0" * 32, "x" * 31, "x" * 33, "é" * 32, "0" * 26 + "3vSKjy\n"])
    def test_other_texts_do_not_pass(self, text: str) -> None:
        """Length, alphabet and checksum are all looked at."""
        assert not check_format(text)

    def test_never_shows_itself(self) -> None:
        """No accident of formatting prints a token."""
        token = seeded_token()
        shown = f"{token} {token!r} {[token]} {token:}"
        assert token.reveal() not in shown
        assert lookup_of(token.reveal()) not in shown

    def test_tokens_are_values(self) -> None:
        """Equal texts are equal tokens."""
        assert seeded_token(1) == seeded_token(1)
        assert hash(seeded_token(1)) == hash(seeded_token(1))
        assert seeded_token(1) != seeded_token(2)
        assert seeded_token(1) != seeded_token(1).reveal()


class TestDigest:
    """bcrypt, and what it must not choke on."""

    def test_verifies_its_own_token_only(self) -> None:
        """The plain law."""
        digest = hash_token(seeded_token(1), salt=SALT, cost=4)
        assert digest.startswith("$2b$04$")
        assert verify_token(seeded_token(1).reveal(), digest)
        assert not verify_token(seeded_token(2).reveal(), digest)

    def test_salt_is_encoded_as_bcrypt_does(self) -> None:
        """Any bcrypt verifies our digests."""
        digest = hash_token(seeded_token(), salt=SALT, cost=4)
        assert bcrypt.hashpw(seeded_token().reveal().encode(), digest.encode()) == digest.encode()

    def test_default_cost_is_12(self) -> None:
        """The promise made for stored digests."""
        assert hash_token(seeded_token(), salt=SALT).startswith("$2b$12$")

    @pytest.mark.parametrize("prefix", [b"2a", b"2b"])
    def test_verifies_digests_of_the_rails_application(self, prefix: bytes) -> None:
        """Its tokens are 32 clear characters without our checksum, its digests are `$2a$`."""
        clear = "kJ8sD0fLq2Wz7XcVbN4mR1tY6uI9oP3e"
        digest = bcrypt.hashpw(clear.encode(), bcrypt.gensalt(4, prefix)).decode()
        assert not check_format(clear)
        assert verify_token(clear, digest)
        assert not verify_token(clear[:-1] + "f", digest)

    @pytest.mark.parametrize("credential", ["", "x" * 73, "a\0b", "é", "\ud800", "a b"])
    def test_credentials_bcrypt_rejects_are_false(self, credential: str) -> None:
        """Over 72 bytes, NUL, not ASCII: no error and no match."""
        assert verify_token(credential, hash_token(seeded_token(), salt=SALT, cost=4)) is False

    @pytest.mark.parametrize(
        "digest",
        [
            "",
            "x",
            "$2b$04$short",
            "$2b$31$" + "a" * 53,
            "$2b$04$" + "!" * 53,
            "$2b$04$" + "z" * 53 + "\n",
            "$1$" + "a" * 57,
        ],
    )
    def test_malformed_digests_are_false(self, digest: str) -> None:
        """A damaged row locks its token out, and breaks nothing else; nor can it cost hours (2**31 rounds)."""
        assert verify_token(seeded_token().reveal(), digest) is False

    def test_a_digest_is_no_token(self) -> None:
        """Who stole the table gets in nowhere."""
        digest = hash_token(seeded_token(), salt=SALT, cost=4)
        assert not verify_token(digest, digest)
        assert not check_format(digest)

    @pytest.mark.parametrize(("salt", "cost"), [(b"short", 4), (SALT, 3), (SALT, 17)])
    def test_refuses_bad_parameters(self, salt: bytes, cost: int) -> None:
        """Nothing weaker than bcrypt's least, nothing that blocks a thread for seconds."""
        with pytest.raises(ValueError, match="16 bytes of salt"):
            hash_token(seeded_token(), salt=salt, cost=cost)


class TestReadCredential:
    """One credential, from one of the places, or an error."""

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"authorization", b"Bearer T0k")],
            [(b"authorization", b"bearer   T0k ")],
            [(b"authorization", basic("anyone:T0k"))],
            [(b"x-api-key", b"T0k")],
            [(b"x-api-key", b" T0k ")],
            [(b"host", b"h"), (b"x-api-key", b"T0k"), (b"authorization", b"Bearer T0k")],
            [(b"x-api-key", b""), (b"authorization", b"Bearer T0k")],
            [(b"authorization", b"Bearer T0k"), (b"x-api-key", b" ")],
            [(b"authorization", b"Bearer "), (b"x-api-key", b"T0k")],
        ],
    )
    def test_accepted_places(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Bearer, Basic (password), x-api-key; both fields if they agree."""
        assert read_credential(headers) == "T0k"

    def test_password_may_hold_colons(self) -> None:
        """Only the first colon separates user and password."""
        assert read_credential([(b"authorization", basic("u:a:b"))]) == "a:b"

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")],
            [(b"x-api-key", b"a"), (b"x-api-key", b"a")],
            [(b"authorization", b"Bearer a"), (b"x-api-key", b"b")],
        ],
    )
    def test_more_than_one_is_ambiguous(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Which of two counts must not be a guess."""
        with pytest.raises(AmbiguousCredential):
            read_credential(headers)

    def test_none_is_missing(self) -> None:
        """No field, no credential; a query string is never looked at."""
        with pytest.raises(MissingCredential):
            read_credential([(b"host", b"h"), (b"cookie", b"token=abc")])

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"Bearer",
            b"Bearer ",
            b"T0k",
            b"Digest T0k",
            b"Bearer a b",
            b"Bearer a, Bearer b",
            b"Bearer a\0b",
            b"Bearer \xc3\xa9",
            b"Bearer " + b"x" * 73,
            b"Basic !!!",
            b"Basic " + base64.b64encode(b"no-colon"),
            b"Basic " + base64.b64encode(b"user:"),
            b"Basic " + base64.b64encode(b"user:\xff"),
        ],
    )
    def test_malformed_is_invalid(self, value: bytes) -> None:
        """401 and not an exception from a decoder; and the text repeats nothing of it."""
        with pytest.raises(InvalidCredential) as caught:
            read_credential([(b"authorization", value)])
        assert "T0k" not in str(caught.value)

    def test_an_empty_api_key_is_invalid(self) -> None:
        """The same rule in the other field."""
        with pytest.raises(InvalidCredential):
            read_credential([(b"x-api-key", b"")])


class TestVerifiedTokens:
    """The cache, with time and epochs handed in."""

    def cache(self, **options: float) -> VerifiedTokens[str]:
        """An empty cache."""
        return VerifiedTokens(b"k" * 32, **options)  # type: ignore[arg-type]

    def test_remembers_what_was_accepted(self) -> None:
        """A hit returns the value, a stranger nothing."""
        cache = self.cache()
        cache.accept("a", "alice", epoch=1, now=0.0)
        assert cache.find("a", epoch=1, now=1.0) == "alice"
        assert cache.find("b", epoch=1, now=1.0) is None

    def test_two_credentials_with_a_long_common_prefix_are_two(self) -> None:
        """The key is of the whole credential, never of a part of it."""
        cache = self.cache()
        cache.accept("x" * 30 + "aa", "alice", epoch=1, now=0.0)
        assert cache.find("x" * 30 + "ab", epoch=1, now=0.0) is None

    def test_accepted_ends_60_seconds_after_its_last_use(self) -> None:
        """Use keeps it alive."""
        cache = self.cache()
        cache.accept("a", "alice", epoch=1, now=0.0)
        assert cache.find("a", epoch=1, now=59.0) == "alice"
        assert cache.find("a", epoch=1, now=118.0) == "alice"
        assert cache.find("a", epoch=1, now=178.0) is None
        assert len(cache) == 0

    def test_rejected_ends_after_30_seconds_whatever_happens(self) -> None:
        """Asking does not keep a rejection alive."""
        cache = self.cache()
        cache.reject("a", epoch=1, now=0.0)
        assert cache.find("a", epoch=1, now=29.0) is REJECTED
        assert cache.find("a", epoch=1, now=30.0) is None

    def test_another_epoch_knows_nothing(self) -> None:
        """A change of users ends every entry that nobody carried over."""
        cache = self.cache()
        cache.accept("a", "alice", epoch=1, now=0.0)
        cache.reject("b", epoch=1, now=0.0)
        assert cache.find("a", epoch=2, now=0.0) is None
        assert cache.find("b", epoch=2, now=0.0) is None

    def test_carries_over_what_still_stands(self) -> None:
        """Who did not change need not be verified again; who did is forgotten, and so are rejections."""
        cache = self.cache()
        cache.accept("a", "alice", epoch=1, now=0.0)
        cache.accept("b", "bob", epoch=1, now=0.0)
        cache.reject("c", epoch=1, now=0.0)
        cache.carry_over(2, {"alice": "alice, renamed"}.get)
        assert cache.find("a", epoch=2, now=0.0) == "alice, renamed"
        assert cache.find("b", epoch=2, now=0.0) is None
        assert len(cache) == 1

    def test_accepting_ends_a_rejection(self) -> None:
        """The newest judgement counts."""
        cache = self.cache()
        cache.reject("a", epoch=1, now=0.0)
        cache.accept("a", "alice", epoch=1, now=0.0)
        assert cache.find("a", epoch=1, now=0.0) == "alice"

    def test_is_bounded_and_forgets_the_least_recently_used(self) -> None:
        """Memory is bounded on both sides, and junk pushes out nothing good."""
        cache = self.cache(max_accepted=2, max_rejected=2)
        for credential in "ab":
            cache.accept(credential, credential, epoch=1, now=0.0)
        assert cache.find("a", epoch=1, now=0.0) == "a"
        cache.accept("c", "c", epoch=1, now=0.0)
        for junk in range(100):
            cache.reject(f"junk{junk}", epoch=1, now=0.0)
        assert [cache.find(credential, epoch=1, now=0.0) for credential in "abc"] == ["a", None, "c"]
        assert len(cache) == 4

    def test_holds_no_credential(self) -> None:
        """A dump of the cache shows no token."""
        cache = self.cache()
        cache.accept("canary-credential", "alice", epoch=1, now=0.0)
        assert "canary" not in repr(list(cache._accepted.items()))

    def test_a_proof_shows_that_another_process_verified_a_credential(self) -> None:
        """It fits one credential and one digest, and cannot be made without the key."""
        here, there, stranger = (
            VerifiedTokens[str](b"k" * 32),
            VerifiedTokens[str](b"k" * 32),
            VerifiedTokens[str](b"x"),
        )
        key = here.key("a")
        proof = here.proof(key, "digest")
        assert there.proof(key, "digest") == proof
        assert len({proof, there.proof(key, "other"), there.proof(there.key("b"), "digest")}) == 3
        assert stranger.proof(key, "digest") != proof
        there.accept_key(key, "alice", epoch=1, now=0.0)
        assert there.find("a", epoch=1, now=0.0) == "alice"
