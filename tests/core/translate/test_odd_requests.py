"""Requests as agents really send them to models of every host: no turn of a session may be refused for ever."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest

from ollama_router_core.translate import ConversationRoute, HostTraits, translate_reply, translate_request
from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES as ANTHROPIC
from ollama_router_core.translate.call_ids import escaped_id, fitted_id, original_id
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT as OLLAMA
from ollama_router_core.translate.openai.codec import OPENAI_CHAT as OPENAI
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES as RESPONSES
from support.conversations import CHATS, IDENTITY, JPEG, PNG
from support.openai_host import OPENAI_OWN
from support.pdf import pdf_of

HI = [{"role": "user", "content": "hi"}]
each_host = pytest.mark.parametrize("target", CHATS, ids=repr)


def ask(
    body: dict[str, Any], source: ConversationRoute, target: ConversationRoute, accepts: Accepts | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The translated body and what was dropped."""
    sent = translate_request(body, source=source, target=target, model="m", traits=HostTraits(accepts=accepts))
    return json.loads(sent.body), sent.dropped


def encoded(text: str) -> str:
    """Base64 of a text."""
    return base64.b64encode(text.encode()).decode()


# --- images and files in results ------------------------------------------------------------------


def read_with_claude_code(*content: dict[str, Any], then: str | None = None) -> dict[str, Any]:
    """A turn of Claude Code in which a tool has read something."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "a"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": list(content)}
    more = [] if then is None else [{"type": "text", "text": then}]
    return {
        "max_tokens": 100,
        "messages": [*HI, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result, *more]}],
    }


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


def document(media_type: str, data: str, **more: Any) -> dict[str, Any]:
    """A document of Anthropic's."""
    return {"type": "document", "source": {"type": "base64", "media_type": media_type, "data": data}, **more}


@pytest.mark.parametrize("then", [None, "what is it?"])
def test_an_image_in_a_result_follows_in_the_users_turn(then) -> None:
    """OpenAI's results are text: the image comes in the next message, with the call it belongs to."""
    written, dropped = ask(read_with_claude_code({"type": "text", "text": "read"}, IMAGE, then=then), ANTHROPIC, OPENAI)
    result, turn = written["messages"][2:]
    assert (result["role"], result["tool_call_id"]) == ("tool", "toolu_1")
    assert result["content"].startswith("read\n")
    assert turn["role"] == "user"
    assert "Read (call toolu_1)" in turn["content"][0]["text"]
    assert turn["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert [part.get("text") for part in turn["content"][2:]] == ([] if then is None else [then])
    assert dropped == ()


@pytest.mark.parametrize("target", [OLLAMA, ANTHROPIC, RESPONSES], ids=repr)
def test_an_image_in_a_result_stays_there_where_it_can(target) -> None:
    """The other dialects have a place for it."""
    written, dropped = ask(read_with_claude_code(IMAGE), ANTHROPIC, target)
    result = (written.get("messages") or written["input"])[2]
    assert PNG in json.dumps(result)
    assert dropped == ()


def test_results_of_two_calls_stay_behind_their_calls() -> None:
    """Images of both follow both: between results nothing may stand."""
    calls = [{"type": "tool_use", "id": f"t{number}", "name": "Read", "input": {}} for number in (1, 2)]
    results = [{"type": "tool_result", "tool_use_id": f"t{number}", "content": [IMAGE]} for number in (1, 2)]
    messages = [*HI, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]
    written, _ = ask({"messages": messages}, ANTHROPIC, OPENAI)
    assert [message["role"] for message in written["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    told = [part["text"] for part in written["messages"][4]["content"] if part["type"] == "text"]
    assert ["t1" in told[0], "t2" in told[1]] == [True, True]


@each_host
@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", "application/json", "text/x-python"])
def test_a_text_document_is_a_text(media_type, target) -> None:
    """Every model reads text."""
    body = read_with_claude_code(document(media_type, encoded("café"), title="notes"))
    written, dropped = ask(body, ANTHROPIC, target)
    assert "café" in json.dumps(written, ensure_ascii=False)
    assert "notes" in json.dumps(written)
    assert dropped == ()


@each_host
@pytest.mark.parametrize(
    "source",
    [
        {"type": "text", "media_type": "text/plain", "data": "the text"},
        {"type": "content", "content": [{"type": "text", "text": "the text"}]},
        {"type": "content", "content": "the text"},
    ],
)
def test_a_document_in_any_form_is_read(source, target) -> None:
    """Anthropic has five of them."""
    written, _ = ask(read_with_claude_code({"type": "document", "source": source}), ANTHROPIC, target)
    assert "the text" in json.dumps(written)


def test_a_pdf_reaches_a_host_that_takes_files() -> None:
    """In the result where that can hold it, else behind it."""
    data = pdf_of("Hello")
    written, _ = ask(read_with_claude_code(document("application/pdf", data)), ANTHROPIC, OPENAI, OPENAI_OWN)
    assert written["messages"][3]["content"][1]["file"]["file_data"] == f"data:application/pdf;base64,{data}"
    written, _ = ask(read_with_claude_code(document("application/pdf", data)), ANTHROPIC, RESPONSES)
    assert written["input"][2]["output"][0]["file_data"] == f"data:application/pdf;base64,{data}"


@pytest.mark.parametrize("target", [OPENAI, OLLAMA], ids=repr)
def test_a_pdf_is_its_text_layer_elsewhere(target) -> None:
    """The model reads what it says; that it does not see how it looks is told."""
    body = read_with_claude_code(document("application/pdf", pdf_of("Total: 42 EUR"), title="bill.pdf"))
    written, dropped = ask(body, ANTHROPIC, target)
    assert "Total: 42 EUR" in json.dumps(written)
    assert "bill.pdf" in json.dumps(written)
    assert dropped == ("messages.content.file.layout",)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (document("application/pdf", encoded("%PDF-1.7 broken")), "messages.content.file"),
        (document("application/zip", "UEsDBA=="), "messages.content.file"),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, "messages.content.content.source"),
        ({"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}, "messages.content.file_url"),
        ({"type": "image", "source": {"type": "file", "file_id": "file_1"}}, "messages.content.content.source"),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "Qk0AAAAA"}},
            "messages.content.image",
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "???"}},
            "messages.content.content.source",
        ),
    ],
)
def test_what_a_host_cannot_be_shown_leaves_a_note(part, name) -> None:
    """The session goes on, the model knows that something was there, and the client is told."""
    written, dropped = ask(read_with_claude_code(part), ANTHROPIC, OPENAI)
    assert "was left out: " in written["messages"][2]["content"]
    assert dropped == (name,)


