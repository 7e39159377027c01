"""Settings of discovery, which finds servers that the config does not list."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ollama_router_core.config.sections import Section
from ollama_router_core.config.value_types import Entries, Host, Port, Seconds

__all__ = ["Discovery", "DnsName", "FoundServerSettings", "KubernetesServices"]

_LABELS = r"^[A-Za-z0-9_.\-/]+(?:=[A-Za-z0-9_.\-]*)?(?:,[A-Za-z0-9_.\-/]+(?:=[A-Za-z0-9_.\-]*)?)*$"


class DnsName(Section):
    """A name whose records are servers."""

    name: Host = Field(description="Name to query.", examples=["_ollama._tcp.example.org"])
    type: Literal["address", "srv"] = Field(
        default="address", description="srv queries hosts and ports (SRV), address queries A and AAAA."
    )
    port: Port = Field(default=11434, description="Port of the servers at these addresses; SRV has its own.")


class KubernetesServices(Section):
    """EndpointSlices of one namespace, queried with the pod's service account."""

    selector: Annotated[str, Field(pattern=_LABELS)] | None = Field(
        default=None,
        examples=["kubernetes.io/service-name=ollama"],
        description="Labels of the EndpointSlices whose ready endpoints are servers; null turns this off.",
    )
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$")] | None = Field(
        default=None, description="Their namespace; null is the router's own."
    )
    port: str | None = Field(default=None, description="Name of the port; null uses the first.")


class FoundServerSettings(Section):
    """Settings of every server found by DNS, Kubernetes or mDNS."""

    priority: int = Field(default=1, description="As in `servers`.")
    max_memory_gb: Annotated[float, Field(gt=0)] | None = Field(default=None, description="As in `servers`.")
    max_concurrent: Annotated[int, Field(ge=1)] | None = Field(default=None, description="As in `servers`.")
    num_parallel: Annotated[int, Field(ge=1)] | None = Field(default=None, description="As in `servers`.")
    protocol: Literal["http", "https"] = Field(default="http", description="As in `servers`.")
    ca_file: str | None = Field(default=None, description="As in `servers`.")


class Discovery(Section):
    """Discovery of servers."""

    use: Literal["ask", "auto"] = Field(
        default="ask",
        description="ask lists and probes a found server, and sends it no requests until `orouter servers undrain"
        " NAME`; auto uses it at once: anyone who can change the records, the file or the network can"
        " receive prompts.",
    )
    interval: Seconds = Field(
        default=10.0,
        description="Seconds between two DNS queries. Kubernetes is watched, and listed again after this time at the"
        " latest.",
    )
    keep: Seconds = Field(
        default=60.0,
        description="Seconds for which the router keeps a server that discovery no longer finds; none is removed"
        " while discovery fails.",
    )
    servers: FoundServerSettings = Field(
        default=FoundServerSettings(), description="Settings of each found server; a file has its own."
    )
    files: Entries[str] = Field(
        default=(),
        examples=[["/etc/ollama-router/servers.yml"]],
        description="YAML or JSON files with servers by name, as under `servers`; read again when they change.",
    )
    dns: Entries[DnsName] = Field(default=(), description="Names in DNS; needs the extra `dns`.")
    resolver: Annotated[str, Field(pattern=r"^[0-9A-Fa-f.:\[\]]+:[0-9]{1,5}$")] | None = Field(
        default=None, examples=["127.0.0.1:8600"], description="ADDRESS:PORT of the resolver; null uses the system's."
    )
    kubernetes: KubernetesServices = Field(
        default=KubernetesServices(), description="EndpointSlices, for a router that runs in the cluster."
    )

    mdns: Annotated[str, Field(pattern=r"^_[A-Za-z0-9\-]{1,15}\._tcp$")] | None = Field(
        default=None,
        examples=["_ollama._tcp"],
        description="Service type that servers announce in the local network; null turns this off. Needs the extra"
        " `mdns`. Any machine in the network can announce one.",
    )
