"""Requests and streams in the union of the shapes that clients and servers send, not in those that our writers make.

Each text, argument, result and image has a mark of its own (`mk7z`): whatever becomes of a request is looked through
for it.
"""

from __future__ import annotations

import base64
import json
import re
from itertools import count
from typing import Any

from hypothesis import strategies as st

from ollama_router_core.translate import ConversationRoute
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.conversation import Text, Thinking, ToolCall
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.replies import Reply

__all__ = ["MEDIA", "marks_of", "odd_requests", "odd_streams"]

MEDIA = re.compile(r"iVBORw0KGgomk\d+z")
_MARK = re.compile(r"mk\d+z")


class _Marks:
    """Numbers for marks."""

    def __init__(self) -> None:
        self._next = count(1)

    def text(self) -> str:
        return f"mk{next(self._next)}z"

    def image(self) -> str:
        data = f"iVBORw0KGgo{self.text()}"
        return data + "A" * (-len(data) % 4)


def marks_of(body: dict[str, Any]) -> tuple[list[str], set[str]]:
    """The marks of texts in the order of the conversation, and those of images."""
    system = body.get("system") or body.get("instructions") or ""
    said = json.dumps([system, body.get("messages") or body.get("input")])
    images = set(_MARK.findall("".join(MEDIA.findall(said))))
    return [mark for mark in _MARK.findall(said) if mark not in images], images


@st.composite
def odd_requests(draw: st.DrawFn, route: ConversationRoute) -> dict[str, Any]:
    """A request of a route."""
    writer = _Requests(draw, route)
    turns: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 5))):
        match draw(st.sampled_from(["user", "user", "assistant", "tools", "system"])):
            case "user":
                turns.extend(writer.user())
            case "assistant":
                turns.extend(writer.assistant(()))
            case "system":
                turns.extend(writer.system())
            case _:
                turns.extend(writer.tools(number))
    turns.extend(writer.user())
    key = "messages" if route in {ANTHROPIC_MESSAGES, OPENAI_CHAT, OLLAMA_CHAT} else "input"
    return {"model": "m", key: turns, **({"max_tokens": 9} if route is ANTHROPIC_MESSAGES else {})}


class _Requests:
    """Writes turns of one dialect in any of its shapes."""

    def __init__(self, draw: st.DrawFn, route: ConversationRoute) -> None:
        self._draw = draw
        self._route = route
        self._marks = _Marks()

    def user(self) -> list[dict[str, Any]]:
        return [self._message("user", self._content("input_text"))]

    def system(self) -> list[dict[str, Any]]:
        return [self._message("system", self._marks.text())]

    def _message(self, role: str, content: Any) -> dict[str, Any]:
        if self._route is not OLLAMA_CHAT or isinstance(content, str):
            return {"role": role, "content": content}
        texts = [part for part in content if isinstance(part, str)]
        return {"role": role, "content": "\n".join(texts), "images": [part["i"] for part in content if "i" in part]}

    def _content(self, text_type: str) -> Any:
        if self._draw(st.booleans()):
            return self._marks.text()
        return [self._part(text_type) for _ in range(self._draw(st.integers(1, 3)))] + [self._text(text_type)]

    def _text(self, text_type: str) -> Any:
        if self._route is OLLAMA_CHAT:
            return self._marks.text()
        kinds = {ANTHROPIC_MESSAGES: ["text"], OPENAI_CHAT: ["text", "text", "input_text"]}
        kind = self._draw(st.sampled_from(kinds.get(self._route, [text_type, "text"])))
        return {"type": kind, "text": self._marks.text()}

    def _part(self, text_type: str) -> Any:
        return self._draw(st.sampled_from([self._text, self._image, self._document]))(text_type)

    def _image(self, _text_type: str) -> Any:
        data, kind = self._marks.image(), self._draw(st.sampled_from(["image/png", "image/jpg", "image/x-png"]))
        url = f"data:{kind};base64,{data}"
        if self._route is OLLAMA_CHAT:
            return {"i": self._draw(st.sampled_from([data, url]))}
        if self._route is ANTHROPIC_MESSAGES:
            return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
        if self._route is OPENAI_CHAT:
            return {"type": "image_url", "image_url": self._draw(st.sampled_from([url, {"url": url, "detail": "low"}]))}
        return {"type": "input_image", "image_url": url}

    def _document(self, text_type: str) -> Any:
        text = self._marks.text()
        data = base64.b64encode(text.encode()).decode()
        if self._route is OLLAMA_CHAT:
            return text
        if self._route is ANTHROPIC_MESSAGES:
            sources = [
                {"type": "base64", "media_type": "text/plain", "data": data},
                {"type": "text", "media_type": "text/plain", "data": text},
                {"type": "content", "content": [{"type": "text", "text": text}]},
            ]
            return {"type": "document", "source": self._draw(st.sampled_from(sources))}
        file = {"filename": "a.md", "file_data": f"data:text/markdown;base64,{data}"}
        if self._route is OPENAI_CHAT:
            return {"type": "file", "file": file}
        return {"type": "input_file", **file} if text_type == "input_text" else self._text(text_type)

    def assistant(self, calls: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
        text = self._marks.text() if not calls or self._draw(st.booleans()) else ""
        if self._route is ANTHROPIC_MESSAGES:
            return [{"role": "assistant", "content": [*([{"type": "text", "text": text}] if text else []), *calls]}]
        if self._route is OPENAI_CHAT:
            content: Any = self._draw(st.sampled_from([text, [{"type": "text", "text": text}]])) if text else None
            return [{"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {})}]
        if self._route is OLLAMA_CHAT:
            return [{"role": "assistant", "content": text, "tool_calls": list(calls)}]
        return [*([{"role": "assistant", "content": text}] if text else []), *calls]

    def tools(self, turn: int) -> list[dict[str, Any]]:
        """Calls with all, some or none of their results."""
        ids = [f"id{turn}.{number}:x" for number in range(self._draw(st.integers(1, 3)))]
        calls = self.assistant(tuple(self._call(given) for given in ids))
        answered = [given for given in ids if self._draw(st.integers(0, 3))]
        results = [self._result(given) for given in answered]
        if self._route is ANTHROPIC_MESSAGES and results:
            return [*calls, {"role": "user", "content": results}]
        return [*calls, *results]

    def _call(self, given: str) -> dict[str, Any]:
        value = {"x": self._marks.text()}
        text = json.dumps(value)
        cut = text[: -self._draw(st.integers(1, 2))]
        if self._route is ANTHROPIC_MESSAGES:
            return {"type": "tool_use", "id": given, "name": "f", "input": value}
        if self._route is OPENAI_CHAT:
            arguments = self._draw(st.sampled_from([text, value, cut, json.dumps(text)]))
            return {"id": given, "type": "function", "function": {"name": "f", "arguments": arguments}}
        if self._route is OLLAMA_CHAT:
            return {"id": given, "function": {"name": "f", "arguments": self._draw(st.sampled_from([value, text]))}}
        arguments = self._draw(st.sampled_from([text, cut, value]))
        return {"type": "function_call", "call_id": given, "name": "f", "arguments": arguments}

    def _result(self, given: str) -> dict[str, Any]:
        content = self._content("input_text")
        if self._route is ANTHROPIC_MESSAGES:
            return {"type": "tool_result", "tool_use_id": given, "content": content}
        if self._route is OPENAI_CHAT:
            return {"role": "tool", "tool_call_id": given, "content": content}
        if self._route is OLLAMA_CHAT:
            return {**self._message("tool", content), "tool_name": "f", "tool_call_id": given}
        return {"type": "function_call_output", "call_id": given, "output": content}


# --- streams --------------------------------------------------------------------------------------


@st.composite
def odd_streams(draw: st.DrawFn, reply: Reply) -> bytes:
    """A stream of chat completions that says `reply`, in any of the shapes that servers use."""
    deltas: list[dict[str, Any]] = []
    for part in reply.parts:
        if isinstance(part, Thinking):
            deltas.extend(_thought(draw, part.text))
        elif isinstance(part, Text):
            deltas.extend({"content": _content(draw, piece)} for piece in _pieces(draw, part.text))
    deltas.extend(_calls(draw, [part for part in reply.parts if isinstance(part, ToolCall)]))
    empty = draw(st.sampled_from([None, ""]))
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": empty}]} for delta in deltas]
    usage = reply.usage
    counts = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens} if usage else None
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish.value}], "usage": counts})
    noise = draw(st.sampled_from([b"", b": ping\n\n", b"data:\n\n", b"data: null\n\n", b"event: message\nid: 1\n"]))
    end = draw(st.sampled_from([b"data: [DONE]\n\n", b"data: [DONE] \r\n\r\n", b"data:[DONE]", b""]))
    lines = (noise + b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)
    return b"".join(lines) + end


