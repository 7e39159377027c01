"""The strict HTTP/1.1 front: uvicorn's httptools protocol with the doors closed that it leaves open."""

from __future__ import annotations

from ollama_router_server.http.limits import Bounds, ProtocolLimits
from ollama_router_server.http.strict import StrictProtocol, strict_protocol

__all__ = ["Bounds", "ProtocolLimits", "StrictProtocol", "strict_protocol"]
