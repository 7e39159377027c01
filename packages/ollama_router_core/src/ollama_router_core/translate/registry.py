"""The registry of all dialects."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate.anthropic.codec import ANTHROPIC
from ollama_router_core.translate.codec import Codec, Route
from ollama_router_core.translate.ollama.codec import OLLAMA
from ollama_router_core.translate.openai.codec import OPENAI
from ollama_router_core.translate.openai_responses.codec import RESPONSES

__all__ = ["CODECS", "ROUTES", "codec_of", "family_of_domain", "route_at"]


def _by_family(*codecs: Codec) -> Mapping[Family, Codec]:
    found = {codec.family: codec for codec in codecs}
    if found.keys() != set(Family) or len(found) != len(codecs):
        raise NotImplementedError("every member of Family needs exactly one codec here")
    return MappingProxyType(found)


CODECS: Mapping[Family, Codec] = _by_family(OLLAMA, OPENAI, ANTHROPIC, RESPONSES)
ROUTES: tuple[Route, ...] = tuple(route for codec in CODECS.values() for route in codec.routes)
_BY_PATH = {route.path: route for route in ROUTES}


def codec_of(family: Family) -> Codec:
    """Return the codec of a dialect."""
    return CODECS[family]


def route_at(path: str) -> Route | None:
    """Return the route at a path of the endpoint table; None if it cannot be translated."""
    return _BY_PATH.get(path)


def family_of_domain(host: str) -> Family | None:
    """Return the dialect of a host by its known domain; None for any other host."""
    host = host.lower()
    return next((codec.family for codec in CODECS.values() if any(_is_in(host, one) for one in codec.domains)), None)


def _is_in(host: str, domain: str) -> bool:
    return host == domain or host.endswith("." + domain)
