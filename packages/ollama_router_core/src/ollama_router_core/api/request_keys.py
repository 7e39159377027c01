"""Parsing and validation of single keys of a request body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ollama_router_core.api.endpoints import Endpoint, Kind
from ollama_router_core.api.keep_alive import UNLOADING, keep_alive_seconds
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.ollama_errors import wrong_type
from ollama_router_core.api.strict_json import JsonObject
from ollama_router_core.errors import AmbiguousKey, InvalidBody

__all__ = [
    "COPY_TYPES",
    "MANAGE_TYPES",
    "NO_LOAD_OPTIONS",
    "READ_KEYS",
    "TYPES",
    "keeps_model",
    "only",
    "read_blobs",
    "read_load_options",
    "read_max_tokens",
    "read_needs",
    "read_num_ctx",
    "read_options",
    "refuse_lookalikes",
    "refuse_wrong_types",
    "unloads",
    "uses_cloud",
    "wants_stream",
]

_LIMIT_KEYS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
READ_KEYS = frozenset({"model", "name", "stream", "options", "keep_alive", "messages", "prompt", "input", "tools",
                       "source", "destination", "from", "think", "images", "max_tokens", "max_completion_tokens",
                       "suffix", "system", "template", "files", "adapters", "draft_files", "remote_host", "insecure",
                       "max_output_tokens", "stream_options"})  # fmt: skip
NO_LOAD_OPTIONS: frozenset[tuple[str, object]] = frozenset()
_DEFAULTS: Mapping[str, object] = {
    "num_batch": None, "num_gpu": -1, "main_gpu": 0, "num_thread": 0, "use_mmap": None, "draft_num_predict": None,
}  # fmt: skip
"""Options that a model is loaded with, and their default values."""
_READ_OPTIONS = frozenset({"num_ctx", "num_predict", *_DEFAULTS})
_NULL = type(None)
_TEXT, _OBJECT, _LIST = frozenset({str, _NULL}), frozenset({dict, _NULL}), frozenset({list, _NULL})
_BLOB_KEYS = ("files", "adapters", "draft_files")
_Types = Mapping[str, frozenset[object]]
TYPES: _Types = {
    **dict.fromkeys(("model", "name"), _TEXT),
    "options": _OBJECT,
    **dict.fromkeys(("messages", "tools", "images"), _LIST),
    "keep_alive": frozenset({str, int, float, _NULL}),
}
MANAGE_TYPES: _Types = {
    **TYPES,
    **dict.fromkeys(("source", "destination", "from", "remote_host"), _TEXT),
    **dict.fromkeys(_BLOB_KEYS, _OBJECT),
}
COPY_TYPES: _Types = {key: types for key, types in MANAGE_TYPES.items() if key not in {"model", "name"}}
_EXPECTED = {_TEXT: "a text", _OBJECT: "an object", _LIST: "a list"}
_NAMES: Mapping[type[object], str] = {
    bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "an object",
}  # fmt: skip
_SECONDS = "a number of seconds or a string such as '5m'"
_IMAGE_WORDS = (b"image", b"\\u00")
"""Every message with an image contains one of them, escaped or not."""
_HOSTED_TOOL_WORDS = (b"web_", b"\\u")
_INT64 = 1 << 63
_SMALLEST_CONTEXT = 4  # tokens; Ollama raises smaller values
_NO_NEEDS: frozenset[str] = frozenset()


def refuse_lookalikes(keys: Iterable[str], read: frozenset[str]) -> None:
    """Reject keys that Ollama would match to a key that the router reads.

    Raises:
        AmbiguousKey: a key differs from one of `read` in case only.
    """
    for key in keys:
        if key not in read and key.casefold() in read:
            raise AmbiguousKey(f"some servers read the key {key!r} as {key.casefold()!r}; write the latter")


def refuse_wrong_types(document: JsonObject, types: _Types, endpoint: Endpoint) -> None:
    """Reject values of the wrong type.

    Raises:
        InvalidBody: a value has the wrong type; the text names the key and both types.
    """
    for key in document.keys:
        if key in types and (found := document.type_of(key)) not in types[key]:
            raise wrong_type(endpoint.name, key, found) or InvalidBody(
                f"{key} must be {_EXPECTED.get(types[key], _SECONDS)}, got {_type_name(found)}"
            )


def wants_stream(document: JsonObject, endpoint: Endpoint) -> bool:
    """Return whether the client requests a streamed response; each route has its own default.

    Raises:
        InvalidBody: `stream` is not a boolean.
    """
    if endpoint.streams is None:
        return False
    value = document.get("stream")
    if value is None:
        return endpoint.streams
    if not isinstance(value, bool):
        raise wrong_type(endpoint.name, "stream", type(value)) or InvalidBody(
            f"stream must be true or false, got {_type_name(type(value))}"
        )
    return value


def read_options(document: JsonObject, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Return `options`, which only Ollama's native routes read; None without them.

    Raises:
        AmbiguousKey: it has a key twice, or one that Ollama would match to a key the router reads.
    """
    if not endpoint.native or document.get("options") is None:
        return None
    options = document.child("options")
    refuse_lookalikes(options, _READ_OPTIONS)
    return options


