"""Discovery behind a Kubernetes Service: the ready endpoints of its EndpointSlices, listed once and then watched."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from ollama_router_core.config import FoundServer
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_core.errors import RouterError
from ollama_router_server.fleet.discovery.endpoint_slices import EndpointSlices, EventLines, Page, Slice, read_document
from ollama_router_server.fleet.discovery.finder import LookFailed
from ollama_router_server.system import read_text
from ollama_router_server.upstream.fetching import fetch_whole
from ollama_router_server.upstream.interface import (
    Headers,
    Origin,
    Timeouts,
    Upstream,
    UpstreamRequest,
    UpstreamResponse,
)

__all__ = ["KubernetesFinder"]

ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""The folder in which Kubernetes puts a pod's token, the CA of its API server, and its namespace."""

_PAGE = 200
_WATCH_SECONDS: Final = 120
"""Seconds after which the API server ends a watch. The next one uses the current token: tokens are renewed."""
_TIMEOUTS = Timeouts(connect=3.0, first_byte=10.0, idle=10.0)
_WATCH_TIMEOUTS = Timeouts(connect=3.0, first_byte=10.0, idle=_WATCH_SECONDS + 30.0)
_SETTLE: Final = 0.2
_BATCHES: Final = 5
"""Events less than `_SETTLE` seconds apart, for up to a second, are one change: a rollout is many events."""
_FIRST_PAUSE: Final = 0.2
_JITTER: Final = 0.2
"""The fraction by which pauses differ between pods, so that routers do not return to an API server all at once."""
_OK, _GONE, _FORBIDDEN = 200, 410, frozenset({403, 405})


class KubernetesFinder:
    """EndpointSlices with a label selector.

    Args:
        settings: the discovery settings, with a selector.
        upstream: connects to the API server.
        environment: contains the API server's address, as in every pod.
        account: the folder of the service account.
    """

    def __init__(
        self, settings: Discovery, upstream: Upstream, environment: Mapping[str, str], account: str = ACCOUNT
    ) -> None:
        self._wanted = settings.kubernetes
        self.source = f"kubernetes:{self._wanted.selector}"
        self.interval = settings.interval
        self._upstream = upstream
        self._environment = environment
        self._account = Path(account)
        self._slices = EndpointSlices(settings, self.source)
        self._watch: UpstreamResponse | None = None
        self._lines = EventLines()
        self.lacks: str | None = None
        self._worked = False  # whether this watch has sent events, or was quiet for an interval
        self._failures = 0
        self._jitter = zlib.crc32(environment.get("HOSTNAME", "").encode()) / 2**32

    async def look(self) -> tuple[FoundServer, ...]:
        """List the slices, page by page, unless they are watched; start to watch them.

        Raises:
            LookFailed: this process is not in a pod, or the API server refuses.
            UpstreamError: the API server is unreachable.
        """
        try:
            if self._slices.version is None:
                await self._list()
            if self._watch is None and self.lacks is None:
                await self._start_watch()
        except RouterError:
            self._failures += 1
            raise
        return self._slices.found()

    async def wait(self) -> None:
        """Return after a change, at the end of the watch, or after an interval.

        There is always a pause before the next watch, whatever the API server answers.
        """
        if self.lacks is not None:
            await asyncio.sleep(self.interval)
            self._slices.version = None
            return
        if self._watch is not None and await self._read_events(self.interval):
            for _ in range(_BATCHES):
                if not await self._read_events(_SETTLE):
                    break
        if self._watch is None:
            await asyncio.sleep(self._pause())

    def _pause(self) -> float:
        pause = min(self.interval, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
        return float(pause * (1.0 - _JITTER * self._jitter))

    def close(self) -> None:
        """Close the watch."""
        if self._watch is not None:
            self._watch.close()
        self._watch = None

    # --- the list ---------------------------------------------------------------------------------------------------

    async def _list(self) -> None:
        slices: list[Slice] = []
        more: str | None = None
        while True:
            page = await self._page(more)
            slices += page.items or ()
            more = page.metadata.more
            if not more:
                self._slices.replace(slices, page.metadata.resource_version or "")
                return

    async def _page(self, more: str | None) -> Page:
        parameters = {"limit": str(_PAGE)} | ({"continue": more} if more else {})
        status, body = await fetch_whole(self._upstream, self._request(_TIMEOUTS, parameters))
        if status != _OK:
            raise LookFailed(f"the Kubernetes API server answers {status}{self._advice(status, 'list')}")
        return read_document(body, Page)

    # --- the watch --------------------------------------------------------------------------------------------------

    async def _start_watch(self) -> None:
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._slices.version or "",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        watch = await self._upstream.send(self._request(_WATCH_TIMEOUTS, parameters, fresh=True))
        if watch.status == _OK:
            self._watch, self._lines, self._worked = watch, EventLines(), False
            return
        watch.close()
        if watch.status == _GONE:
            self._slices.version = None
            self._failures += 1
        elif watch.status in _FORBIDDEN:
            self.lacks = self._advice(watch.status, "watch")[2:]
        else:
            raise LookFailed(f"the Kubernetes API server answers {watch.status} to a watch")

    async def _read_events(self, seconds: float) -> bool:
        """Read from the watch for up to `seconds`; return whether a slice has changed. Close a watch that has ended."""
        if self._watch is None:
            return False
        try:
            async with asyncio.timeout(seconds):
                piece = await self._watch.read()
            changed = [self._slices.apply(event) for event in self._lines.feed(piece)]
        except TimeoutError:
            self._worked = True
            return False
        except RouterError:
            self._end_watch()
            return False
        if not piece:
            self._end_watch()
        self._worked = self._worked or bool(changed)
        return any(changed)

    def _end_watch(self) -> None:
        """Close the watch. One that never worked counts as a failure, which delays the next."""
        self.close()
        self._failures = 0 if self._worked else self._failures + 1

    # --- requests ----------------------------------------------------------------------------------------------------

    def _request(self, timeouts: Timeouts, parameters: dict[str, str], *, fresh: bool = False) -> UpstreamRequest:
        query = urlencode({"labelSelector": self._wanted.selector or "", **parameters})
        return UpstreamRequest(
            origin=self._origin(),
            method="GET",
            target=f"/apis/discovery.k8s.io/v1/namespaces/{quote(self._namespace())}/endpointslices?{query}",
            headers=self._headers(),
            timeouts=timeouts,
            fresh=fresh,
        )

    def _origin(self) -> Origin:
        host = self._environment.get("KUBERNETES_SERVICE_HOST")
        port = self._environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not port.isdecimal():
            raise LookFailed("this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST is not set")
        return Origin("https", host, int(port), "the Kubernetes API server", str(self._account / "ca.crt"))

    def _namespace(self) -> str:
        return self._wanted.namespace or self._read("namespace")

    def _headers(self) -> Headers:
        return ((b"authorization", b"Bearer " + self._read("token").encode()), (b"accept", b"application/json"))

    def _read(self, name: str) -> str:
        """Read a file of the service account now: tokens are renewed every hour."""
        try:
            return read_text(str(self._account / name)).strip()
        except OSError as error:
            raise LookFailed(f"{self._account / name}: {error.strerror}") from None

    def _advice(self, status: int, verb: str) -> str:
        if status not in _FORBIDDEN:
            return ""
        needs = f"{verb} of endpointslices.discovery.k8s.io in namespace {self._namespace()}"
        return f"; its service account needs {needs}"
