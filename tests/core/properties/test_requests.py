"""Laws of reading a request."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.endpoint_matching import Match
from ollama_router_core.api.endpoints import ENDPOINTS, Body, Endpoint, Kind
from ollama_router_core.api.prompts import size_of_prompt
from ollama_router_core.api.request_keys import READ_KEYS, TYPES
from ollama_router_core.api.requests import _check_keys, _route, parse_request
from ollama_router_core.api.strict_json import JsonObject, _parse_text, parse_object
from ollama_router_core.errors import ModelNotFound, RequestError
from support.json_texts import objects, spelled, texts, values

CHAT = next(row for row in ENDPOINTS if row.name == "chat")
with_model = st.sampled_from([row for row in ENDPOINTS if row.model_keys and row.body is Body.JSON])
known_keys = st.sampled_from(
    ["model", "name", "stream", "options", "keep_alive", "messages", "tools", "images", "max_tokens", "suffix"]
)
members = st.dictionaries(known_keys, values, max_size=6)
FOLDS = {"k": "kK\u212a", "s": "sS\u017f"}


@given(with_model, spelled(members) | spelled(objects))
def test_any_object_is_read_or_refused_as_a_request(endpoint: Endpoint, text: str) -> None:
    """Whatever the types: an error of ours or a request whose body is the client's own bytes."""
    with contextlib.suppress(RequestError, ModelNotFound):
        parsed = parse_request(Match(endpoint), text.encode())
        assert parsed.body == text.encode()
        assert parsed.route.model_text == json.loads(text)[_key_of(endpoint, text)]


def _key_of(endpoint: Endpoint, text: str) -> str:
    return next(key for key in endpoint.model_keys if json.loads(text).get(key))


@given(known_keys, st.data())
def test_every_spelling_that_go_folds_to_a_known_key_is_refused(key: str, data: st.DataObject) -> None:
    """Whatever mixture of cases, with the two letters outside ASCII that fold into it."""
    spelling = "".join(data.draw(st.sampled_from(FOLDS.get(letter, letter + letter.upper()))) for letter in key)
    body: dict[str, Any] = {"model": "m", spelling: "other"}
    try:
        parse_request(Match(CHAT), json.dumps(body, ensure_ascii=data.draw(st.booleans())).encode())
    except RequestError as error:
        refused = error.code
    else:
        refused = ""
    assert (refused == "ambiguous_key") is (spelling != key)


@given(st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=40), objects)
def test_a_renamed_request_is_the_same_request_for_another_model(name: str, rest: dict[str, Any]) -> None:
    """Values of members that the router does not read stay, and reading the new body again changes nothing."""
    body = {key: value for key, value in rest.items() if key.casefold() not in READ_KEYS}
    parsed = parse_request(Match(CHAT), json.dumps({**body, "model": "m"}).encode()).with_model(name)
    assert json.loads(parsed.body) == {**body, "model": name}
    again = parse_request(Match(CHAT), parsed.body)
    assert again.route.model == parsed.route.model


usual_messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": texts | st.lists(st.dictionaries(st.just("type"), texts), max_size=2)},
        optional={"note": st.just("no picture")},
    ),
    max_size=3,
)
odd_messages = st.lists(
    st.fixed_dictionaries(
        {"content": values | st.just([{"type": "image_url"}])}, optional={"images": values, "note": st.just("an image")}
    )
    | values,
    max_size=3,
)
usual_tools = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["function", "custom"])}), min_size=1, max_size=2)
odd_tools = st.lists(
    st.dictionaries(
        st.sampled_from(["type", "Type", "name"]),
        st.sampled_from(["function", "web_search", "WEB_FETCH_2", "a web_search", "", "\u017f"]),
    )
    | values,
    max_size=2,
)
numbers = st.integers(-1, 2**63)
usual_members = st.fixed_dictionaries(
    {"model": st.sampled_from(["m", "llama3.1:8b", "x:cloud"])},
    optional={
        "messages": usual_messages,
        "stream": st.booleans(),
        "tools": usual_tools,
        "options": st.dictionaries(st.sampled_from(["num_ctx", "num_predict", "seed"]), numbers),
        "keep_alive": st.sampled_from(["5m", 300]),
        "max_tokens": numbers,
        "temperature": values,
        "prompt": st.sampled_from(["", "why", None]),
    },
)
odd_members = st.dictionaries(
    st.sampled_from(["unheard_of", "images", "suffix", "name", "Model", "max_completion_tokens", "tools", "stream"]),
    values,
    max_size=2,
) | st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["", "a\nb", "x" * 1100, None]) | values,
        "messages": odd_messages,
        "tools": odd_tools,
        "options": values | st.dictionaries(st.sampled_from(["num_ctx", "Num_ctx", "num_predict"]), values),
        "keep_alive": st.sampled_from([0, 0.0, -0.0, "0", "0m", -1, "", False, None]),
    },
)
plain_members = usual_members | st.builds(lambda usual, odd: {**usual, **odd}, usual_members, odd_members)
inferring = st.sampled_from([row for row in ENDPOINTS if row.body is Body.JSON and row.kind in {Kind.INFER, Kind.READ}])
compact = plain_members.map(lambda members: json.dumps(members, separators=(",", ":")))


@given(inferring, compact | spelled(plain_members))
def test_a_request_is_the_same_however_its_body_was_read(endpoint: Endpoint, text: str) -> None:
    """By msgspec, which leaves most values in the text, or by the walk that decodes them all."""
    with contextlib.suppress(RequestError):
        quick, walked = parse_object(text.encode()), _parse_text(text)
        assert _outcome(quick, endpoint) == _outcome(walked, endpoint)


def _outcome(document: JsonObject, endpoint: Endpoint) -> object:
    try:
        _check_keys(document, TYPES, endpoint)
        return _route(document, endpoint), size_of_prompt(document)
    except (RequestError, ModelNotFound) as error:
        return type(error), error.message
