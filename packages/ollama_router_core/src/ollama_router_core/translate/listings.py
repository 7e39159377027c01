"""What an Ollama or OpenAI client sees of a model that runs elsewhere: entries of lists, `/api/show`, loading it.

Honest means: only what the settings or the model's own name say. There is no size, no format and no template, and
`remote_model` and `remote_host` mark the entry as Ollama marks its own models in the cloud.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ollama_router_core.translate.dialects import Dialect
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.replies import Stamp
from ollama_router_core.translate.timestamps import rfc3339

__all__ = ["ExternalModel", "loading_reply", "openai_model", "show_reply", "tags_entry"]

_ZERO_DURATION = re.compile(r"0[0hmsnu\u00b5.]*")


class ExternalModel(Struct, frozen=True, kw_only=True):
    """A model of an external host.

    Attributes:
        name: how clients call it.
        remote_name: how its host calls it.
        host: the host's name in the settings or its address, without any credential.
        capabilities: what the operator says it can do (`completion`, `tools`, `vision`, `thinking`, `embedding`);
            None when nobody said.
        context_length: tokens, None when nobody said.
        since_ns: since when the router knows it, nanoseconds since 1970.
    """

    name: str
    remote_name: str
    host: str
    capabilities: tuple[str, ...] | None = None
    context_length: int | None = None
    since_ns: int = 0


def _capabilities(model: ExternalModel) -> list[str]:
    if model.capabilities is not None:
        return list(model.capabilities)
    return ["embedding"] if "embed" in model.remote_name.lower() else ["completion"]


def _details(model: ExternalModel) -> dict[str, Any]:
    details: dict[str, Any] = {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }
    if model.context_length is not None:
        details["context_length"] = model.context_length
    return details


def tags_entry(model: ExternalModel) -> dict[str, Any]:
    """The model's entry in `/api/tags`. The digest is made of its names: Ollama's own client needs one to print."""
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
        "capabilities": _capabilities(model),
    }


def show_reply(model: ExternalModel) -> dict[str, Any]:
    """The answer of `/api/show`."""
    info = {} if model.context_length is None else {"general.context_length": model.context_length}
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(model),
        "model_info": info,
        "remote_model": model.remote_name,
        "remote_host": model.host,
        "capabilities": _capabilities(model),
        "modified_at": rfc3339(model.since_ns),
    }


def openai_model(model: ExternalModel) -> dict[str, Any]:
    """The model's entry in `/v1/models`."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.since_ns // 1_000_000_000,
        "owned_by": model.host,
    }


def loading_reply(body: Mapping[str, Any], *, source: Dialect, stamp: Stamp) -> bytes | None:
    """The answer to an Ollama request that only loads or unloads a model, None for any other request.

    `ollama run` begins with one. A model elsewhere is always loaded, so the router answers itself, in one JSON object
    that is also a whole stream.
    """
    content = {Dialect.OLLAMA_CHAT: ("messages",), Dialect.OLLAMA_GENERATE: ("prompt", "images", "suffix")}.get(source)
    if content is None or any(body.get(key) for key in content):
        return None
    reason = "unload" if _is_zero(body.get("keep_alive")) else "load"
    empty = {"message": {"role": "assistant", "content": ""}} if source is Dialect.OLLAMA_CHAT else {"response": ""}
    head = {"model": stamp.model, "created_at": rfc3339(stamp.created_ns)}
    return encode({**head, **empty, "done": True, "done_reason": reason}) + b"\n"


def _is_zero(keep_alive: Any) -> bool:
    if isinstance(keep_alive, str):
        return _ZERO_DURATION.fullmatch(keep_alive) is not None
    return not isinstance(keep_alive, bool) and keep_alive == 0
