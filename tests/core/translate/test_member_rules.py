"""What is done to the members of a request in the host's dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.strict_json import parse_object
from ollama_router_core.translate.json_reader import Dropped
from ollama_router_core.translate.member_rules import MemberRule
from ollama_router_core.translate.message_rules import MessageRules
from ollama_router_core.translate.request_rules import ruled_changes, rules_of, with_rules


def _ruled(body: dict[str, Any], *rules: MemberRule, messages: MessageRules | None = None) -> tuple[Any, str]:
    """The body after the rules, which is the same on both ways to a host, and what is said of it."""
    wanted = rules_of(rules, messages or MessageRules())
    dropped = Dropped()
    written = with_rules(body, wanted, dropped)
    document = parse_object(json.dumps(body).encode())
    changes, said = ruled_changes(document, wanted)
    assert json.loads(document.replace(changes)) == written
    assert said == dropped.names()
    assert wanted.concern(body.keys()) or not changes
    return written, ", ".join(said)


@pytest.mark.parametrize(
    ("rule", "body", "after", "said"),
    [
        (MemberRule(drop=("a",)), {"a": 1, "b": 2}, {"b": 2}, "a"),
        (MemberRule(drop=("a",)), {"b": 2}, {"b": 2}, ""),
        (MemberRule(drop=("a.x",)), {"a": {"x": 1, "y": 2}}, {"a": {"y": 2}}, "a.x"),
        (MemberRule(drop=("a.x",)), {"a": {"x": 1}}, {}, "a.x"),
        (MemberRule(drop=("a.x",)), {"a": "text"}, {"a": "text"}, ""),
        (MemberRule(rename=(("a", "b"),)), {"a": 1}, {"b": 1}, "a->b"),
        (MemberRule(rename=(("a", "b"),)), {"a": 1, "b": 2}, {"b": 2}, "a"),
        (MemberRule(replace=(("a", {"x": "y"}),)), {"a": "x"}, {"a": "y"}, "a=y"),
        (MemberRule(replace=(("a", {"x": None}),)), {"a": "x"}, {}, "a"),
        (MemberRule(replace=(("a", {"true": False}),)), {"a": True}, {"a": False}, "a=false"),
        (MemberRule(replace=(("a", {"x": "y"}),)), {"a": "z"}, {"a": "z"}, ""),
        (MemberRule(clamp=(("a", (1, 2)),)), {"a": 3}, {"a": 2}, "a=2"),
        (MemberRule(clamp=(("a", (0.5, None)),)), {"a": 0.25}, {"a": 0.5}, "a=0.5"),
        (MemberRule(clamp=(("a", (1, 2)),)), {"a": True}, {"a": True}, ""),
        (MemberRule(set=(("a", {"x": 1}),)), {}, {"a": {"x": 1}}, "a"),
        (MemberRule(set=(("a.x", 1),)), {"a": {"y": 2}}, {"a": {"y": 2, "x": 1}}, "a.x=1"),
        (MemberRule(set=(("a", 1),)), {"a": 1}, {"a": 1}, ""),
        (MemberRule(default=(("a", 1),)), {"a": 2}, {"a": 2}, ""),
        (MemberRule(default=(("a", 1),)), {}, {"a": 1}, "a=1"),
        (MemberRule(when=(("b", True),), drop=("a",)), {"a": 1}, {"a": 1}, ""),
        (MemberRule(when=(("b", True),), drop=("a",)), {"a": 1, "b": []}, {"a": 1, "b": []}, ""),
        (MemberRule(when=(("b", False),), drop=("a",)), {"a": 1}, {}, "a"),
        (MemberRule(when=(("b.x", ("y", "z")),), drop=("a",)), {"a": 1, "b": {"x": "z"}}, {"b": {"x": "z"}}, "a"),
        (MemberRule(when=(("b", (False, None)),), drop=("a",)), {"a": 1}, {}, "a"),
    ],
)
def test_a_rule(rule: MemberRule, body: dict[str, Any], after: dict[str, Any], said: str) -> None:
    """It changes what it names, and what it changed is said."""
    assert _ruled(body, rule) == (after, said)


def test_rules_see_what_those_before_them_did() -> None:
    """They are applied one after the other."""
    first, second = MemberRule(drop=("top_p",)), MemberRule(when=(("top_p", True),), drop=("temperature",))
    assert _ruled({"top_p": 1, "temperature": 1}, first, second)[0] == {"temperature": 1}


@given(
    st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers() | st.text(max_size=3), max_size=4).map(
        lambda body: {key: value for key, value in body.items() if value is not None}
    ),
    st.lists(st.sampled_from("abcd"), max_size=3),
)
def test_both_ways_agree(body: dict[str, Any], names: list[str]) -> None:
    """A body that was written for the host and a client's own text end as the same request."""
    written, _ = _ruled(body, MemberRule(drop=tuple(names)), MemberRule(default=(("d", 1),)))
    assert not set(names) & written.keys() - {"d"}


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("rules", "messages", "after", "said"),
    [
        (MessageRules(prefill=False), [USER, {"role": "assistant", "content": "I"}],
         [USER, {"role": "assistant", "content": "I"},
          {"role": "user", "content": "(go on from where your last message ends)"}], "messages.prefill"),
        (MessageRules(prefill=False), [USER], [USER], ""),
        (MessageRules(later_system=False), [{"role": "system", "content": "a"}, USER],
         [{"role": "system", "content": "a"}, USER], ""),
        (MessageRules(later_system=False), [USER, {"role": "developer", "content": "b"}],
         [USER, {"role": "user", "content": "<system>\nb\n</system>"}], "messages.role=user"),
        (MessageRules(later_system=False),
         [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, USER],
         [{"role": "system", "content": "a\n\nb"}, USER], ""),
        (MessageRules(later_system=False),
         [{"role": "system", "content": "a"}, {"role": "system", "content": [{"type": "text", "text": "b"}]}, USER],
         [{"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, USER], ""),
        (MessageRules(developer=False), [{"role": "developer", "content": "a"}, USER],
         [{"role": "system", "content": "a"}, USER], "messages.role=system"),
        (MessageRules(developer=False, later_system=False), [USER, {"role": "developer", "content": "a"}],
         [USER, {"role": "user", "content": "<system>\na\n</system>"}], "messages.role=system, messages.role=user"),
        (MessageRules(call_thoughts=True), [{"role": "assistant", "tool_calls": [{"id": "1"}]}],
         [{"role": "assistant", "tool_calls": [{"id": "1"}], "reasoning_content": ""}], ""),
        (MessageRules(call_thoughts=True),
         [{"role": "assistant", "tool_calls": [{"id": "1"}], "reasoning_content": "hm"}],
         [{"role": "assistant", "tool_calls": [{"id": "1"}], "reasoning_content": "hm"}], ""),
        (MessageRules(call_proof="skip"), [{"role": "assistant", "tool_calls": [{"id": "1"}, {"id": "2"}]}],
         [{"role": "assistant", "tool_calls": [
             {"id": "1", "extra_content": {"google": {"thought_signature": "skip"}}}, {"id": "2"}]}], ""),
        (MessageRules(call_proof="skip"), [
            {"role": "assistant", "tool_calls": [{"extra_content": {"google": {"thought_signature": "own"}}}]}],
         [{"role": "assistant", "tool_calls": [{"extra_content": {"google": {"thought_signature": "own"}}}]}], ""),
        (MessageRules(refused=("name",)), [{**USER, "name": "bob"}], [USER], "messages.name"),
    ],
)  # fmt: skip
def test_messages(rules: MessageRules, messages: list[Any], after: list[Any], said: str) -> None:
    """They are as the host takes them."""
    assert _ruled({"messages": messages}, messages=rules) == ({"messages": after}, said)


def test_messages_without_a_change_keep_their_text() -> None:
    """Escapes and numbers are the client's own."""
    text = b'{"messages":[{"role":"user","content":"\\u00e9","n":1.0e2},{"role":"user","content":"x","name":"bob"}]}'
    document = parse_object(text)
    changes, _ = ruled_changes(document, rules_of((), MessageRules(refused=("name",))))
    assert '{"role":"user","content":"\\u00e9","n":1.0e2}' in document.replace(changes)
