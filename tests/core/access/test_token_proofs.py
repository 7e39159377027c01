"""Proofs of tokens: of one credential, one digest and one key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.token_proofs import TokenProver

PROVER = TokenProver(b"k" * 32)
DIGEST = "$2b$12$" + "a" * 53


def test_a_proof_fits_what_it_was_made_of() -> None:
    """64 hex digits, as the column has room for."""
    proof = PROVER.prove("secret", DIGEST)
    assert len(proof) == 64
    assert PROVER.fits("secret", DIGEST, proof)


@given(st.text(min_size=1, max_size=72), st.text(min_size=1, max_size=72))
def test_it_fits_no_other_credential_digest_or_key(one: str, other: str) -> None:
    """What a proof was made of cannot be exchanged."""
    proof = PROVER.prove(one, DIGEST)
    assert PROVER.fits(other, DIGEST, proof) == (one == other)
    assert not PROVER.fits(one, DIGEST[:-1] + "b", proof)
    assert not TokenProver(b"l" * 32).fits(one, DIGEST, proof)


def test_the_key_is_never_shown() -> None:
    """Not by its id and not by the prover's text; another length is refused."""
    assert (b"k" * 32).hex()[:8] not in PROVER.key_id
    assert "k" * 8 not in repr(PROVER)
    assert PROVER.key_id != TokenProver(b"l" * 32).key_id
    with pytest.raises(ValueError, match="32 bytes"):
        TokenProver(b"short")