@each_host
def test_what_anthropics_own_tools_did_is_left_out_by_name(target) -> None:
    """A session that began at Anthropic goes on elsewhere."""
    blocks = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": []},
        {"type": "text", "text": "found"},
    ]
    messages = [*HI, {"role": "assistant", "content": blocks}, *HI]
    written, dropped = ask({"messages": messages}, ANTHROPIC, target)
    assert "found" in json.dumps(written)
    assert dropped == ("messages.content.server_tool_use", "messages.content.web_search_tool_result")


# --- system messages in mid-conversation -------------------------------------------------------------

LATER = [
    {"role": "system", "content": "first"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b"},
    {"role": "system", "content": "later"},
    {"role": "user", "content": "c"},
]


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC], ids=repr)
def test_a_later_system_message_is_wrapped_into_the_users_next_turn(target) -> None:
    """Templates and Anthropic want it first; moved there it would change the cached beginning of the prompt."""
    written, _ = ask({"messages": LATER}, OPENAI, target)
    turns = [turn for turn in written["messages"] if turn["role"] != "system"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    text = json.dumps(turns[2]["content"])
    assert text.index("<system>") < text.index("later") < text.index("</system>") < text.index('c"')


def test_claude_codes_system_message_behind_the_users_turn_is_a_part_of_it() -> None:
    """With no user's turn to follow, it joins the one before: templates want the sides to take turns."""
    body = {"system": "s", "messages": [*HI, {"role": "system", "content": "reminder"}]}
    written, _ = ask(body, ANTHROPIC, OPENAI)
    assert [message["role"] for message in written["messages"]] == ["system", "user"]
    assert "hi" in written["messages"][1]["content"]
    assert "reminder" in written["messages"][1]["content"]


def test_a_system_message_behind_results_is_a_turn_of_its_own() -> None:
    """Nothing may stand between calls and results."""
    body = read_with_claude_code({"type": "text", "text": "1"})
    body["messages"].append({"role": "system", "content": "reminder"})
    written, _ = ask(body, ANTHROPIC, OPENAI)
    assert [message["role"] for message in written["messages"]] == ["user", "assistant", "tool", "user"]
    assert "reminder" in written["messages"][3]["content"]


def test_a_host_may_keep_or_fold_later_system_messages() -> None:
    """OpenAI's own models know them; folded, they are a part of the first."""
    written, _ = ask({"messages": LATER}, OPENAI, RESPONSES)
    assert [item["role"] for item in written["input"]] == ["user", "assistant", "system", "user"]
    written, _ = ask({"messages": LATER}, OPENAI, OPENAI, OPENAI_OWN)
    assert written["messages"] == LATER
    written, _ = ask({"messages": LATER}, OPENAI, OPENAI, Accepts(later_system="folded"))
    assert [message["role"] for message in written["messages"]] == ["system", "user", "assistant", "user"]
    assert written["messages"][0]["content"] == "first\nlater"


def test_several_first_system_messages_are_one() -> None:
    """Templates take exactly one."""
    messages = [{"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, *HI]
    written, _ = ask({"messages": messages}, OPENAI, OPENAI)
    assert written["messages"] == [{"role": "system", "content": "a\nb"}, *HI]


# --- calls without results, results without calls ----------------------------------------------------


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC, RESPONSES], ids=repr)
def test_an_interrupted_call_has_a_result_that_says_so(target) -> None:
    """Esc in Claude Code leaves a call without a result, and every further turn would be refused."""
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    messages = [*HI, {"role": "assistant", "content": [call]}, {"role": "user", "content": "stop"}]
    written, _ = ask({"messages": messages}, ANTHROPIC, target)
    assert "interrupted" in json.dumps(written)
    text = json.dumps(written)
    assert text.index("interrupted") < text.index("stop")


@pytest.mark.parametrize("target", [OPENAI, ANTHROPIC, RESPONSES], ids=repr)
def test_a_result_without_a_call_is_told_by_the_user(target) -> None:
    """A history that was cut at its beginning has such results."""
    messages = [{"role": "tool", "tool_call_id": "gone", "content": "42"}, *HI]
    written, _ = ask({"messages": messages}, OPENAI, target)
    turns = written.get("messages") or written["input"]
    assert all(turn.get("role") == "user" for turn in turns)
    assert "42" in json.dumps(written)


def test_results_stand_behind_their_calls_in_the_order_of_the_calls() -> None:
    """Whatever the client put between them."""
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in ("a", "b")]
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "user", "content": "and"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    written, _ = ask({"messages": messages}, OPENAI, ANTHROPIC)
    blocks = written["messages"][2]["content"]
    assert [block.get("tool_use_id") for block in blocks] == ["a", "b", None]
    assert blocks[2]["text"] == "and"


