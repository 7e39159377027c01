"""The keys of a request body, each by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from ollama_router_core.api.endpoints import Endpoint, Family, Kind
from ollama_router_core.api.keep_alive import UNLOADING, keep_alive_seconds
from ollama_router_core.api.model_names import is_cloud_name
from ollama_router_core.api.strict_json import JsonObject
from ollama_router_core.errors import AmbiguousKey, InvalidBody

__all__ = [
    "DEEPER_KEYS",
    "MANAGE_TYPES",
    "PLAIN_KEYS",
    "READ_KEYS",
    "TYPES",
    "checked_options",
    "keeps_model",
    "may_hold_images",
    "only",
    "plain_keep_alive",
    "plain_limit",
    "plain_tools",
    "read_blobs",
    "read_max_tokens",
    "read_needs",
    "read_num_ctx",
    "read_options",
    "refuse_lookalikes",
    "refuse_wrong_types",
    "unloads",
    "uses_cloud",
    "wants_stream",
    "with_tools",
]

_LIMIT_KEYS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
READ_KEYS = frozenset({"model", "name", "stream", "options", "keep_alive", "messages", "prompt", "input", "tools",
                       "source", "destination", "from", "think", "images", "max_tokens", "max_completion_tokens",
                       "suffix", "system", "template", "files", "adapters", "draft_files", "remote_host", "insecure",
                       "max_output_tokens", "stream_options"})  # fmt: skip
DEEPER_KEYS = frozenset({"options", "tools", "keep_alive", *_LIMIT_KEYS})
"""Those of `PLAIN_KEYS` whose values say something about what is needed."""
PLAIN_KEYS = DEEPER_KEYS | {"model", "messages", "stream"} | {
    "prompt", "input", "system", "template", "think", "stream_options", "format", "raw", "context", "truncate", "top_k",
    "temperature", "top_p", "n", "seed", "stop", "user", "presence_penalty", "frequency_penalty", "logit_bias",
    "logprobs", "top_logprobs", "response_format", "tool_choice", "parallel_tool_calls", "metadata", "store",
    "service_tier", "reasoning_effort", "reasoning", "verbosity", "echo", "best_of", "dimensions", "encoding_format",
    "instructions", "text", "stop_sequences", "thinking",
}  # fmt: skip
"""Keys of usual requests. But for the first line their values, whatever they are, say nothing that the router reads."""
_READ_OPTIONS = frozenset({"num_ctx", "num_predict"})
_NULL = type(None)
_TEXT, _OBJECT, _LIST = frozenset({str, _NULL}), frozenset({dict, _NULL}), frozenset({list, _NULL})
_Types = Mapping[str, frozenset[object]]
TYPES: _Types = {
    "model": _TEXT,
    "name": _TEXT,
    "options": _OBJECT,
    "messages": _LIST,
    "tools": _LIST,
    "images": _LIST,
    "keep_alive": frozenset({str, int, float, _NULL}),
}
MANAGE_TYPES: _Types = {
    **TYPES,
    "source": _TEXT,
    "destination": _TEXT,
    "from": _TEXT,
    "remote_host": _TEXT,
    "files": _OBJECT,
    "adapters": _OBJECT,
    "draft_files": _OBJECT,
}
_IN_WORDS = {_TEXT: "a text", _OBJECT: "an object", _LIST: "a list"}
_SECONDS = "a number of seconds or a text such as '5m'"
_BLOB_KEYS = ("files", "adapters", "draft_files")
_KEEPS = re.compile(rb'-?[1-9][0-9]{0,9}|"-?[1-9][0-9]{0,9}[smh]"')
_INT64 = 1 << 63
_LONGEST_LIMIT = 19  # digits, from which on a number may have more than 64 bits
_SMALLEST_CONTEXT = 4  # tokens; Ollama raises what is below
_NO_NEEDS: frozenset[str] = frozenset()


def refuse_lookalikes(members: Mapping[str, Any], read: frozenset[str]) -> None:
    """Reject keys that Ollama would match to one the router reads.

    Raises:
        AmbiguousKey: a key differs from one of `read` in case only.
    """
    for key in members:
        if key not in read and key.casefold() in read:
            raise AmbiguousKey(f"the key {key!r} would be read as {key.casefold()!r} by some servers; write the latter")


def refuse_wrong_types(members: Mapping[str, Any], types: _Types) -> None:
    """Reject values of the wrong type.

    Raises:
        InvalidBody: the text names the key, what was expected and what was found.
    """
    for key, value in members.items():
        if key in types and type(value) not in types[key]:
            raise InvalidBody(f"{key} must be {_IN_WORDS.get(types[key], _SECONDS)}, got {_type_name(value)}")


def wants_stream(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Tell whether a streamed answer is asked for; each route has its own default.

    Raises:
        InvalidBody: `stream` is not a boolean.
    """
    if endpoint.streams is None:
        return False
    value = values.get("stream")
    if value is None:
        return endpoint.streams
    if not isinstance(value, bool):
        raise InvalidBody(f"stream must be true or false, got {_type_name(value)}")
    return value


def read_options(document: JsonObject, endpoint: Endpoint) -> Mapping[str, Any] | None:
    """Return `options`, which only Ollama's own routes read."""
    if endpoint.family is not Family.OLLAMA or document.get("options") is None:
        return None
    return checked_options(document)


