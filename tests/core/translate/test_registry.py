"""Dialects are registered once, and completely."""

from __future__ import annotations

import pytest

from ollama_router_core.api.endpoints import ENDPOINTS, Body, Endpoint, Family, Kind
from ollama_router_core.translate import CODECS, ROUTES, HostTraits, codec_of, family_of_domain, route_at
from ollama_router_core.translate.registry import _by_family

AS_IT_IS = {
    "openai_compact",
    "openai_image_edits",
    "openai_images",
    "openai_rerank",
    "openai_speech",
    "plain_rerank",
    "rerank",
    "systemone",
}
"""Routes that infer and that no other dialect has a counterpart of."""
TRANSLATED = [row for row in ENDPOINTS if row.kind is Kind.INFER and row.body is Body.JSON and row.name not in AS_IT_IS]


def test_a_family_without_a_codec_does_not_import() -> None:
    """The registry fails where it is made, and not at the first request; so it does for two codecs of one family."""
    codecs = tuple(CODECS.values())
    for wrong in (codecs[1:], (*codecs, codecs[0])):
        with pytest.raises(NotImplementedError, match="exactly one codec"):
            _by_family(*wrong)


@pytest.mark.parametrize("row", TRANSLATED, ids=lambda row: row.name)
def test_every_route_that_infers_can_be_translated(row: Endpoint) -> None:
    """The row, its route and its codec agree on whose dialect it is."""
    route = route_at(row.path)
    assert route is not None
    assert route.family is row.family
    assert route in codec_of(row.family).routes


def test_routes_have_names_and_paths_of_their_own() -> None:
    """A name may stand in logs, and a path finds its route."""
    assert len({route.name for route in ROUTES}) == len({route.path for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("family", Family)
def test_a_host_serves_its_own_routes_untranslated(family: Family) -> None:
    """What a host has itself is never put into other words on its way there."""
    for row in (row for row in TRANSLATED if row.family is family):
        assert codec_of(family).serves(row, HostTraits())


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("API.anthropic.com", Family.ANTHROPIC),
        ("ollama.com", Family.OLLAMA),
        ("api.openai.com", Family.OPENAI),
        ("notanthropic.com", None),
        ("vllm", None),
    ],
)
def test_hosts_that_are_known_by_name(host: str, family: Family | None) -> None:
    """By their domain and what is below it, and nothing that only ends alike."""
    assert family_of_domain(host) is family


def test_a_base_url_is_what_the_dialect_s_clients_expect() -> None:
    """OpenAI's clients want `/v1` in it, the others add it themselves."""
    assert {family.value: codec.client_base for family, codec in CODECS.items()} == {
        "ollama": "",
        "openai": "/v1",
        "anthropic": "",
        "openai_responses": "/v1",
    }
