"""What a client asks, in a host's words: the cases that the laws cannot show."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_router_core.api.endpoints import Family
from ollama_router_core.errors import RequestError
from ollama_router_core.translate import (
    HostTraits,
    Route,
    UntranslatableRequest,
    codec_of,
    translate_request,
)
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_EMBED, OLLAMA_EMBEDDINGS, OLLAMA_GENERATE
from ollama_router_core.translate.openai.codec import OPENAI_CHAT, OPENAI_COMPLETIONS, OPENAI_EMBEDDINGS
from support.conversations import JPEG, PNG

OLLAMA, GENERATE = OLLAMA_CHAT, OLLAMA_GENERATE
OPENAI, COMPLETIONS = OPENAI_CHAT, OPENAI_COMPLETIONS
ANTHROPIC = ANTHROPIC_MESSAGES
HI = [{"role": "user", "content": "hi"}]


def ask(
    body: dict[str, Any], source: Route, target: Route, traits: HostTraits | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The translated body and what was dropped."""
    sent = translate_request(body, source=source, target=target, model="m", traits=traits or HostTraits())
    return json.loads(sent.body), sent.dropped


def refusal(body: dict[str, Any], source: Route, target: Route) -> str:
    """The text with which a request is refused."""
    with pytest.raises(UntranslatableRequest) as caught:
        ask(body, source, target)
    return str(caught.value)


# --- which dialect --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "family", "target"),
    [
        (OLLAMA, Family.OPENAI, OPENAI),
        (GENERATE, Family.OPENAI, OPENAI),
        (GENERATE, Family.ANTHROPIC, ANTHROPIC),
        (OPENAI, Family.ANTHROPIC, ANTHROPIC),
        (ANTHROPIC, Family.OLLAMA, OLLAMA),
        (COMPLETIONS, Family.OLLAMA, GENERATE),
        (COMPLETIONS, Family.OPENAI, COMPLETIONS),
        (OLLAMA_EMBEDDINGS, Family.OPENAI, OPENAI_EMBEDDINGS),
        (OPENAI_EMBEDDINGS, Family.OLLAMA, OLLAMA_EMBED),
    ],
)
def test_a_host_is_asked_in_the_dialect_of_its_family(source, family, target) -> None:
    """The table from what a client speaks to what a host is asked in."""
    assert codec_of(family).route_for(source) is target


def test_anthropic_has_no_embeddings() -> None:
    """There is no route to ask, so the client is told so."""
    with pytest.raises(UntranslatableRequest, match="no embeddings"):
        codec_of(Family.ANTHROPIC).route_for(OLLAMA_EMBED)


def test_refusals_are_request_errors_with_a_stable_code() -> None:
    """Who handles the product's errors handles these."""
    assert issubclass(UntranslatableRequest, RequestError)
    assert (UntranslatableRequest.code, UntranslatableRequest.status_hint) == ("untranslatable", 400)


# --- Ollama clients -------------------------------------------------------------------------------


def test_a_generate_request_becomes_a_conversation() -> None:
    """System prompt, images and prompt stand where a chat has them."""
    body = {"model": "gpt-4", "prompt": "what is it?", "system": "be brief", "images": [PNG]}
    written, _ = ask(body, GENERATE, OPENAI)
    assert written["messages"] == [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "text", "text": "what is it?"},
            ],
        },
    ]


def test_ollama_streams_unless_told_otherwise_and_the_host_is_told() -> None:
    """The default of `stream` differs between the dialects; usage is asked for, Ollama clients always get it."""
    written, _ = ask({"model": "x", "messages": HI}, OLLAMA, OPENAI)
    assert written["stream"] is True
    assert written["stream_options"] == {"include_usage": True}
    written, _ = ask({"model": "x", "messages": HI, "stream": False}, OLLAMA, OPENAI)
    assert written["stream"] is False
    assert "stream_options" not in written


