"""Kubernetes EndpointSlices as the API server sends them: a list, then events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from ollama_router_core.config import FoundServer, found_server
from ollama_router_core.config.discovery_settings import Discovery
from ollama_router_core.responses.server_documents import LONGEST_DOCUMENT
from ollama_router_server.fleet.discovery.finder import LookFailed

__all__ = ["EndpointSlices", "Event", "EventLines", "Page", "Slice", "read_document"]

_Document = TypeVar("_Document", bound=Struct)


class _Metadata(Struct, frozen=True, rename="camel"):
    name: str | None = None
    resource_version: str | None = None
    more: str | None = field(default=None, name="continue")


class _Port(Struct, frozen=True):
    name: str | None = None
    port: int | None = None


class _Conditions(Struct, frozen=True):
    ready: bool | None = None


class _Target(Struct, frozen=True):
    name: str | None = None


class _Endpoint(Struct, frozen=True, rename="camel"):
    addresses: tuple[str, ...] | None = None
    conditions: _Conditions | None = None
    target_ref: _Target | None = None


class Slice(Struct, frozen=True):
    """An EndpointSlice; in an ERROR event, a Status with its message."""

    metadata: _Metadata = _Metadata()
    ports: tuple[_Port, ...] | None = None
    endpoints: tuple[_Endpoint, ...] | None = None
    message: str | None = None


class Page(Struct, frozen=True):
    """A page of a list; `metadata.more` is the token of the next."""

    metadata: _Metadata = _Metadata()
    items: tuple[Slice, ...] | None = None


class Event(Struct, frozen=True):
    """A change; `type` is ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."""

    type: str
    object: Slice


def read_document(body: bytes, kind: type[_Document]) -> _Document:
    """Decode a document of the API server.

    Raises:
        LookFailed: the document is invalid.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError:
        raise LookFailed("the Kubernetes API server answers with something else than EndpointSlices") from None


class EventLines:
    """Split a stream into lines, one event each."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that a piece completes.

        Raises:
            LookFailed: an event is invalid, or longer than 2 MiB.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_DOCUMENT:
            raise LookFailed("the Kubernetes API server sends an event without end")
        return [read_document(line, Event) for line in lines if line.strip()]


class EndpointSlices:
    """The known slices by name; `version` is the list's resource version, None if they have to be listed."""

    def __init__(self, settings: Discovery, source: str) -> None:
        self._port_name = settings.kubernetes.port
        self._settings = settings.servers
        self._source = source
        self._servers: dict[str | None, tuple[FoundServer, ...]] = {}
        self.version: str | None = None

    def replace(self, slices: Iterable[Slice], version: str) -> None:
        """Replace all slices by a complete list."""
        self._servers = {one.metadata.name: tuple(self._of_slice(one)) for one in slices}
        self.version = version

    def apply(self, event: Event) -> bool:
        """Apply an event; return False for a bookmark.

        Raises:
            LookFailed: the event is an error; the slices have to be listed again.
        """
        metadata = event.object.metadata
        if event.type == "ERROR":
            self.version = None
            raise LookFailed(f"the Kubernetes API server ends the watch: {event.object.message}")
        self.version = metadata.resource_version or self.version
        if event.type == "DELETED":
            self._servers.pop(metadata.name, None)
        elif event.type in {"ADDED", "MODIFIED"}:
            self._servers[metadata.name] = tuple(self._of_slice(event.object))
        return event.type != "BOOKMARK"

    def found(self) -> tuple[FoundServer, ...]:
        """Return ready endpoints without duplicates: one that moves between slices is briefly in two."""
        slices = (self._servers[name] for name in sorted(self._servers, key=str))
        return tuple({one.name: one for servers in slices for one in servers}.values())

    def _of_slice(self, slice_: Slice) -> Iterator[FoundServer]:
        ports = (one.port for one in slice_.ports or () if self._port_name in {None, one.name})
        port = next((number for number in ports if number is not None), None)
        if port is None:
            return
        for endpoint in slice_.endpoints or ():
            ready = endpoint.conditions is None or endpoint.conditions.ready is not False
            for address in (endpoint.addresses or ())[:1] if ready else ():
                name = (endpoint.target_ref.name if endpoint.target_ref else None) or address
                one = found_server(name, self._source, address, port, self._settings)
                if one is not None:
                    yield one
