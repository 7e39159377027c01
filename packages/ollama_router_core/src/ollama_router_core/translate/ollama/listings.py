"""External models for Ollama's clients: in `/api/tags`, `/api/show`, and when a client loads one.

`remote_model` and `remote_host` mark the entry, as Ollama marks its own cloud models.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.replies import ReplyIdentity
from ollama_router_core.translate.timestamps import rfc3339

__all__ = ["load_reply", "show_reply", "tags_entry"]

_ZERO_DURATION = re.compile(r"0[0hmsnu\u00b5.]*")
_CONTENT_KEYS = MappingProxyType({"/api/chat": ("messages",), "/api/generate": ("prompt", "images", "suffix")})


def _details(model: ExternalModel) -> dict[str, Any]:
    details: dict[str, Any] = {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    if model.context is not None:
        details["context_length"] = model.context
    return details


def tags_entry(model: ExternalModel) -> dict[str, Any]:
    """Return the model's entry in `/api/tags`. The digest, which Ollama's client prints, is derived from the names."""
    digest = hashlib.sha256(f"{model.host}\0{model.remote_name}".encode("utf-8", "backslashreplace")).hexdigest()
    return {
        "name": model.name,
        "model": model.name,
        "remote_model": model.remote_name,
        "remote_host": model.host,
        "modified_at": rfc3339(model.since_ns),
        "size": 0,
        "digest": digest,
        "details": _details(model),
        "capabilities": list(model.abilities),
    }


def show_reply(model: ExternalModel) -> dict[str, Any]:
    """Return the `/api/show` response."""
    info = {} if model.context is None else {"general.context_length": model.context}
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": info,
        "remote_model": model.remote_name,
        "remote_host": model.host,
        "capabilities": list(model.abilities),
        "modified_at": rfc3339(model.since_ns),
    }


def load_reply(path: str, body: Mapping[str, Any], identity: ReplyIdentity) -> bytes | None:
    """Return the response to a request that only loads or unloads a model; None for any other request.

    `ollama run` sends one first. An external model is always loaded, so the router answers with one JSON object, which
    is also a complete stream.
    """
    keys = _CONTENT_KEYS.get(path)
    if keys is None or any(body.get(key) for key in keys):
        return None
    reason = "unload" if _is_zero(body.get("keep_alive")) else "load"
    empty = {"message": {"role": "assistant", "content": ""}} if path == "/api/chat" else {"response": ""}
    head = {"model": identity.model, "created_at": rfc3339(identity.created_ns)}
    return encode({**head, **empty, "done": True, "done_reason": reason}) + b"\n"


def _is_zero(keep_alive: Any) -> bool:
    if isinstance(keep_alive, str):
        return _ZERO_DURATION.fullmatch(keep_alive) is not None
    return not isinstance(keep_alive, bool) and keep_alive == 0