def test_calls_without_ids_get_them_by_their_place() -> None:
    """Older Ollama clients send no ids: results belong to the calls of their tool, else to the first open one."""
    call = {"function": {"name": "add", "arguments": {"a": 1}}}
    other = {"function": {"name": "sub", "arguments": {}}}
    messages = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call, other, call]},
        {"role": "tool", "tool_name": "sub", "content": "2"},
        {"role": "tool", "name": "add", "content": "1"},
        {"role": "tool", "content": "3"},
    ]
    written, _ = ask({"model": "x", "messages": messages}, OLLAMA, OPENAI)
    made = written["messages"][1]["tool_calls"]
    assert [entry["id"] for entry in made] == ["call_1_0", "call_1_1", "call_1_2"]
    assert made[0]["function"] == {"name": "add", "arguments": '{"a":1}'}
    results = {entry["tool_call_id"]: entry["content"] for entry in written["messages"][2:]}
    assert results == {"call_1_0": "1", "call_1_1": "2", "call_1_2": "3"}
    assert written["messages"][1]["content"] is None


def test_options_of_the_machine_are_dropped_and_listed() -> None:
    """How a model is loaded means nothing elsewhere; the client can see what was left behind."""
    options = {"temperature": 0.3, "num_ctx": 4096, "num_gpu": 1, "top_k": 5, "num_predict": -1, "stop": ["a"]}
    body = {"model": "x", "messages": HI, "options": options, "keep_alive": "5m", "truncate": True}
    written, dropped = ask(body, OLLAMA, OPENAI)
    assert (written["temperature"], written["stop"]) == (0.3, ["a"])
    assert "max_tokens" not in written
    assert set(dropped) == {"keep_alive", "truncate", "options.num_ctx", "options.num_gpu", "top_k"}


def test_a_look_alike_gets_the_options_it_knows() -> None:
    """What OpenAI refuses, vLLM and llama.cpp take."""
    options = {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1, "num_predict": 7}
    written, dropped = ask({"messages": HI, "options": options}, OLLAMA, OPENAI, HostTraits(extensions=True))
    assert {key: written[key] for key in ("top_k", "min_p", "repeat_penalty", "max_tokens")} == {
        "top_k": 5,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "max_tokens": 7,
    }
    assert dropped == ()


def test_openai_itself_wants_the_newer_name_of_the_limit() -> None:
    """Its reasoning models refuse `max_tokens`."""
    written, _ = ask(
        {"messages": HI, "options": {"num_predict": 7}},
        OLLAMA,
        OPENAI,
        HostTraits(max_tokens_key="max_completion_tokens"),
    )
    assert written["max_completion_tokens"] == 7
    assert "max_tokens" not in written


@pytest.mark.parametrize(("field", "value"), [("raw", True), ("template", "{{ .Prompt }}"), ("context", [1, 2, 3])])
def test_what_only_an_ollama_server_knows_is_refused(field, value) -> None:
    """A template, a raw prompt or the tokens of an earlier answer would be lost in silence."""
    assert field in refusal({"model": "x", "prompt": "p", field: value}, GENERATE, OPENAI)


def test_a_gap_to_fill_needs_the_completions_route() -> None:
    """A chat has no suffix, the older completions have."""
    body = {"model": "x", "prompt": "def f(", "suffix": "return 1", "stream": False}
    assert "suffix" in refusal(body, GENERATE, OPENAI)
    written, _ = ask(body, GENERATE, COMPLETIONS)
    assert written == {"model": "m", "prompt": "def f(", "suffix": "return 1", "stream": False}


def test_nothing_to_answer_is_refused() -> None:
    """A request that only loads a model has nothing to say to a host; `answer_locally` answers it."""
    for target in (OPENAI, ANTHROPIC):
        assert "nothing to answer" in refusal({"model": "x", "messages": []}, OLLAMA, target)


# --- OpenAI clients -------------------------------------------------------------------------------


def test_a_remote_image_reaches_anthropic_and_not_ollama() -> None:
    """Ollama fetches nothing."""
    part = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png", "detail": "low"}}
    body = {"model": "x", "messages": [{"role": "user", "content": [part]}]}
    written, dropped = ask(body, OPENAI, ANTHROPIC)
    source = {"type": "url", "url": "https://example.org/cat.png"}
    assert written["messages"] == [{"role": "user", "content": [{"type": "image", "source": source}]}]
    assert dropped == ("messages.content.image_url.detail",)
    written, dropped = ask(body, OPENAI, OLLAMA)
    assert "an image at https://example.org/cat.png was left out" in written["messages"][0]["content"]
    assert "messages.content.image_url" in dropped