# --- ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["functions.f:0", "call_1", "toolu_01A", "call/with spaces", "_x", "é", "a" * 40])
def test_a_host_gets_its_own_ids_back_through_every_client(given) -> None:
    """Kimi's ids are a part of the model's prompt: escaped for an Anthropic client, they come back as they were."""
    entry = {"id": given, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {"choices": [{"message": {"content": None, "tool_calls": [entry]}, "finish_reason": "tool_calls"}]}
    answer = json.loads(translate_reply(json.dumps(body).encode(), source=OPENAI, target=ANTHROPIC, identity=IDENTITY))
    (call,) = answer["content"]
    assert call["id"].replace("_", "").replace("-", "").isalnum()
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "1"}
    messages = [*HI, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    back, _ = ask({"messages": messages}, ANTHROPIC, OPENAI)
    assert back["messages"][1]["tool_calls"][0]["id"] == back["messages"][2]["tool_call_id"] == given


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        (CallIds(longest=40), r".{1,40}"),
        (CallIds(alphabet="alphanumeric", longest=9, exact=True), r"[a-zA-Z0-9]{9}"),
        (CallIds(alphabet="word", longest=64), r"[a-zA-Z0-9_-]{1,64}"),
    ],
)
@pytest.mark.parametrize("given", ["functions.f:0", "x" * 300, "a", "call_8f2"])
def test_an_id_that_a_host_refuses_is_replaced_by_one_it_takes(rule, pattern, given) -> None:
    """The same by the same, in calls and results; OpenAI takes 40 characters, Mistral 9 letters and digits."""
    made = fitted_id(given, rule)
    assert re.fullmatch(pattern, made)
    assert made == fitted_id(given, rule)
    call = {"id": given, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": given, "content": "1"},
    ]
    written, _ = ask({"messages": messages}, OPENAI, OPENAI, Accepts(call_ids=rule))
    assert written["messages"][1]["tool_calls"][0]["id"] == written["messages"][2]["tool_call_id"] == made


