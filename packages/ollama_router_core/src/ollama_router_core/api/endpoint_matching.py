"""Matching of a request's method and raw path to the endpoint table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from msgspec import Struct

from ollama_router_core.api.endpoints import ENDPOINTS, Endpoint, Family, Kind
from ollama_router_core.errors import InvalidTarget, MethodNotAllowed, UnknownRoute

__all__ = ["Match", "family_of_path", "match_endpoint"]

_ENCODED = re.compile(r"(?:[!-$&-.0-~]|%[0-7][0-9A-Fa-f])+", re.ASCII)
_SEGMENT = re.compile(r"[A-Za-z0-9\-_.~:=+]{1,1024}", re.ASCII)


class Match(Struct, frozen=True):
    """An endpoint, and the value of its path parameter, if any."""

    endpoint: Endpoint
    parameter: str | None = None

    @property
    def target(self) -> str:
        """Build the upstream path from the table.

        Raises:
            InvalidTarget: the parameter has characters that a server might parse as several segments.
        """
        path = self.endpoint.path
        if self.parameter is None:
            return path
        if not _SEGMENT.fullmatch(self.parameter) or set(self.parameter) == {"."}:
            raise InvalidTarget("the last part of the path may contain only letters, digits and - _ . ~ : = +")
        return path[: path.index("{")] + self.parameter


def _index(rows: Iterable[Endpoint]) -> Mapping[str, Mapping[str, Match]]:
    by_path: dict[str, dict[str, Match]] = {}
    for row in rows:
        for method in row.methods:
            by_path.setdefault(row.path, {})[method] = Match(row)
    return by_path


_EXACT = _index(row for row in ENDPOINTS if not row.path.endswith("}"))
_PREFIX = {path[: path.index("{")]: rows for path, rows in _index(r for r in ENDPOINTS if r.path.endswith("}")).items()}


_FAMILIES = {row.path: row.family for row in ENDPOINTS}
_FAMILIES_BELOW = tuple((row.path, row.family) for row in ENDPOINTS if row.kind is Kind.INFER)


def family_of_path(path: str) -> Family:
    """Return the dialect for errors on a path; Ollama's for unknown paths."""
    known = _FAMILIES.get(path)
    if known is not None:
        return known
    below = (family for prefix, family in _FAMILIES_BELOW if path.startswith(prefix))
    return next(below, Family.OPENAI if path.startswith("/v1/") or path == "/v1" else Family.OLLAMA)


def match_endpoint(method: str, path: str) -> Match:
    """Find the row for a method and a path without query string.

    The raw path is compared, without decoding or normalisation, so `//`, `..` and `%2e` are unknown paths. Only the
    parameter is decoded, as clients send `:` as `%3A`; one with a slash does not match, as in Ollama.

    Raises:
        UnknownRoute: no row has this path.
        MethodNotAllowed: the path exists with other methods.
    """
    parameter = None
    by_method = _EXACT.get(path)
    if by_method is None:
        head, _, last = path.rpartition("/")
        by_method = _PREFIX.get(head + "/") if last else None
        parameter = _decoded(last) if by_method is not None else None
    if by_method is None:
        raise UnknownRoute("404 page not found")
    found = by_method.get(method)
    if found is None:
        raise MethodNotAllowed("405 method not allowed", allowed=tuple(by_method))
    return found if parameter is None else Match(found.endpoint, parameter)


def _decoded(last: str) -> str:
    parameter = unquote(last, errors="strict") if _ENCODED.fullmatch(last) else None
    if parameter is None or "/" in parameter:
        raise UnknownRoute("404 page not found")
    return parameter