def _pieces(draw: st.DrawFn, text: str) -> list[str]:
    place = draw(st.integers(0, len(text)))
    return [piece for piece in (text[:place], text[place:]) if piece]


def _content(draw: st.DrawFn, text: str) -> Any:
    return draw(st.sampled_from([text, [{"type": "text", "text": text}]]))


def _thought(draw: st.DrawFn, text: str) -> list[dict[str, Any]]:
    shape = draw(st.sampled_from(["reasoning_content", "reasoning", "thinking", "parts", "details"]))
    made: list[dict[str, Any]] = []
    for piece in _pieces(draw, text):
        if shape == "parts":
            made.append({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]})
        elif shape == "details":
            made.append({"reasoning_details": [{"type": "reasoning.text", "text": piece, "index": 0}]})
        else:
            made.append({shape: piece})
    return made


def _calls(draw: st.DrawFn, calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Deltas of each call, those of different calls in turns where they can be told apart."""
    told_apart = draw(st.booleans())
    lines = [
        _call(draw, call, index if told_apart else draw(st.sampled_from([0, None]))) for index, call in enumerate(calls)
    ]
    if not told_apart:
        return [delta for line in lines for delta in line]
    taken: list[dict[str, Any]] = []
    while any(lines):
        line = draw(st.sampled_from([line for line in lines if line]))
        taken.append(line.pop(0))
    order = [delta["tool_calls"][0]["index"] for delta in taken]
    # The order in which calls begin is the order in which the client gets them.
    first = sorted({index: order.index(index) for index in order}.items(), key=lambda item: item[1])
    return (
        taken
        if [index for index, _ in first] == sorted(index for index, _ in first)
        else sorted(taken, key=lambda delta: delta["tool_calls"][0]["index"])
    )


def _call(draw: st.DrawFn, call: ToolCall, index: int | None) -> list[dict[str, Any]]:
    place = {} if index is None else {"index": index}
    arguments = call.arguments or "{}"
    repeated = draw(st.booleans())
    pieces = _pieces(draw, arguments)
    head = {**place, "id": call.id, "function": {"name": call.name, "arguments": ""}}
    if draw(st.booleans()):
        whole = {**place, "id": call.id, "function": {"name": call.name, "arguments": json.loads(arguments)}}
        return [{"tool_calls": [whole]}]
    again = {"id": call.id} if repeated else {}
    rest = [{"tool_calls": [{**place, **again, "function": {"arguments": piece}}]} for piece in pieces]
    return [{"tool_calls": [head]}, *rest]