@pytest.mark.parametrize("text", ["_", "__", "_a_", "_61_", "_zz_", "_110000_", "_d800_"])
def test_an_id_that_only_looks_escaped_stays(text) -> None:
    """Only what escaping made is undone."""
    assert original_id(text) == text or escaped_id(original_id(text)) == text


# --- images -----------------------------------------------------------------------------------------


def image_url(value: Any) -> dict[str, Any]:
    """A request of one image."""
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": value}]}]}


@pytest.mark.parametrize(
    ("url", "media_type", "data"),
    [
        (f"data:image/jpg;base64,{JPEG}", "image/jpeg", JPEG),
        (f"data:image/png;base64,{JPEG}", "image/jpeg", JPEG),
        (f"data:application/octet-stream;base64,{PNG}", "image/png", PNG),
        (f"data:;base64,{PNG}", "image/png", PNG),
        (f"data:image/png;charset=utf-8;base64,{PNG}", "image/png", PNG),
        (f"DATA:IMAGE/PNG;BASE64,{PNG}", "image/png", PNG),
        (PNG, "image/png", PNG),
        (f"data:image/png;base64,{PNG[:8]}\r\n{PNG[8:]}", "image/png", PNG),
        (f"data:image/png;base64,{PNG.rstrip('=')}", "image/png", PNG),
        ("data:image/webp;base64,UklGR-__", "image/webp", "UklGR+//"),
    ],
)
@pytest.mark.parametrize("form", ["object", "text"])
def test_an_image_is_what_its_bytes_are(url, media_type, data, form) -> None:
    """Declared wrongly, with line breaks, without padding, as a text where an object should stand."""
    written, dropped = ask(image_url({"url": url} if form == "object" else url), OPENAI, ANTHROPIC)
    source = {"type": "base64", "media_type": media_type, "data": data}
    assert written["messages"][0]["content"] == [{"type": "image", "source": source}]
    assert dropped == ()


@pytest.mark.parametrize("url", ["ftp://x/a.png", "file:///etc/passwd", "blob:abc", "not an image", "", None, 5])
def test_an_image_that_is_none_leaves_a_note(url) -> None:
    """Clients keep broken attachments in the history for ever."""
    written, dropped = ask(image_url({"url": url}), OPENAI, ANTHROPIC)
    assert "was left out: " in written["messages"][0]["content"][0]["text"]
    assert dropped == ("messages.content.image_url",)


@pytest.mark.parametrize("images", [[f"data:image/png;base64,{PNG}"], [PNG[:8] + "\n" + PNG[8:]]])
def test_ollamas_images_are_read_leniently(images) -> None:
    """Some clients send addresses where Ollama has base64."""
    written, _ = ask({"messages": [{"role": "user", "content": "x", "images": images}]}, OLLAMA, OPENAI)
    assert written["messages"][0]["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PNG}"


def test_parts_of_other_dialects_are_read_in_chat_completions() -> None:
    """Clients send what they sent elsewhere."""
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
        IMAGE,
        "b",
    ]
    written, dropped = ask({"messages": [{"role": "user", "content": parts[:3]}]}, OPENAI, ANTHROPIC)
    assert [block["type"] for block in written["messages"][0]["content"]] == ["text", "image", "image"]
    assert dropped == ()
    written, _ = ask({"messages": [{"role": "user", "content": ["a", "b"]}]}, OPENAI, ANTHROPIC)
    assert [block["text"] for block in written["messages"][0]["content"]] == ["a", "b"]


# --- tools ------------------------------------------------------------------------------------------


@each_host
@pytest.mark.parametrize(
    "schema",
    [
        None,
        {},
        {"type": "object"},
        {"properties": {}},
        {"type": None, "properties": None},
        {"type": "object", "required": None},
    ],
)
def test_the_schema_of_a_tool_is_always_an_object_with_properties(schema, target) -> None:
    """Anthropic wants a type, OpenAI properties, llama.cpp and LM Studio both."""
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    written, _ = ask({"messages": HI, "tools": [tool]}, OPENAI, target)
    (sent,) = written["tools"]
    got = sent.get("input_schema") or sent.get("parameters") or sent["function"]["parameters"]
    assert got == {"type": "object", "properties": {}}


