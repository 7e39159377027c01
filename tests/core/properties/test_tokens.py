"""Laws of tokens."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_router_core.access.tokens import Token, check_format, hash_token, read_credential, verify_token
from ollama_router_core.errors import AccessError
from support.identities import seeded_token

BASE62 = string.digits + string.ascii_letters
SALT = bytes(16)

minted = st.integers(min_value=0).map(seeded_token)
# A digest takes a millisecond at bcrypt's least cost: one is enough for the laws about other tokens.
TOKEN = seeded_token(0)
DIGEST = hash_token(TOKEN, salt=SALT, cost=4)


@given(minted)
@settings(max_examples=20, deadline=None)
def test_a_minted_token_verifies(token: Token) -> None:
    """It passes the format check and verifies against its own digest."""
    assert check_format(token.reveal())
    assert verify_token(token.reveal(), hash_token(token, salt=SALT, cost=4))


@given(minted, st.integers(0, 31), st.sampled_from(BASE62))
def test_a_changed_character_fails_the_format_check(token: Token, position: int, character: str) -> None:
    """Every change of a single character is noticed without bcrypt."""
    text = token.reveal()
    changed = text[:position] + character + text[position + 1 :]
    assert check_format(changed) == (changed == text)


@given(st.integers(0, 31), st.characters(min_codepoint=33, max_codepoint=126))
@settings(max_examples=30, deadline=None)
def test_a_changed_character_does_not_verify(position: int, character: str) -> None:
    """And bcrypt would notice it as well, wherever it stands."""
    text = TOKEN.reveal()
    changed = text[:position] + character + text[position + 1 :]
    assert verify_token(changed, DIGEST) == (changed == text)


@given(st.text(max_size=80))
@settings(max_examples=100, deadline=None)
def test_junk_neither_passes_nor_raises(junk: str) -> None:
    """Whatever comes, the answer is no."""
    assert not check_format(junk)
    assert not verify_token(junk, DIGEST)


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"x-api-key", b"host"]), st.binary(max_size=90)), max_size=4)
)
def test_any_header_fields_give_a_credential_or_an_access_error(headers: list[tuple[bytes, bytes]]) -> None:
    """No bytes of a client get past the two outcomes, and what comes out is safe for bcrypt."""
    try:
        credential = read_credential(headers)
    except AccessError:
        return
    assert 1 <= len(credential.encode("ascii")) <= 72
    assert "\0" not in credential
