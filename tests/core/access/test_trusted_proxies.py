"""Which client a request comes from, by the word of trusted proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.access.trusted_proxies import Proxies

NEAR, FAR, CLIENT, LIAR = "10.0.0.1", "10.9.9.9", "192.0.2.7", "203.0.113.9"
TRUSTED = Proxies(["10.0.0.0/8", "fd00::/8", "127.0.0.1"])
STANDARD = Proxies(["10.0.0.0/8", "fd00::/8"], "forwarded")


def named(*values: str, field: str = "x-forwarded-for") -> list[tuple[bytes, bytes]]:
    """A request's fields."""
    return [(b"host", b"router"), *((field.encode(), value.encode("latin-1")) for value in values)]


@pytest.mark.parametrize(
    ("peer", "fields", "client"),
    [
        (CLIENT, named(LIAR), CLIENT),
        (None, named(LIAR), None),
        (NEAR, [], NEAR),
        (NEAR, named(CLIENT), CLIENT),
        ("::ffff:10.0.0.1", named(CLIENT), CLIENT),
        (NEAR, named(f"{LIAR}, {CLIENT}"), CLIENT),
        (NEAR, named(f"{LIAR}, {CLIENT}, {FAR}"), CLIENT),
        (NEAR, named(LIAR, CLIENT, FAR), CLIENT),
        (NEAR, named(f"{FAR},{FAR}"), FAR),
        (NEAR, named(f"{CLIENT}:4711"), CLIENT),
        (NEAR, named("[2001:db8::1]:4711"), "2001:db8::1"),
        (NEAR, named("2001:DB8:0::1"), "2001:db8::1"),
        (NEAR, named(f"{CLIENT}, unknown, {FAR}"), FAR),
        (NEAR, named("unknown"), NEAR),
        (NEAR, named(""), NEAR),
        (NEAR, named(f"{LIAR},"), NEAR),
        (NEAR, named(f"for={CLIENT}", field="forwarded"), NEAR),
    ],
)
def test_the_nearest_hop_that_is_not_trusted_is_the_client(peer, fields, client):
    """Read from the end; what a client invents stands before its own address and is never reached."""
    assert TRUSTED.client(peer, fields) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f"for={LIAR}, for={CLIENT};proto=https;by=10.0.0.1", CLIENT),
        (f'proto=https;For="{CLIENT}:4711"', CLIENT),
        ('for="[2001:db8::1]"', "2001:db8::1"),
        ("for=_hidden", NEAR),
        ("for=unknown", NEAR),
        ("proto=https", NEAR),
        (f'for="{LIAR}', NEAR),
    ],
)
def test_the_standard_field_where_it_is_the_one_that_proxies_write(value, client):
    """RFC 7239; `X-Forwarded-For` is then the client's own and not read."""
    assert STANDARD.client(NEAR, named(value, field="forwarded") + named(LIAR)) == client


def test_without_trusted_networks_nobody_is_believed():
    """The default."""
    assert Proxies([]).client(NEAR, named(CLIENT)) == NEAR


def test_a_network_is_checked():
    """When the config is read, not when the first request comes."""
    with pytest.raises(ValueError, match="not-a-network"):
        Proxies(["not-a-network"])


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=40), max_size=5), st.booleans())
def test_whatever_a_client_writes_it_is_not_believed_beyond_its_own_address(texts: list[str], standard: bool) -> None:
    """The trusted proxy's own word, at the end, is what counts."""
    proxies, field = (STANDARD, "forwarded") if standard else (TRUSTED, "x-forwarded-for")
    own = f"for={CLIENT}" if standard else CLIENT
    assert proxies.client(NEAR, named(*texts, own, field=field)) == CLIENT