def test_codex_lists_tools_that_no_server_here_can_run() -> None:
    """A hosted tool that is only listed is left out by its name; the client's own tools stay."""
    tools = [
        {"type": "function", "name": "shell", "parameters": {"type": "object", "properties": {}}, "strict": False},
        {"type": "web_search", "external_web_access": False},
        {"type": "image_generation"},
        {"type": "local_shell"},
    ]
    body = {"input": "hi", "tools": tools, "tool_choice": "auto", "store": False}
    for target in (OPENAI, ANTHROPIC, OLLAMA):
        written, dropped = ask(body, RESPONSES, target)
        assert len(written["tools"]) == 1
        assert dropped == ("tools.web_search", "tools.image_generation", "tools.local_shell")


@each_host
@pytest.mark.parametrize(
    ("source", "body", "name"),
    [
        (
            ANTHROPIC,
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}], "messages": HI},
            "tools.web_search_20250305",
        ),
        (OPENAI, {"tools": [{"type": "web_search_preview"}], "messages": HI}, "tools.web_search_preview"),
        (OPENAI, {"web_search_options": {}, "messages": HI}, "web_search_options"),
        (RESPONSES, {"tools": [{"type": "mcp", "server_label": "x"}], "input": "hi"}, "tools.mcp"),
        (ANTHROPIC, {"mcp_servers": [{"type": "url", "url": "https://x"}], "messages": HI}, "mcp_servers"),
        (ANTHROPIC, {"container": {"skills": []}, "messages": HI}, "container"),
    ],
)
def test_what_runs_on_a_providers_own_servers_is_left_out_by_its_name(source, body, name, target) -> None:
    """Listed is not asked for."""
    written, dropped = ask(body, source, target)
    assert "tools" not in written
    assert dropped == (name,)


def test_the_choice_of_a_tool_that_is_left_out_is_left_out() -> None:
    """A host would refuse the name of a tool it was not told."""
    tools = [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {"type": "object"}}]
    body = {"messages": HI, "tools": tools, "tool_choice": {"type": "tool", "name": "web_search"}}
    written, dropped = ask(body, ANTHROPIC, OPENAI)
    assert "tool_choice" not in written
    assert set(dropped) == {"tools.web_search_20250305", "tool_choice"}


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
        },
    ],
)
def test_a_list_of_allowed_tools_leaves_only_those(choice) -> None:
    """Two of its forms; other dialects have no such list."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    written, _ = ask({"messages": HI, "tools": tools, "tool_choice": choice}, OPENAI, ANTHROPIC)
    assert [tool["name"] for tool in written["tools"]] == ["g"]
    assert written["tool_choice"] == {"type": "any"}


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ("any", {"type": "any"}),
        ({"type": "auto"}, {"type": "auto"}),
        ({"type": "function", "name": "f"}, {"type": "tool", "name": "f"}),
        ({"type": "tool", "name": "f"}, {"type": "tool", "name": "f"}),
        ({"function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_a_tool_in_every_form(choice, written) -> None:
    """Mistral's, Anthropic's and the Responses' forms reach chat completions too."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert ask({"messages": HI, "tools": tools, "tool_choice": choice}, OPENAI, ANTHROPIC)[0]["tool_choice"] == written


PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edit.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
}
"""Codex's tool of free text."""


def test_a_tool_of_free_text_is_a_function_of_one_text_there_and_itself_here() -> None:
    """Codex's `apply_patch` on any model: its calls and outputs go both ways."""
    sent = translate_request({"input": "hi", "tools": [PATCH]}, source=RESPONSES, target=OPENAI, model="m")
    function = json.loads(sent.body)["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert "start: x" in function["description"]
    call = {"id": "c1", "type": "function", "function": {"name": "apply_patch", "arguments": '{"input": "*** Begin"}'}}
    message = {"content": None, "tool_calls": [call]}
    body = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    answer = json.loads(
        translate_reply(
            json.dumps(body).encode(), source=OPENAI, target=RESPONSES, identity=IDENTITY, options=sent.reply_options
        )
    )
    (item,) = answer["output"]
    assert (item["type"], item["name"], item["input"]) == ("custom_tool_call", "apply_patch", "*** Begin")
    output = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    back, _ = ask({"input": [{"role": "user", "content": "hi"}, item, output]}, RESPONSES, OPENAI)
    assert back["messages"][1]["tool_calls"] == [
        {**call, "function": {**call["function"], "arguments": '{"input":"*** Begin"}'}}
    ]
    assert back["messages"][2] == {"role": "tool", "tool_call_id": "c1", "content": "done"}


def test_tools_of_a_namespace_are_functions_with_its_name() -> None:
    """Codex groups the tools of MCP servers; calls come back with the group."""
    inner = {"type": "function", "name": "search", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "namespace", "name": "mcp__docs", "description": "", "tools": [inner]}]
    sent = translate_request({"input": "hi", "tools": tools}, source=RESPONSES, target=OLLAMA, model="m")
    assert json.loads(sent.body)["tools"][0]["function"]["name"] == "mcp__docs__search"
    call = {"function": {"name": "mcp__docs__search", "arguments": {}}}
    body = json.dumps({"message": {"tool_calls": [call]}, "done": True}).encode()
    answer = json.loads(
        translate_reply(body, source=OLLAMA, target=RESPONSES, identity=IDENTITY, options=sent.reply_options)
    )
    (item,) = answer["output"]
    assert (item["type"], item["namespace"], item["name"]) == ("function_call", "mcp__docs", "search")
    back, _ = ask({"input": [item]}, RESPONSES, OLLAMA)
    assert back["messages"][0]["tool_calls"][0]["function"]["name"] == "mcp__docs__search"