def test_a_conversation_with_tools_reaches_anthropic() -> None:
    """Results stand together in the user's turn after the calls, with what the user says next."""
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": '{"x": 1}'}} for name in ("a", "b.1")
    ]
    messages = [
        {"role": "developer", "content": "be brief"},
        *HI,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b.1", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "go on"},
    ]
    written, _ = ask({"model": "x", "messages": messages}, OPENAI, ANTHROPIC)
    assert written["system"] == "be brief"
    assert [turn["role"] for turn in written["messages"]] == ["user", "assistant", "user"]
    made = [block["id"] for block in written["messages"][1]["content"]]
    results = [block.get("tool_use_id") for block in written["messages"][2]["content"]]
    assert results == [*made, None]
    assert made == ["a", "_b_2e_1"], "Anthropic's alphabet for ids has no dot"
    assert written["messages"][1]["content"][0]["input"] == {"x": 1}
    assert written["messages"][2]["content"][2] == {"type": "text", "text": "go on"}


def test_anthropic_always_gets_a_limit() -> None:
    """It demands one; the client's own comes first."""
    assert ask({"messages": HI}, OPENAI, ANTHROPIC)[0]["max_tokens"] == 4096
    assert ask({"messages": HI, "max_tokens": 9}, OPENAI, ANTHROPIC)[0]["max_tokens"] == 9
    traits = HostTraits(default_max_tokens=100)
    assert ask({"messages": HI}, OPENAI, ANTHROPIC, traits)[0]["max_tokens"] == 100


def test_a_temperature_beyond_anthropics_scale_is_left_at_its_end() -> None:
    """1 is the end of the scale and the default, so leaving it out is nearest; the client is told."""
    written, dropped = ask({"messages": HI, "temperature": 1.5}, OPENAI, ANTHROPIC)
    assert "temperature" not in written
    assert dropped == ("temperature",)


def test_a_schema_is_carried_and_json_without_one_is_asked_for() -> None:
    """Anthropic has structured output by schema; without one the model is told so in words."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    written, _ = ask({"messages": HI, "response_format": wanted}, OPENAI, ANTHROPIC)
    assert written["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert ask({"messages": HI, "response_format": wanted}, OPENAI, OLLAMA)[0]["format"] == schema
    with pytest.raises(UntranslatableRequest, match="does not enforce"):
        ask({"messages": HI, "response_format": wanted}, OPENAI, ANTHROPIC, HostTraits(schemas=False))
    free = {"type": "json_object"}
    assert ask({"messages": HI, "response_format": free}, OPENAI, OLLAMA)[0]["format"] == "json"
    written, dropped = ask({"messages": HI, "response_format": free}, OPENAI, ANTHROPIC)
    assert "JSON object" in written["system"]
    assert dropped == ("response_format",)


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_a_tool_reaches_anthropic_and_comes_back(choice, written) -> None:
    """Both dialects can say the same four things."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"messages": HI, "tools": tools, "tool_choice": choice}
    there, _ = ask(body, OPENAI, ANTHROPIC)
    assert there["tool_choice"] == written
    assert ask(there, ANTHROPIC, OPENAI)[0]["tool_choice"] == choice


def test_ollama_cannot_be_made_to_call_a_tool() -> None:
    """No tools are shown when none may be called, and of a forced call only its tool."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
    body = {"messages": HI, "tools": tools}
    assert "tools" not in ask({**body, "tool_choice": "none"}, OPENAI, OLLAMA)[0]
    written, dropped = ask({**body, "tool_choice": "required"}, OPENAI, OLLAMA)
    assert (len(written["tools"]), dropped) == (2, ("tool_choice",))
    written, dropped = ask({**body, "tool_choice": {"type": "function", "function": {"name": "g"}}}, OPENAI, OLLAMA)
    assert [tool["function"]["name"] for tool in written["tools"]] == ["g"]
    assert dropped == ("tool_choice",)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("functions", [{"name": "f"}]),
        ("modalities", ["text", "audio"]),
        ("messages", [{"role": "function", "name": "f", "content": "x"}]),
    ],
)
def test_what_only_openai_knows_is_refused(field, value) -> None:
    """Each would change the answer if it were left out."""
    assert field in refusal({"messages": HI, field: value}, OPENAI, ANTHROPIC)


def test_what_changes_nothing_is_dropped_and_listed() -> None:
    """Labels, tiers and log probabilities do not change what is said."""
    body = {"messages": [{**HI[0], "name": "ann"}], "store": True, "logprobs": True, "seed": 1, "n": 1}
    _, dropped = ask(body, OPENAI, ANTHROPIC)
    assert set(dropped) == {"messages.name", "store", "logprobs", "seed"}


def test_names_of_dropped_keys_are_fit_for_a_header() -> None:
    """A key is a client's own text: line breaks and other alphabets must not reach a header."""
    body = {"messages": HI, "a\r\nSet-Cookie: x": 1, "\u00fc": 1, **{f"k{number}": 1 for number in range(100)}}
    _, dropped = ask(body, OPENAI, ANTHROPIC)
    assert dropped[0] == "?"
    assert len(dropped) == 32


