"""Laws of reading a request."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.endpoints import ENDPOINTS, Body, Endpoint, Match
from ollama_router_core.errors import ModelNotFound, RequestError
from ollama_router_core.requests import parse_request
from support.json_texts import objects, spelled, values

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
    """Values other than the model's stay, and reading the new body again changes nothing."""
    body = {key: value for key, value in rest.items() if key.casefold() not in {"model", "name", "stream", "options"}}
    parsed = parse_request(Match(CHAT), json.dumps({**body, "model": "m"}).encode()).with_model(name)
    assert json.loads(parsed.body) == {**body, "model": name}
    again = parse_request(Match(CHAT), parsed.body)
    assert again.route.model == parsed.route.model
