"""The strict HTTP/1.1 front: an asyncio protocol on httptools, run by uvicorn."""

from __future__ import annotations

from ollama_router_server.http.limits import Bounds, ProtocolLimits
from ollama_router_server.http.strict import StrictProtocol, strict_protocol

__all__ = ["Bounds", "ProtocolLimits", "StrictProtocol", "strict_protocol"]