def read_num_ctx(options: Mapping[str, Any]) -> int | None:
    """Return the requested context in tokens, at least 4 as in Ollama; None without one.

    Raises:
        InvalidBody: it is not a 64-bit integer.
    """
    value = _int64(options, "num_ctx", "options.num_ctx")
    return None if value is None else max(value, _SMALLEST_CONTEXT)


def read_load_options(document: JsonObject, options: Mapping[str, Any] | None) -> frozenset[tuple[str, object]]:
    """Return the options of a native request that a model is loaded with, except its context.

    Values of an invalid type are omitted, as Ollama answers them with an error and loads nothing.
    """
    given = options or {}
    found: list[tuple[str, object]] = [
        (key, value)
        for key, default in _DEFAULTS.items()
        if isinstance(value := given.get(key), int) and value != default and not (key == "num_gpu" and value < 0)
    ]
    if document.get("shift") is False:
        found.append(("shift", False))
    return frozenset(found) if found else NO_LOAD_OPTIONS


def read_max_tokens(document: JsonObject, options: Mapping[str, Any] | None, endpoint: Endpoint) -> int | None:
    """Return the client's limit of the response in tokens, or None.

    Raises:
        InvalidBody: it is not a 64-bit integer.
    """
    if endpoint.native:
        found = None if options is None else _int64(options, "num_predict", "options.num_predict")
        return found if found is not None and found > 0 else None
    for key in _LIMIT_KEYS:
        found = _int64(document, key, key) if key in document.keys else None
        if found is not None:
            return found if found > 0 else None
    return None


def only(need: str | None) -> frozenset[str]:
    """Return a route's needed capability as a set, empty for None."""
    return _NO_NEEDS if need is None else frozenset({need})


def read_needs(document: JsonObject, endpoint: Endpoint) -> frozenset[str]:
    """Return the capabilities that the route and this request need of the model."""
    usual = only(endpoint.needs)
    if not usual:
        return usual
    more, keys = [], document.keys
    if "tools" in keys and document.truthy("tools"):
        more.append("tools")
    if "suffix" in keys and endpoint.native and document.truthy("suffix"):
        more.append("insert")
    if ("images" in keys and document.truthy("images")) or _messages_have_images(document):
        more.append("vision")
    return usual.union(more) if more else usual


def _messages_have_images(document: JsonObject) -> bool:
    if "messages" not in document.keys or not document.mentions("messages", _IMAGE_WORDS):
        return False
    for message in document.get("messages") or ():
        if not isinstance(message, dict):
            continue
        if message.get("images"):
            return True
        content = message.get("content")
        if isinstance(content, list) and any(
            isinstance(part, dict) and part.get("type") in {"image", "image_url"} for part in content
        ):
            return True
    return False


def unloads(document: JsonObject, endpoint: Endpoint) -> bool:
    """Return whether the request unloads a model: `keep_alive: 0` without a prompt or messages."""
    if keep_alive_seconds(document.get("keep_alive")) != 0:
        return False
    return endpoint.name in {"generate", "chat"} and not document.truthy("prompt") and not document.truthy("messages")


def keeps_model(document: JsonObject) -> bool:
    """Return whether the model stays in memory after its response."""
    seconds = keep_alive_seconds(document.get("keep_alive"))
    return seconds is None or not 0 <= seconds < UNLOADING


def uses_cloud(document: JsonObject, endpoint: Endpoint) -> bool:
    """Return whether the request uses ollama.com with the account of the server's owner.

    That is a hosted tool such as `web_search`, or a new model based on one of the cloud.
    """
    if endpoint.kind is Kind.MANAGE:
        return document.truthy("remote_host") or is_cloud_name(document.get("from") or "")
    if endpoint.native or not document.mentions("tools", _HOSTED_TOOL_WORDS):
        return False
    return any(_is_hosted(tool) for tool in document.get("tools") or () if isinstance(tool, dict))


def _is_hosted(tool: Mapping[str, Any]) -> bool:
    kinds = (str(value) for key, value in tool.items() if key.casefold() == "type")
    return any(kind.casefold().startswith(("web_search", "web_fetch")) for kind in kinds)


def read_blobs(document: JsonObject) -> frozenset[str]:
    """Return the digests of a new model's files, which must be on the server that creates it.

    Raises:
        InvalidBody: a digest is not a string.
    """
    found = [digest for key in _BLOB_KEYS for digest in (document.get(key) or {}).values()]
    if not all(isinstance(digest, str) for digest in found):
        raise InvalidBody("files, adapters and draft_files must map names to digests")
    return frozenset(found)


def _int64(members: Mapping[str, Any] | JsonObject, key: str, label: str) -> int | None:
    value = members.get(key)
    if value is None:
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else _INT64
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidBody(f"{label} must be a whole number, got {_type_name(type(value))}")
    if abs(value) >= _INT64:
        raise InvalidBody(f"{label} must be a whole number of at most 64 bits")
    return value


def _type_name(of: type[object]) -> str:
    return _NAMES.get(of, "null")
