"""Tools in the format of Ollama and OpenAI: functions, each nested in an entry."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ollama_router_core.translate.arguments import arguments_object
from ollama_router_core.translate.conversation import CacheLife, ClientTool, Tool, ToolChoice
from ollama_router_core.translate.json_reader import JsonReader
from ollama_router_core.translate.json_text import encode
from ollama_router_core.translate.tool_schemas import object_schema

__all__ = [
    "INPUT",
    "custom_tool",
    "fitting_choice",
    "function_name",
    "input_arguments",
    "input_of",
    "read_cache",
    "read_function",
    "read_tools",
]

INPUT = "input"
"""The only argument of a function that substitutes a free-text tool."""


def read_tools(body: JsonReader) -> tuple[tuple[Tool, ...], dict[str, ClientTool]]:
    """Return the tools of a request, and the client's form of those that are not functions.

    Tools that run on a provider's own servers are omitted and listed as dropped: clients send them in every request.

    Raises:
        UntranslatableRequest: a function has no name.
    """
    tools: list[Tool] = []
    known: dict[str, ClientTool] = {}
    for fields in body.children("tools"):
        match fields.text("type") or "function":
            case "function":
                tools.append(_read_entry(fields))
            case "custom":
                custom = fields.child("custom") or fields
                tools.append(custom_tool(custom))
                known[tools[-1].name] = ClientTool(name=tools[-1].name, custom=True)
            case kind:
                body.note(f"tools.{kind}")
    return tuple(tools), known


def function_name(namespace: str, name: str) -> str:
    """Return the name of the substitute function for a tool of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def input_arguments(text: str) -> str:
    """Return the arguments of a call of a free-text tool."""
    return encode({INPUT: text}).decode("utf-8")


def input_of(arguments: str) -> str:
    """Return the free text in a call's arguments, or the whole text if it has another form."""
    value = arguments_object(arguments).get(INPUT)
    return value if isinstance(value, str) else arguments


def _read_entry(fields: JsonReader) -> Tool:
    # Some clients send the flat form of the Responses API everywhere.
    function = fields.child("function") or fields
    tool = read_function(function)
    return tool if tool.cache or function is fields else replace(tool, cache=read_cache(fields))


def read_function(function: JsonReader) -> Tool:
    """Parse a function.

    Raises:
        UntranslatableRequest: the function has no name.
    """
    return Tool(
        name=function.need_text("name"),
        description=function.text("description") or "",
        parameters=object_schema(function.mapping("parameters")),
        strict=function.flag("strict"),
        cache=read_cache(function),
    )


def custom_tool(fields: JsonReader) -> Tool:
    """Return the substitute function for a free-text tool, with the tool's grammar in the description.

    Raises:
        UntranslatableRequest: the tool has no name.
    """
    description = fields.text("description") or ""
    form = fields.child("format")
    grammar = form.child("grammar") or form if form is not None and form.raw("type") == "grammar" else None
    if grammar is not None and (definition := grammar.raw("definition")):
        description += f"\n\nThe input must follow this grammar ({grammar.raw('syntax')}):\n{definition}"
    text = {"type": "string", "description": "The whole input, as free text."}
    schema: dict[str, Any] = {"type": "object", "properties": {INPUT: text}, "required": [INPUT]}
    return Tool(name=fields.need_text("name"), description=description.strip(), parameters=schema)


def read_cache(fields: JsonReader) -> CacheLife:
    """Parse `cache_control`: how long to cache the prompt up to here."""
    mark = fields.raw("cache_control")
    if not isinstance(mark, dict) or mark.get("type") != "ephemeral":
        return ""
    return "1h" if mark.get("ttl") == "1h" else "5m"


def fitting_choice(choice: ToolChoice | None, tools: tuple[Tool, ...], body: JsonReader) -> ToolChoice | None:
    """Return the choice, or None if it names a dropped tool."""
    if choice is None or choice.mode != "named" or body.values.get("tools") is None:
        return choice
    if any(tool.name == choice.name for tool in tools):
        return choice
    body.note("tool_choice")
    return None