# --- what both dialects have a word for ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "body", "target", "member", "value"),
    [
        (ANTHROPIC, {"metadata": {"user_id": "u1"}}, OPENAI, "user", "u1"),
        (ANTHROPIC, {"metadata": {"user_id": "u1"}}, RESPONSES, "user", "u1"),
        (OPENAI, {"user": "u1"}, ANTHROPIC, "metadata", {"user_id": "u1"}),
        (OPENAI, {"safety_identifier": "s1", "user": "u1"}, ANTHROPIC, "metadata", {"user_id": "s1"}),
        (OPENAI, {"safety_identifier": "s1"}, RESPONSES, "safety_identifier", "s1"),
        (RESPONSES, {"prompt_cache_key": "k"}, OPENAI, "prompt_cache_key", "k"),
        (OPENAI, {"prompt_cache_key": "k"}, RESPONSES, "prompt_cache_key", "k"),
        (OPENAI, {"service_tier": "auto"}, ANTHROPIC, "service_tier", "auto"),
        (OPENAI, {"service_tier": "default"}, ANTHROPIC, "service_tier", "standard_only"),
        (ANTHROPIC, {"service_tier": "standard_only"}, OPENAI, "service_tier", "default"),
        (RESPONSES, {"service_tier": "flex"}, OPENAI, "service_tier", "flex"),
        (RESPONSES, {"text": {"format": {"type": "json_object"}}}, OPENAI, "response_format", {"type": "json_object"}),
        (RESPONSES, {"text": {"format": {"type": "json_object"}}}, OLLAMA, "format", "json"),
        (OLLAMA, {"format": "json"}, RESPONSES, "text", {"format": {"type": "json_object"}}),
    ],
)
def test_what_both_dialects_have_is_mapped(source, body, target, member, value) -> None:
    """Who asks, how prompts are grouped, how fast it should be, which form the answer has."""
    said = {"input": "hi"} if source is RESPONSES else {"messages": HI}
    written, dropped = ask({**said, **body}, source, target)
    assert written[member] == value
    assert dropped == ()


@pytest.mark.parametrize(
    ("body", "target", "name"),
    [
        ({"service_tier": "flex"}, ANTHROPIC, "service_tier"),
        ({"prompt_cache_key": "k"}, ANTHROPIC, "prompt_cache_key"),
        ({"user": "u"}, OLLAMA, "user"),
        ({"metadata": {"a": "b"}}, ANTHROPIC, "metadata"),
        ({"response_format": {"type": "json_object"}}, ANTHROPIC, "response_format"),
    ],
)
def test_what_only_one_has_is_named(body, target, name) -> None:
    """The client can see it."""
    assert ask({"messages": HI, **body}, OPENAI, target)[1] == (name,)


def test_a_long_name_of_a_person_fits_openai() -> None:
    """Claude Code's has more than the 64 characters that OpenAI takes; the same person stays the same."""
    user = "user_" + "a" * 64 + "_account__session_0"
    names = [ask({"messages": HI, "metadata": {"user_id": user}}, ANTHROPIC, OPENAI)[0]["user"] for _ in range(2)]
    assert names[0] == names[1]
    assert len(names[0]) == 64