def test_several_prompts_are_refused() -> None:
    """One request has one answer."""
    assert "one prompt" in refusal({"prompt": ["a", "b"]}, COMPLETIONS, GENERATE)


# --- Anthropic clients ----------------------------------------------------------------------------


def test_blocks_of_anthropic_become_messages() -> None:
    """Results that stand in a user's turn are messages of their own, before what the user says."""
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "is_error": True,
        "content": [{"type": "text", "text": "boom"}],
    }
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}}]},
        {"role": "user", "content": [result, {"type": "text", "text": "b"}]},
    ]
    body = {"system": "s", "max_tokens": 5, "messages": messages}
    written, dropped = ask(body, ANTHROPIC, OLLAMA)
    call = {"id": "t1", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}}
    assert written["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "boom", "tool_name": "f", "tool_call_id": "t1"},
        {"role": "user", "content": "b"},
    ]
    assert written["options"] == {"num_predict": 5}
    assert set(dropped) == {"messages.content.cache_control", "messages.content.is_error"}


# --- thinking -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("think", "effort", "budget"),
    [(True, "medium", 4096), ("low", "low", 1024), ("high", "high", 16384), ("max", "xhigh", 32768)],
)
def test_how_much_to_think_is_carried_over(think, effort, budget) -> None:
    """Ollama's levels are OpenAI's efforts and Anthropic's budgets, and the room for the answer is kept beside it."""
    assert ask({"messages": HI, "think": think}, OLLAMA, OPENAI)[0]["reasoning_effort"] == effort
    written, _ = ask({"messages": HI, "think": think}, OLLAMA, ANTHROPIC)
    assert written["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert written["max_tokens"] == 4096 + budget
    back, _ = ask(written, ANTHROPIC, OLLAMA)
    assert back["think"] == ("medium" if think is True else think)


def test_not_to_think_is_said_where_it_can_be() -> None:
    """OpenAI's models that cannot think refuse the option, so there it is dropped."""
    assert ask({"messages": HI, "think": False}, OLLAMA, ANTHROPIC)[0]["thinking"] == {"type": "disabled"}
    written, dropped = ask({"messages": HI, "think": False}, OLLAMA, OPENAI)
    assert "reasoning_effort" not in written
    assert dropped == ("think",)
    assert ask({"messages": HI, "reasoning_effort": "none"}, OPENAI, OLLAMA)[0]["think"] is False


def test_what_anthropic_forbids_beside_thinking_is_dropped() -> None:
    """Temperature and top_k must be left alone, and the budget needs room below the limit."""
    options = {"temperature": 0.5, "top_k": 3}
    written, dropped = ask({"messages": HI, "think": True, "options": options}, OLLAMA, ANTHROPIC)
    assert not {"temperature", "top_k"} & set(written)
    assert set(dropped) == {"temperature", "top_k"}
    written, dropped = ask({"messages": HI, "think": True, "options": {"num_predict": 1024}}, OLLAMA, ANTHROPIC)
    assert "thinking" not in written
    assert dropped == ("think",)


def test_a_turn_goes_on_without_thinking_when_its_thoughts_are_not_signed() -> None:
    """Anthropic wants the signed thoughts before a tool call it continues; other clients do not keep them."""
    messages = [
        *HI,
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "tool", "content": "1"},
    ]
    written, dropped = ask({"messages": messages, "think": True}, OLLAMA, ANTHROPIC)
    assert "thinking" not in written
    assert set(dropped) == {"messages.thinking", "think"}


def test_earlier_thoughts_reach_look_alikes_of_openai_alone() -> None:
    """OpenAI has no place for them."""
    messages = [*HI, {"role": "assistant", "content": "a", "thinking": "hm"}, *HI]
    written, dropped = ask({"messages": messages}, OLLAMA, OPENAI)
    assert dropped == ("messages.thinking",)
    written, dropped = ask({"messages": messages}, OLLAMA, OPENAI, HostTraits(extensions=True))
    assert written["messages"][1]["reasoning_content"] == "hm"
    assert dropped == ()


