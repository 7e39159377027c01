"""Servers behind a Service of Kubernetes: the ready endpoints of its EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from ollama_router_core.config import FoundServer, found_server
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_server.fleet.discovery.finder import LookFailed
from ollama_router_server.system import read_text
from ollama_router_server.upstream.fetching import fetch_whole
from ollama_router_server.upstream.interface import Headers, Origin, Timeouts, Upstream, UpstreamRequest

__all__ = ["KubernetesFinder"]

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts a pod's token, the authority of its API server, and the name of its namespace."""

_PAGE = 200
_TIMEOUTS = Timeouts(connect=3.0, first_byte=10.0, idle=10.0)


class KubernetesFinder:
    """EndpointSlices with some labels.

    Args:
        settings: of discovery; its selector is set.
        upstream: connects to the API server.
        environment: tells where that is, as in every pod.
        account: folder of the service account.
    """

    def __init__(
        self, settings: Discovery, upstream: Upstream, environment: Mapping[str, str], account: str = ACCOUNT
    ) -> None:
        self._wanted = settings.kubernetes
        self.source = f"kubernetes:{self._wanted.selector}"
        self.interval = settings.interval
        self._settings = settings.servers
        self._upstream = upstream
        self._environment = environment
        self._account = Path(account)

    async def look(self) -> tuple[FoundServer, ...]:
        """Ask the API server for all slices, page by page.

        Raises:
            LookFailed: this is no pod, or the API server refuses.
            UpstreamError: it cannot be reached.
        """
        found: dict[str, FoundServer] = {}
        more = ""
        while True:
            page = await self._page(more)
            for slice_ in page.get("items") or ():
                found |= {one.name: one for one in self._of_slice(slice_)}
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return tuple(found.values())

    async def _page(self, more: str) -> dict[str, Any]:
        namespace = self._wanted.namespace or self._read("namespace")
        asked = {"labelSelector": self._wanted.selector or "", "limit": str(_PAGE)} | (
            {"continue": more} if more else {}
        )
        request = UpstreamRequest(
            origin=self._origin(),
            method="GET",
            target=f"/apis/discovery.k8s.io/v1/namespaces/{quote(namespace)}/endpointslices?{urlencode(asked)}",
            headers=self._headers(),
            timeouts=_TIMEOUTS,
        )
        status, body = await fetch_whole(self._upstream, request)
        if status != 200:
            raise LookFailed(f"the Kubernetes API server answers {status}{_advice(status, namespace)}")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise LookFailed("the Kubernetes API server answers with something else than JSON") from None

    def _origin(self) -> Origin:
        host = self._environment.get("KUBERNETES_SERVICE_HOST")
        port = self._environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not port.isdecimal():
            raise LookFailed("this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST is not set")
        return Origin("https", host, int(port), "the Kubernetes API server", str(self._account / "ca.crt"))

    def _headers(self) -> Headers:
        return ((b"authorization", b"Bearer " + self._read("token").encode()), (b"accept", b"application/json"))

    def _read(self, name: str) -> str:
        """A file of the service account, as it is now: tokens are renewed every hour."""
        try:
            return read_text(str(self._account / name)).strip()
        except OSError as error:
            raise LookFailed(f"{self._account / name}: {error.strerror}") from None

    def _of_slice(self, slice_: Mapping[str, Any]) -> Iterator[FoundServer]:
        port = self._port(slice_.get("ports") or ())
        if port is None:
            return
        for endpoint in slice_.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            for address in (endpoint.get("addresses") or ())[:1] if ready is not False else ():
                name = (endpoint.get("targetRef") or {}).get("name") or address
                one = found_server(name, self.source, address, port, self._settings)
                if one is not None:
                    yield one

    def _port(self, ports: Any) -> int | None:
        numbers = [one.get("port") for one in ports if self._wanted.port in {None, one.get("name")}]
        return next((number for number in numbers if isinstance(number, int)), None)


def _advice(status: int, namespace: str) -> str:
    if status not in {401, 403}:
        return ""
    return f"; its service account needs list of endpointslices.discovery.k8s.io in namespace {namespace}"
