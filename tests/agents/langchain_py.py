"""LangChain for Python with three of its models, asked as js/calls.mjs asks: lines of JSON in, lines of JSON out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_ollama import ChatOllama
from langchain_openai import ChatOpenAI

_MODELS: Mapping[str, Callable[[str, str, str], Any]] = {
    "langchain-py openai": lambda url, token, model: ChatOpenAI(model=model, api_key=token, base_url=f"{url}/v1"),
    "langchain-py anthropic": lambda url, token, model: ChatAnthropic(model=model, api_key=token, base_url=url),
    "langchain-py ollama": lambda url, token, model: ChatOllama(
        model=model, base_url=url, client_kwargs={"headers": {"Authorization": f"Bearer {token}"}}
    ),
}
_WEATHER = {
    "name": "weather",
    "description": "The weather of a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
}


def _ask(
    client: str,
    *,
    url: str,
    token: str,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    stream: bool,
    tools: bool = False,
    leaveAfter: int = 0,  # noqa: N803 - the same word as in JavaScript
) -> Mapping[str, Any]:
    """Ask once; what a stream says is put together again."""
    chat = _MODELS[client](url, token, model)
    able = chat.bind_tools([{"type": "function", "function": _WEATHER}]) if tools else chat
    asked = [_message(message) for message in messages]
    pieces = 0
    try:
        if not stream:
            return {**_answer(able.invoke(asked)), "pieces": pieces}
        running = able.stream(asked)
        whole = next(running)
        for pieces, piece in enumerate(running, start=2):
            whole += piece
            if pieces == leaveAfter:
                running.close()
                return {"error": {"name": "GeneratorExit", "status": None, "message": "left"}, "pieces": pieces}
        return {**_answer(whole), "pieces": pieces}
    except Exception as error:  # noqa: BLE001 - the test judges what was raised
        return {"error": _failure(error), "pieces": pieces}


def _failure(error: Exception) -> dict[str, Any]:
    return {"name": type(error).__name__, "status": getattr(error, "status_code", None), "message": str(error)}


def _message(message: Mapping[str, Any]) -> BaseMessage:
    text, call = message["text"], message.get("call")
    if message["role"] == "tool":
        return ToolMessage(content=text, tool_call_id=call["id"], name=call["name"])
    if message["role"] == "assistant":
        calls = [{"id": call["id"], "name": call["name"], "args": json.loads(call["arguments"])}] if call else []
        return AIMessage(content=text, tool_calls=calls)
    if image := message.get("image"):
        picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
        return HumanMessage(content=[{"type": "text", "text": text}, picture])
    return HumanMessage(content=text)


def _answer(message: Any) -> dict[str, Any]:
    call = message.tool_calls[0] if message.tool_calls else None
    called = call and {"id": call["id"], "name": call["name"], "arguments": json.dumps(call["args"])}
    return {"text": str(message.text), "call": called}


def _main() -> None:
    for line in sys.stdin:
        print(f"answer: {json.dumps(_ask(**json.loads(line)))}", flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    _main()
