"""The strict HTTP/1.1 front: uvicorn's httptools protocol with the doors closed that it leaves open.

Belongs here: what bytes from a client are taken for a request, and how long they may take to come.
Does not belong here: routes, credentials, bodies as JSON (the relay and the core do those).
"""

from __future__ import annotations

from ollama_router_server.protocol.limits import Bounds, ProtocolLimits
from ollama_router_server.protocol.strict import StrictProtocol, strict_protocol

__all__ = ["Bounds", "ProtocolLimits", "StrictProtocol", "strict_protocol"]
