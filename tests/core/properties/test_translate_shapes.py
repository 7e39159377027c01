"""Laws of translation over the union of the shapes that clients and servers send."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.translate import HostTraits, StreamTranslator, translate_request
from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.arguments import ArgumentsEnd, are_whole, arguments_object
from ollama_router_core.translate.call_ids import escaped_id, fitted_id, original_id
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.replies import TextDelta, ThinkingDelta
from ollama_router_core.translate.think_tags import ThinkTags
from support.conversations import CHATS, IDENTITY, assembled, events_of, replies, said, texts
from support.json_texts import cut, cuts
from support.odd_bodies import marks_of, odd_requests, odd_streams
from support.openai_host import OPENAI_OWN

chats = st.sampled_from(CHATS)
hosts = st.sampled_from(
    [
        None,
        OPENAI_OWN,
        Accepts(later_system="folded", image_addresses=False, result_images=False, call_ids=CallIds(longest=9)),
        Accepts(call_ids=CallIds(alphabet="alphanumeric", longest=9, exact=True), thoughts="reasoning_content"),
    ]
)


@given(st.data(), chats, chats, hosts)
def test_nothing_that_was_said_is_lost(data, source, target, accepts) -> None:
    """Every text, argument, result and image of a client is in what any host gets, and texts are in their order."""
    body = data.draw(odd_requests(source))
    sent = translate_request(body, source=source, target=target, model="m", traits=HostTraits(accepts=accepts))
    texts_before, images_before = marks_of(body | _decoded_files(body))
    texts_after, images_after = marks_of(json.loads(sent.body))
    assert images_after == images_before
    assert set(texts_after) == set(texts_before)
    if (accepts is None or accepts.later_system != "folded") and not _speaks_after_a_call(body):
        assert texts_after == texts_before


def _speaks_after_a_call(body: dict[str, Any]) -> bool:
    """Whether a turn has a text behind a call, as Responses alone can have: elsewhere texts stand before calls."""
    items = body.get("input")
    called = False
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and called and item.get("role") == "assistant":
            return True
        called = (isinstance(item, dict) and "call" in str(item.get("type"))) or called
    return False


@given(st.data(), chats, chats)
def test_a_request_comes_back_from_every_dialect(data, source, target) -> None:
    """There and back: text, calls, results and images, in order."""
    body = data.draw(odd_requests(source))
    there = translate_request(body, source=source, target=target, model="m")
    back = translate_request(there.body, source=target, target=source, model="m")
    texts, images = marks_of(json.loads(back.body))
    texts_before, images_before = marks_of(body | _decoded_files(body))
    if _speaks_after_a_call(body):
        texts, texts_before = sorted(texts), sorted(texts_before)
    assert (texts, images) == (texts_before, images_before)


@given(st.data(), chats)
def test_each_call_keeps_its_result(data, target) -> None:
    """Ids may be replaced; which result belongs to which call may not."""
    body = data.draw(odd_requests(OPENAI_CHAT))
    sent = json.loads(translate_request(body, source=OPENAI_CHAT, target=target, model="m").body)
    back = json.loads(translate_request(sent, source=target, target=OPENAI_CHAT, model="m").body)
    pairs = _pairs(back)
    for call, result in _pairs(body).items():
        if result is not None:
            assert set(marks_of({"messages": [result]})[0]) <= set(marks_of({"messages": [pairs[call]]})[0])


def _pairs(body: dict[str, Any]) -> dict[str, Any]:
    """The result of each call by the arguments of the call."""
    results = {message["tool_call_id"]: message for message in body["messages"] if message["role"] == "tool"}
    calls = [call for message in body["messages"] for call in message.get("tool_calls") or ()]
    return {marks_of({"messages": [call]})[0][0]: results.get(call["id"]) for call in calls}


def _decoded_files(body: dict[str, Any]) -> dict[str, Any]:
    """The body with the texts of its files in plain."""
    found = re.compile(r"(?:data:text/markdown;base64,)?\b(bWs[A-Za-z0-9+/]+={0,2})")
    text = found.sub(lambda match: base64.b64decode(match[1]).decode(), json.dumps(body))
    return json.loads(text)


@given(st.data(), chats)
def test_a_stream_in_any_shape_says_what_it_says(data, target) -> None:
    """And where its bytes are cut makes no difference to the client's."""
    reply = data.draw(replies())
    stream = data.draw(odd_streams(reply))
    once = StreamTranslator(OPENAI_CHAT, target, identity=IDENTITY)
    written = once.feed(stream) + once.finish()
    pieces = StreamTranslator(OPENAI_CHAT, target, identity=IDENTITY)
    assert b"".join(map(pieces.feed, cut(stream, data.draw(cuts())))) + pieces.finish() == written
    got = said(assembled(events_of(written, target)))
    assert {**got, "usage": None} == {**said(reply), "usage": None}


