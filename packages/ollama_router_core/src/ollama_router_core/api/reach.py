"""Use of a provider beyond a response of the named model, detected by members of the request's body.

The names are those of OpenAI, Anthropic, OpenRouter, xAI, Gemini, LiteLLM and vLLM; providers ignore members that they
do not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from ollama_router_core.api.strict_json import JsonObject
from ollama_router_core.api.user_urls import leads_inside

__all__ = ["Reach", "hosted_kind", "reaches"]


class Reach(StrEnum):
    """A kind of reach.

    `models`: other models than the named one. `tools`: tools run or called by the provider, with its account.
    `stored`: data stored at the provider, by any user. `urls`: addresses in a private network, for the provider to
    fetch.
    """

    MODELS = "models"
    TOOLS = "tools"
    STORED = "stored"
    URLS = "urls"


_MEMBERS: Mapping[str, Reach] = {
    **dict.fromkeys(("models", "plugins", "fallbacks", "fallback_models", "model_list", "preset"), Reach.MODELS),
    **dict.fromkeys(
        ("mcp", "mcp_servers", "container", "web_search", "web_search_options", "search_parameters", "search_options",
         "enable_search", "tool_resources", "connectors", "agents"), Reach.TOOLS
    ),
    **dict.fromkeys(
        ("previous_response_id", "previous_interaction_id", "conversation", "thread_id", "assistant_id",
         "vector_store_ids", "file_ids", "cached_content", "background"), Reach.STORED
    ),
}  # fmt: skip
_IN_TOOLS: Mapping[str, Reach] = {
    **dict.fromkeys(("model", "models"), Reach.MODELS),
    **dict.fromkeys(("vector_store_ids", "file_ids"), Reach.STORED),
}
_IN_CONTENT = frozenset({"file_id", "file_ids", "container_id"})
_CONTENTS = ("messages", "input", "system", "prompt")
_WORDS = (b"url", b"uri", b"file_id", b"container_id", b"item_reference", b"\\u")
"""Every content with a reach contains one of them; most contents contain none."""
_LOCAL_TOOLS = frozenset({
    "function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview",
    "allowed_tools",
})  # fmt: skip
_LOCAL_FAMILIES = ("bash_", "text_editor_", "computer_", "memory_", "tool_search")
_CALLS = frozenset({"tool_use", "server_tool_use", "mcp_tool_use", "function_call", "custom_tool_call"})
_DATA = frozenset({"arguments", "parameters", "input_schema", "schema", "annotations", "citations"})


def reaches(document: JsonObject) -> Iterator[tuple[Reach, str]]:
    """Yield each kind of reach in a body, with the member's name."""
    for key in document.keys:
        kind = _MEMBERS.get(key.casefold())
        if kind is not None and document.get(key):
            yield kind, key
    yield from _in_tools(document.get("tools"), "tools")
    if isinstance(document.get("prompt"), dict):
        yield Reach.STORED, "prompt"
    for key in _CONTENTS:
        if document.mentions(key, _WORDS):
            yield from _in_content(document.get(key), key)


def hosted_kind(tool: Any) -> str | None:
    """Return the type of a tool that does not run at the client; None for one that does."""
    if not isinstance(tool, dict):
        return None
    kinds = [value for key, value in tool.items() if key.casefold() == "type" and value is not None]
    if not kinds:
        named = {"name", "function"} & set(tool)
        return None if named or not tool else next(iter(tool))
    hosted = (str(kind) for kind in kinds if not _runs_at_client(str(kind).casefold(), tool))
    return next(hosted, None)


def _runs_at_client(kind: str, tool: Mapping[str, Any]) -> bool:
    if kind == "shell":
        environment = tool.get("environment")
        return isinstance(environment, dict) and environment.get("type") == "local"
    return kind in _LOCAL_TOOLS or kind.startswith(_LOCAL_FAMILIES)


def _in_tools(tools: Any, path: str) -> Iterator[tuple[Reach, str]]:
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = hosted_kind(tool)
        if kind is not None:
            yield Reach.TOOLS, f"{path}[{index}] ({kind[:64]})"
            yield from ((_IN_TOOLS[key], f"{path}[{index}].{key}") for key in _IN_TOOLS if tool.get(key))
        elif isinstance(tool, dict):
            yield from _in_tools(tool.get("tools"), f"{path}[{index}].tools")


def _in_content(content: Any, path: str) -> Iterator[tuple[Reach, str]]:
    waiting = [(content, path)]
    while waiting:
        value, where = waiting.pop()
        if isinstance(value, list):
            waiting += [
                (each, f"{where}[{index}]") for index, each in enumerate(value) if isinstance(each, list | dict)
            ]
        elif isinstance(value, dict):
            for key, each in _members(value):
                if isinstance(each, list | dict):
                    waiting.append((each, f"{where}.{key}"))
                if (kind := _member_reach(key, each)) is not None:
                    yield kind, f"{where}.{key}"


def _members(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Iterate over the members with content, without tools' data."""
    is_call = value.get("type") in _CALLS
    return ((key, each) for key, each in value.items() if key not in _DATA and not (is_call and key == "input"))


def _member_reach(key: str, value: Any) -> Reach | None:
    name = key.casefold()
    if (name in _IN_CONTENT and value) or (name == "type" and value == "item_reference"):
        return Reach.STORED
    if isinstance(value, str) and name.endswith(("url", "uri")) and leads_inside(value):
        return Reach.URLS
    return None