def checked_options(document: JsonObject) -> Mapping[str, Any]:
    """Return the members of the object `options`.

    Raises:
        AmbiguousKey: it has a key twice, or one that Ollama would match to a key the router reads.
    """
    options = document.child("options")
    refuse_lookalikes(options, _READ_OPTIONS)
    return options


def read_num_ctx(options: Mapping[str, Any]) -> int | None:
    """Return the context asked for, in tokens, as Ollama reads it.

    Raises:
        InvalidBody: it is not a 64-bit integer.
    """
    value = _whole(options, "num_ctx", "options.num_ctx")
    return None if value is None else max(value, _SMALLEST_CONTEXT)


def read_max_tokens(values: Mapping[str, Any], options: Mapping[str, Any] | None, endpoint: Endpoint) -> int | None:
    """Return the client's limit on the answer in tokens, or None.

    Raises:
        InvalidBody: it is not a 64-bit integer.
    """
    if endpoint.family is Family.OLLAMA:
        found = None if options is None else _whole(options, "num_predict", "options.num_predict")
        return found if found is not None and found > 0 else None
    for key in _LIMIT_KEYS:
        found = _whole(values, key, key) if key in values else None
        if found is not None:
            return found if found > 0 else None
    return None


def only(need: str | None) -> frozenset[str]:
    """Return the needs of a route that needs one capability, or none."""
    return _NO_NEEDS if need is None else frozenset({need})


def read_needs(values: Mapping[str, Any], endpoint: Endpoint) -> frozenset[str]:
    """Return the capabilities that the model needs, for the route and for this request."""
    usual = only(endpoint.needs)
    if not usual:
        return usual
    more = []
    if values.get("tools"):
        more.append("tools")
    if values.get("suffix") and endpoint.family is Family.OLLAMA:
        more.append("insert")
    if values.get("images") or _messages_have_images(values.get("messages")):
        more.append("vision")
    return usual.union(more) if more else usual


def may_hold_images(messages: bytes) -> bool:
    """Whether the text of messages could have a picture among them; most have no such word, however it is spelled."""
    return b"image" in messages or (b"\\" in messages and b"\\u00" in messages)


def plain_tools(tools: bytes) -> bool:
    """Whether the text of `tools` is a list of objects, all run by the client itself; False wants a closer look."""
    return tools.startswith(b"[{") and tools.isascii() and b"\\u" not in tools and b"web_" not in tools.lower()


def plain_keep_alive(keep_alive: bytes) -> bool:
    """Whether the text of `keep_alive` keeps a model; False wants a closer look."""
    return _KEEPS.fullmatch(keep_alive) is not None


def plain_limit(pieces: Mapping[str, Raw]) -> int | None:
    """The client's limit on the answer, None without one; 0 stands for what wants a closer look."""
    for key in _LIMIT_KEYS:
        if key in pieces:
            text = bytes(pieces[key])
            return int(text) if len(text) < _LONGEST_LIMIT and text.isdigit() else 0
    return None


def with_tools(needs: frozenset[str]) -> frozenset[str]:
    """The same for a request that brings tools, where anything is needed."""
    return needs | {"tools"} if needs else needs


def _messages_have_images(messages: Any) -> bool:
    for message in messages or ():
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


def unloads(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Tell whether the request unloads a model: `keep_alive: 0` and nothing to generate."""
    if keep_alive_seconds(values.get("keep_alive")) != 0:
        return False
    return endpoint.name in {"generate", "chat"} and not values.get("prompt") and not values.get("messages")


def keeps_model(values: Mapping[str, Any]) -> bool:
    """Tell whether the model may stay in memory once it has answered."""
    seconds = keep_alive_seconds(values.get("keep_alive"))
    return seconds is None or not 0 <= seconds < UNLOADING


def uses_cloud(values: Mapping[str, Any], endpoint: Endpoint) -> bool:
    """Tell whether the request uses `web_search`, which Ollama runs with the account of the server's owner."""
    if endpoint.kind is Kind.MANAGE:
        return bool(values.get("remote_host")) or is_cloud_name(values.get("from") or "")
    tools = values.get("tools")
    if not tools or endpoint.family is Family.OLLAMA:
        return False
    return any(_is_hosted(tool) for tool in tools if isinstance(tool, dict))


def _is_hosted(tool: Mapping[str, Any]) -> bool:
    kinds = (str(value) for key, value in tool.items() if key.casefold() == "type")
    return any(kind.casefold().startswith(("web_search", "web_fetch")) for kind in kinds)


def read_blobs(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the digests that a new model is made of; they must be on the server that creates it."""
    found = [digest for key in _BLOB_KEYS for digest in (values.get(key) or {}).values()]
    if not all(isinstance(digest, str) for digest in found):
        raise InvalidBody("files, adapters and draft_files must map names to digests")
    return frozenset(found)


def _whole(members: Mapping[str, Any], key: str, label: str) -> int | None:
    value = members.get(key)
    if value is None:
        return None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else _INT64
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidBody(f"{label} must be a whole number, got {_type_name(value)}")
    if abs(value) >= _INT64:
        raise InvalidBody(f"{label} must be a whole number of at most 64 bits")
    return value


def _type_name(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