@given(st.data(), chats)
def test_a_stream_in_any_shape_cut_anywhere_is_whole_or_failed(data, target) -> None:
    """Never in between: what is not reported as failed has all text and calls."""
    reply = data.draw(replies())
    stream = data.draw(odd_streams(reply))
    translator = StreamTranslator(OPENAI_CHAT, target, identity=IDENTITY)
    written = translator.feed(stream[: data.draw(st.integers(0, len(stream)))]) + translator.finish()
    if translator.failure is None:
        got, expected = said(assembled(events_of(written, target))), said(reply)
        assert (got["text"], got["calls"]) == (expected["text"], expected["calls"])


# --- the parts ------------------------------------------------------------------------------------

json_objects = st.dictionaries(texts, st.recursive(texts | st.integers(), lambda inner: st.lists(inner, max_size=3)))


@given(json_objects, st.data())
def test_of_cut_arguments_all_whole_members_are_kept(value, data) -> None:
    """Whatever the place of the cut, and nothing is made up."""
    text = json.dumps(value)
    half = text[: data.draw(st.integers(1, len(text)))]
    got = arguments_object(half)
    assert list(got) == list(value)[: len(got)]
    whole = list(got)[:-1]
    assert {key: got[key] for key in whole} == {key: value[key] for key in whole}
    assert are_whole(half) is (half == text)


@given(json_objects, cuts())
def test_the_end_of_arguments_is_seen_wherever_they_are_cut(value, places) -> None:
    """At the last bracket and not before."""
    pieces = [piece.decode() for piece in cut(json.dumps(value).encode(), places) if piece]
    end = ArgumentsEnd()
    for piece in pieces[:-1]:
        end.feed(piece)
        assert not end.whole
    end.feed(pieces[-1])
    assert end.whole


@given(st.text(max_size=60))
def test_an_escaped_id_comes_back(text) -> None:
    """Through every client of Anthropic's."""
    if text and not any("\ud800" <= char <= "\udfff" for char in text):
        assert original_id(escaped_id(text)) == text or escaped_id(text) == text


@given(st.text(min_size=1, max_size=300), st.integers(8, 64), st.sampled_from(["any", "word", "alphanumeric"]))
def test_a_fitted_id_fits(text, longest, alphabet) -> None:
    """Whatever a client sends as an id."""
    assert 1 <= len(fitted_id(text, CallIds(alphabet=alphabet, longest=longest))) <= longest


@given(st.text(alphabet="<>/thinkreasog [THINK]\n a", max_size=40), cuts())
def test_think_tags_do_not_depend_on_the_cuts(text, places) -> None:
    """In whatever pieces a text comes, the same of it is thoughts."""
    pieces = [piece for piece in (part.decode() for part in cut(text.encode(), places)) if piece]
    assert _split(pieces) == _split([text] if text else [])


def _split(pieces: list[str]) -> tuple[str, str]:
    tags = ThinkTags()
    events = [event for piece in pieces for event in tags.feed(piece)] + tags.end()
    thoughts = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    return thoughts, "".join(event.text for event in events if isinstance(event, TextDelta))
