"""Laws of observing: junk does no harm."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.model_names import CanonicalName
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.observations import observe_ps, observe_show, observe_tags, observe_version
from ollama_router_core.fleet.snapshot import ServerFacts
from support.json_texts import values

NEW = ServerFacts(name="a")
X = CanonicalName("x:latest")
fields = st.sampled_from(["name", "model", "size", "size_vram", "digest", "details", "expires_at", "context_length"])
odd = values | st.sampled_from(["x", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+14:00"])
rows = st.lists(values | st.dictionaries(fields, odd), max_size=4)
info = st.dictionaries(
    st.sampled_from(["general.architecture", "x.block_count", "x.attention.head_count_kv", "x.vocab_size"]),
    odd | st.just("x"),
)
bodies = (
    st.binary(max_size=40)
    | values.map(lambda value: json.dumps(value).encode())
    | rows.map(lambda models: json.dumps({"models": models}).encode())
    | st.fixed_dictionaries({"model_info": info | values}).map(lambda show: json.dumps(show).encode())
)


@given(bodies, st.floats(0, 1e10))
def test_any_body_gives_facts_or_a_protocol_error(body: bytes, wall: float) -> None:
    """A server cannot crash the poller, whatever it answers."""
    known = observe_tags(NEW, b'{"models":[{"name":"x"}]}', now=0)
    with contextlib.suppress(UpstreamProtocolError):
        observe_tags(NEW, body, now=1)
    with contextlib.suppress(UpstreamProtocolError):
        observe_ps(NEW, body, now=1, wall=wall)
    with contextlib.suppress(UpstreamProtocolError):
        observe_show(known, X, body)
    assert observe_version(NEW, body, probe_ms=1, now=1).up is True


@given(rows)
def test_believed_facts_can_be_written_down(models: list[Any]) -> None:
    """Names are printable text and sizes are whole, not negative and at most 64 bits."""
    installed = observe_tags(NEW, json.dumps({"models": models}).encode(), now=0).installed
    loaded = observe_ps(NEW, json.dumps({"models": models}).encode(), now=0, wall=0).loaded
    assert installed is not None
    assert set(installed) == set(loaded)
    for model in [*installed.values(), *loaded.values()]:
        assert model.name.isprintable()
        assert 0 <= model.size < 1 << 63