# --- numbers and texts ----------------------------------------------------------------------------


def test_lone_surrogates_and_long_integers_arrive_as_they_were() -> None:
    """Go and JavaScript clients can send both."""
    body = b'{"messages":[{"role":"user","content":"a\\ud800"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"maximum":123456789012345678901234567890}}}]}'  # noqa: E501
    sent = translate_request(body, source=OLLAMA, target=OPENAI, model="m")
    assert b'"a\\ud800"' in sent.body
    assert b"123456789012345678901234567890" in sent.body


@pytest.mark.parametrize("number", ["1e400", "NaN", "-Infinity", "1" * 5000])
def test_a_number_out_of_range_is_refused(number) -> None:
    """It would arrive as null or as something else."""
    body = f'{{"messages":[{{"role":"user","content":"x"}}],"format":{{"maximum":{number}}}}}'.encode()
    with pytest.raises(UntranslatableRequest):
        translate_request(body, source=OLLAMA, target=OPENAI, model="m")


def test_deep_nesting_is_refused() -> None:
    """A thousand brackets must not exhaust the stack, in bytes or as values."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(UntranslatableRequest):
        translate_request({"messages": HI, "format": {"a": deep}}, source=OLLAMA, target=OPENAI, model="m")
    with pytest.raises(UntranslatableRequest):
        translate_request(b'{"a":' + b"[" * 5000, source=OLLAMA, target=OPENAI, model="m")


# --- wrong types ----------------------------------------------------------------------------------

EMBED = OPENAI_EMBEDDINGS


@pytest.mark.parametrize(
    ("source", "body", "place"),
    [
        (OLLAMA, {"messages": {}}, "messages must be a list"),
        (OLLAMA, {"messages": ["x"]}, "messages[0] must be an object"),
        (OLLAMA, {"messages": [{"content": "x"}]}, "messages[0].role is missing"),
        (OLLAMA, {"messages": HI, "stream": "yes"}, "stream must be true or false"),
        (OLLAMA, {"messages": HI, "options": {"temperature": "hot"}}, "options.temperature must be a number"),
        (OLLAMA, {"messages": HI, "options": {"temperature": True}}, "options.temperature must be a number"),
        (OLLAMA, {"messages": HI, "options": {"seed": 1.5}}, "options.seed must be a whole number"),
        (OLLAMA, {"messages": HI, "options": {"stop": [1]}}, "options.stop must be a string or a list of strings"),
        (OLLAMA, {"messages": HI, "format": "yaml"}, "format must be"),
        (OLLAMA, {"messages": HI, "think": "hard"}, "think must be"),
        (
            OLLAMA,
            {"messages": HI, "tools": [{"function": {"name": "f", "parameters": 1}}]},
            "parameters must be an obj",
        ),
        (
            OLLAMA,
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}]},
            "messages[0].tool_calls[0].function.arguments must be an object",
        ),
        (OPENAI, {"messages": [{"role": "narrator"}]}, "messages[0].role must be"),
        (OPENAI, {"messages": HI, "response_format": {"type": "grammar"}}, "response_format.type must be"),
        (OPENAI, {"messages": HI, "reasoning_effort": "huge"}, "reasoning_effort must be"),
        (ANTHROPIC, {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role must be"),
        (
            ANTHROPIC,
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "a"}]}]},
            "messages[0].role must be user",
        ),
        (ANTHROPIC, {"messages": HI, "tool_choice": {"type": "some"}}, "tool_choice.type must be"),
        (ANTHROPIC, {"messages": HI, "thinking": {"type": "deep"}}, "thinking.type must be"),
        (ANTHROPIC, {"messages": HI, "output_config": {"effort": "huge"}}, "output_config.effort must be"),
        (
            ANTHROPIC,
            {"messages": HI, "output_config": {"format": {"type": "xml"}}},
            "output_config.format.type must be",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_its_place(source, body, place) -> None:
    """The client can find it."""
    target = OPENAI if source is not OPENAI else ANTHROPIC
    assert place in refusal(body, source, target)


@pytest.mark.parametrize(
    ("body", "target", "text"),
    [
        ({"messages": [*HI, *HI]}, GENERATE, "one prompt"),
        ({"messages": [*HI, *HI]}, COMPLETIONS, "one prompt"),
        ({"messages": HI, "tools": [{"function": {"name": "f"}}]}, COMPLETIONS, "neither tools"),
        ({"messages": [{"role": "user", "content": ""}]}, ANTHROPIC, "every message is empty"),
    ],
)
def test_what_a_route_cannot_hold_is_refused(body, target, text) -> None:
    """One prompt is not a conversation, and nothing is not a turn."""
    assert text in refusal(body, OLLAMA, target)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"path": "a.txt", "text": "half', {"path": "a.txt", "text": "half"}),
        ('{"path": "a.txt", "text": "half\\', {"path": "a.txt", "text": "half"}),
        ('{"path": "a.txt", "li', {"path": "a.txt"}),
        ('{"lines": [1, 2, ', {"lines": [1, 2]}),
        ('{"a": 1}{"a": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ("{'a': 1}", {"raw_arguments": "{'a': 1}"}),
        ("ls -l", {"raw_arguments": "ls -l"}),
        ("[1]", {"raw_arguments": "[1]"}),
        ("", {}),
    ],
)
@pytest.mark.parametrize("target", [ANTHROPIC, OLLAMA])
def test_arguments_of_an_earlier_call_are_passed_on_however_broken(written, read, target) -> None:
    """A history with half a call must not be refused for ever; an object is made of what is there."""
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": written}}]
    body = {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": calls}]}
    turn = ask(body, OPENAI, target)[0]["messages"][1]
    got = turn["content"][0]["input"] if target is ANTHROPIC else turn["tool_calls"][0]["function"]["arguments"]
    assert got == read


def test_images_in_base64_pass_between_openai_and_anthropic() -> None:
    """A data URL is a source in base64; without a type in it the type is told by the first bytes."""
    url = {"type": "image_url", "image_url": {"url": f"data:;base64,{JPEG}"}}
    there, _ = ask({"messages": [{"role": "user", "content": [url]}]}, OPENAI, ANTHROPIC)
    source = {"type": "base64", "media_type": "image/jpeg", "data": JPEG}
    assert there["messages"][0]["content"] == [{"type": "image", "source": source}]
    back, _ = ask(there, ANTHROPIC, OPENAI)
    assert back["messages"][0]["content"][0]["image_url"]["url"] == f"data:image/jpeg;base64,{JPEG}"


def test_one_call_at_a_time_is_a_wish_of_both() -> None:
    """Ollama has no such wish, so there it is dropped."""
    tools = [{"type": "function", "function": {"name": "f", "strict": True}}]
    body = {"messages": HI, "tools": tools, "parallel_tool_calls": False}
    there, _ = ask(body, OPENAI, ANTHROPIC)
    assert there["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert there["tools"][0]["strict"] is True
    assert ask(there, ANTHROPIC, OPENAI)[0]["parallel_tool_calls"] is False
    assert set(ask(body, OPENAI, OLLAMA)[1]) == {"parallel_tool_calls", "tools.strict"}


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "xhigh"),
        ({"thinking": {"type": "adaptive"}}, "medium"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9000}}, "high"),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "low"}}, None),
    ],
)
def test_anthropics_ways_to_ask_for_thinking(asked, effort) -> None:
    """A budget, or its own judgement with an effort; the effort alone asks for no thoughts."""
    assert ask({"messages": HI, **asked}, ANTHROPIC, OPENAI)[0].get("reasoning_effort") == effort


def test_signed_thoughts_let_a_turn_go_on_thinking() -> None:
    """Anthropic's own history keeps its signatures; anybody else's loses the thoughts that cannot be read."""
    thoughts = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    ]
    result = [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]
    messages = [{"role": "assistant", "content": thoughts}, {"role": "user", "content": result}]
    body = {"messages": [*HI, *messages], "thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000}
    written, dropped = ask(body, ANTHROPIC, OLLAMA)
    assert written["messages"][1]["thinking"] == "hm"
    assert dropped == ("messages.thinking",)
    assert ask(body, ANTHROPIC, OPENAI)[1] == ("messages.thinking",)


def test_a_forced_call_and_thinking_do_not_go_together() -> None:
    """Anthropic refuses both at once; the call was asked for by name, so it stays."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"messages": HI, "tools": tools, "tool_choice": "required", "reasoning_effort": "high"}
    written, dropped = ask(body, OPENAI, ANTHROPIC)
    assert written["tool_choice"] == {"type": "any"}
    assert "thinking" not in written
    assert dropped == ("think",)
