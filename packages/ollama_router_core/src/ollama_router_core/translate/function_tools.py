"""Tools as Ollama and OpenAI write them: functions, each inside an entry of its own."""

from __future__ import annotations

from ollama_router_core.translate.conversation import Tool
from ollama_router_core.translate.json_reader import JsonReader

__all__ = ["read_tools"]


def read_tools(body: JsonReader) -> tuple[Tool, ...]:
    """Return the tools of a request.

    Raises:
        UntranslatableRequest: a tool is not a function with a name.
    """
    return tuple(_read_tool(fields) for fields in body.children("tools"))


def _read_tool(fields: JsonReader) -> Tool:
    if (fields.text("type") or "function") != "function":
        raise fields.wrong("type", "function: other tools run on the provider's own servers")
    function = fields.need_child("function")
    return Tool(
        name=function.need_text("name"),
        description=function.text("description") or "",
        parameters=function.mapping("parameters"),
        strict=function.flag("strict"),
    )