def test_marks_for_the_cache_reach_anthropic() -> None:
    """Clients that know Anthropic behind an OpenAI address send them; elsewhere they are named."""
    mark = {"type": "ephemeral"}
    part = {"type": "text", "text": "long", "cache_control": mark}
    tool = {"type": "function", "function": {"name": "f"}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    messages = [{"role": "system", "content": [part]}, {"role": "user", "content": [part]}]
    body = {"messages": messages, "tools": [tool]}
    written, dropped = ask(body, OPENAI, ANTHROPIC)
    assert written["system"] == [part]
    assert written["messages"][0]["content"] == [part]
    assert written["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert dropped == ()
    dropped = ask(body, OPENAI, OPENAI)[1]
    assert set(dropped) == {"system.cache_control", "messages.content.cache_control", "tools.cache_control"}


# --- blanks -----------------------------------------------------------------------------------------


def test_texts_and_stops_of_blanks_alone_do_not_reach_anthropic() -> None:
    """It refuses both, and a text that ends in blanks where the model is to go on."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": " "}, {"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "so \n"},
    ]
    written, dropped = ask({"messages": messages, "stop": ["\n\n", "END"]}, OPENAI, ANTHROPIC)
    assert written["messages"][0]["content"] == [{"type": "text", "text": "hi"}]
    assert written["messages"][1]["content"] == [{"type": "text", "text": "so"}]
    assert written["stop_sequences"] == ["END"]
    assert dropped == ("stop",)


def test_the_user_has_the_first_turn_at_anthropic() -> None:
    """Chat programs begin with a greeting of the assistant."""
    written, _ = ask({"messages": [{"role": "assistant", "content": "Hello!"}, *HI]}, OPENAI, ANTHROPIC)
    assert [turn["role"] for turn in written["messages"]] == ["user", "assistant", "user"]


@each_host
def test_an_empty_answer_in_the_history_is_left_out(target) -> None:
    """An interrupted turn leaves one, and Mistral and Anthropic refuse it."""
    messages = [*HI, {"role": "assistant", "content": ""}, *HI]
    written, _ = ask({"messages": messages}, OPENAI, target)
    assert "assistant" not in json.dumps(written)


# --- thoughts that go back ---------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("client", [ANTHROPIC, RESPONSES], ids=repr)
def test_a_host_gets_its_thoughts_back_as_it_gave_them(field, client) -> None:
    """DeepSeek refuses a call without the `reasoning_content` that led to it."""
    back = second_turn({field: "hm"}, client)
    assert back["messages"][1][field] == "hm"


@pytest.mark.parametrize("client", [ANTHROPIC, RESPONSES], ids=repr)
def test_signed_details_come_back_whole(client) -> None:
    """OpenRouter's hosts check what they signed."""
    details = [{"type": "reasoning.text", "text": "hm", "signature": "sig", "index": 0, "format": "x"}]
    back = second_turn({"reasoning": "hm", "reasoning_details": details}, client)
    assert back["messages"][1]["reasoning_details"] == details
    assert back["messages"][1]["reasoning"] == "hm"


@pytest.mark.parametrize("client", [ANTHROPIC, RESPONSES], ids=repr)
def test_thoughts_that_were_content_come_back_as_content(client) -> None:
    """Mistral's."""
    back = second_turn({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}, client)
    assert back["messages"][1]["content"][0] == {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


def test_openai_itself_gets_no_thoughts() -> None:
    """It refuses the member."""
    back = second_turn({"reasoning_content": "hm"}, ANTHROPIC, OPENAI_OWN)
    assert "reasoning_content" not in back["messages"][1]


def second_turn(message: dict[str, Any], client: ConversationRoute, accepts: Accepts | None = None) -> dict[str, Any]:
    """What an OpenAI host gets in the turn after it thought and called, through a client that returns what it got."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choice = {"message": {"content": None, "tool_calls": [call], **message}, "finish_reason": "tool_calls"}
    raw = json.dumps({"choices": [choice]}).encode()
    answer = json.loads(translate_reply(raw, source=OPENAI, target=client, identity=IDENTITY))
    if client is ANTHROPIC:
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": "c1", "content": "1"}
        messages = [*HI, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [result]}]
        return ask({"messages": messages}, ANTHROPIC, OPENAI, accepts)[0]
    result = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    return ask({"input": [{"role": "user", "content": "hi"}, *answer["output"], result]}, RESPONSES, OPENAI, accepts)[0]


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        (
            ANTHROPIC,
            {"content": [{"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "text", "text": "x"}]},
        ),
        (ANTHROPIC, {"content": [{"type": "redacted_thinking", "data": "enc"}, {"type": "text", "text": "x"}]}),
        (
            RESPONSES,
            {
                "output": [
                    {
                        "type": "reasoning",
                        "summary": [{"type": "summary_text", "text": "hm"}],
                        "encrypted_content": "enc",
                    },
                    {"type": "message", "content": [{"type": "output_text", "text": "x"}]},
                ]
            },
        ),
    ],
)
def test_signed_and_encrypted_thoughts_go_through_an_openai_client(host, answer) -> None:
    """In `reasoning_details`, which clients of OpenRouter send back."""
    raw = json.dumps(answer).encode()
    message = json.loads(translate_reply(raw, source=host, target=OPENAI, identity=IDENTITY))["choices"][0]["message"]
    back, dropped = ask({"messages": [*HI, message, *HI]}, OPENAI, host)
    assert dropped == ()
    if host is ANTHROPIC:
        assert back["messages"][1]["content"] == answer["content"]
    else:
        assert back["input"][1] == answer["output"][0]


def test_geminis_proof_of_a_call_goes_through_an_openai_client() -> None:
    """Gemini 3 refuses a call that comes back without its `thought_signature`."""
    extra = {"google": {"thought_signature": "sig"}}
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    body = {"choices": [{"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    raw = json.dumps(body).encode()
    message = json.loads(translate_reply(raw, source=OPENAI, target=OPENAI, identity=IDENTITY))["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    back, _ = ask({"messages": [*HI, message, result]}, OPENAI, OPENAI)
    assert back["messages"][1]["tool_calls"][0]["extra_content"] == extra


# --- more of each kind -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "image", "data": PNG, "mimeType": "image/png"}, None),
        ({"type": "resource", "resource": {"uri": "file:///a", "text": "inside"}}, "inside"),
        (
            {
                "type": "search_result",
                "title": "T",
                "source": "https://x",
                "content": [{"type": "text", "text": "inside"}],
            },
            "inside",
        ),
    ],
)
def test_results_of_mcp_servers_are_read(block, text) -> None:
    """Clients hand them on as they came."""
    written, _ = ask(read_with_claude_code(block), ANTHROPIC, OPENAI)
    assert (text or PNG) in json.dumps(written)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"temperature": 21}, '{"temperature":21}'),
        ({"type": "text", "text": "21"}, "21"),
        (["21"], "21"),
        (None, ""),
        ([], ""),
    ],
)
def test_the_content_of_a_result_in_any_form_is_read(content, text) -> None:
    """An object, a part without its list, a list of texts."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HI,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": content},
    ]
    written, _ = ask({"messages": messages}, OPENAI, OLLAMA)
    assert written["messages"][2]["content"] == text


def test_kimis_ids_are_left_alone_whatever_their_length() -> None:
    """Where nothing else is known of the host; OpenAI itself gets one it takes."""
    given = "functions.mcp__some_server__some_tool_with_a_long_name:12"
    call = {"id": given, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    body = {
        "messages": [
            *HI,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": given, "content": ""},
        ]
    }
    assert ask(body, OPENAI, OPENAI)[0]["messages"][1]["tool_calls"][0]["id"] == given
    assert len(ask(body, OPENAI, OPENAI, OPENAI_OWN)[0]["messages"][1]["tool_calls"][0]["id"]) <= 40


def test_schemas_are_completed_inside_too() -> None:
    """OpenAI refuses a list without `items`; PHP writes an empty object as an empty list."""
    schema = {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "object", "properties": []}}}
    written, _ = ask({"messages": HI, "tools": [{"name": "f", "input_schema": schema}]}, ANTHROPIC, OPENAI)
    inside = written["tools"][0]["function"]["parameters"]["properties"]
    assert inside == {"a": {"type": "array", "items": {}}, "b": {"type": "object", "properties": {}}}


@pytest.mark.parametrize(
    ("switch", "think"),
    [
        ({"thinking": {"type": "enabled"}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"enable_thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
        ({"reasoning": {"effort": "high"}}, "high"),
        ({"think": True}, True),
    ],
)
def test_the_switches_for_thinking_of_look_alikes(switch, think) -> None:
    """DeepSeek's, Z.AI's, Qwen's, vLLM's, OpenRouter's and Ollama's."""
    written, dropped = ask({"messages": HI, **switch}, OPENAI, OLLAMA)
    assert (written["think"], dropped) == (think, ())


def test_blanks_alone_are_said_to_be_blanks() -> None:
    """A turn that Anthropic would refuse is still a turn."""
    written, _ = ask(
        {"messages": [*HI, {"role": "assistant", "content": "a"}, {"role": "user", "content": " "}]}, OPENAI, ANTHROPIC
    )
    assert written["messages"][-1] == {"role": "user", "content": [{"type": "text", "text": "(blank)"}]}
