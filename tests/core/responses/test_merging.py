"""One answer made of every server's answer: what is kept, what is left out, in which order."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.responses.merging import (
    find_openai_model,
    lowest_version,
    merge_openai_models,
    merge_ps,
    merge_status,
    merge_tags,
    openai_from_tags,
)


def body(key: str, *rows: dict[str, Any]) -> bytes:
    """A list as a server answers it."""
    return json.dumps({key: list(rows)}).encode()


def names(merged: bytes, key: str = "models", field: str = "name") -> list[str]:
    """The names in a merged list."""
    return [row[field] for row in json.loads(merged)[key]]


def row(name: str, digest: str = "0", **more: Any) -> dict[str, Any]:
    """A row of `/api/tags`."""
    return {"name": name, "digest": digest, **more}


def test_equal_models_stand_once_and_different_ones_each() -> None:
    """Name and digest decide, the name without regard to case."""
    bodies = {"a": body("models", row("x:1"), row("y:1")), "b": body("models", row("X:1"), row("y:1", "9"))}
    merged = json.loads(merge_tags(bodies))["models"]
    assert [(one["name"], one["digest"]) for one in merged] == [("x:1", "0"), ("y:1", "0"), ("y:1", "9")]


def test_the_newest_comes_first_whatever_the_offset() -> None:
    """As Ollama lists them; rows without a moment come last."""
    rows = [
        row("old", modified_at="2026-01-01T00:00:00Z"),
        row("new", modified_at="2026-01-01T01:00:00.123456789-05:00"),
        row("mid", modified_at="2026-01-01T03:00:00+01:00"),
        row("never"),
    ]
    bodies = {str(number): body("models", one) for number, one in enumerate(rows)}
    assert names(merge_tags(bodies)) == ["new", "mid", "old", "never"]


def test_the_longest_lived_comes_first() -> None:
    """One model on two servers is listed twice: it is in memory twice."""
    bodies = {
        "a": body("models", row("x:1", expires_at="2026-01-01T00:00:00Z", size_vram=1)),
        "b": body("models", row("x:1", expires_at="2318-01-01T00:00:00Z", size_vram=2)),
    }
    assert [one["size_vram"] for one in json.loads(merge_ps(bodies))["models"]] == [2, 1]


@pytest.mark.parametrize("merge", [merge_tags, merge_ps])
def test_a_single_server_s_bytes_are_passed_on(merge: Any) -> None:
    """Spacing, escapes and unknown keys included."""
    text = b'{ "models" : [ {"name":"\\u0078:1","digest":"0","new":1e2} ], "more": 1 }'
    assert merge({"a": text}) == text


def test_what_may_not_be_seen_is_not_there() -> None:
    """Neither rows nor, for one server, the bytes they stood in."""
    bodies = {"a": body("models", row("x:1"), row("y:1"))}
    assert names(merge_tags(bodies, may_see=lambda one: one["name"] != "y:1")) == ["x:1"]
    assert find_openai_model({"a": body("data", {"id": "x:1"})}, [], "x:1", may_see=lambda _: False) is None


def test_what_the_config_offers_is_added_unless_a_server_lists_it() -> None:
    """Under any spelling of the name."""
    bodies = {"a": body("models", row("x:latest"))}
    assert names(merge_tags(bodies, [row("X"), row("gpt-4o")])) == ["x:latest", "gpt-4o"]
    listed = merge_openai_models({"a": body("data", {"id": "x:latest"})}, [{"id": "x"}, {"id": "gpt-4o"}])
    assert names(listed, "data", "id") == ["x:latest", "gpt-4o"]


def test_an_empty_openai_list_is_null() -> None:
    """As Ollama writes it."""
    empty = b'{"object":"list","data":null}\n'
    assert merge_openai_models({}) == empty
    assert merge_openai_models({"a": empty, "b": empty}) == empty
    assert openai_from_tags(b'{"models":[]}') == empty


def test_one_openai_model_has_the_id_it_was_asked_by() -> None:
    """Ollama answers with the client's own spelling."""
    bodies = {"a": body("data", {"id": "llama3:latest", "created": 5})}
    assert json.loads(find_openai_model(bodies, [], "LLAMA3") or b"") == {"id": "LLAMA3", "created": 5}
    assert json.loads(find_openai_model({}, [{"id": "gpt-4o"}], "gpt-4o") or b"") == {"id": "gpt-4o"}
    assert find_openai_model(bodies, [], "other") is None


def test_openai_rows_follow_from_tags() -> None:
    """For a server that is too slow to be asked twice."""
    tags = body("models", row("me/x:1", modified_at="1970-01-01T00:01:00Z"), row("y:1"))
    assert json.loads(openai_from_tags(tags))["data"] == [
        {"id": "me/x:1", "object": "model", "created": 60, "owned_by": "me"},
        {"id": "y:1", "object": "model", "created": 0, "owned_by": "library"},
    ]


def status(*, disabled: bool, source: str) -> bytes:
    """An answer of `/api/status`."""
    return json.dumps({"cloud": {"disabled": disabled, "source": source}}).encode()


def test_the_cloud_is_open_if_it_is_anywhere_and_for_this_user() -> None:
    """The answer hides or shows hosted models in clients."""
    off, on = status(disabled=True, source="env"), status(disabled=False, source="none")
    assert json.loads(merge_status({"a": off, "b": on}, allowed=True)) == json.loads(on)
    assert merge_status({"a": off}, allowed=True) == off
    assert json.loads(merge_status({"a": on}, allowed=False))["cloud"] == {"disabled": True, "source": "config"}
    assert json.loads(merge_status({}, allowed=True))["cloud"]["disabled"] is False


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [
        (["0.9.7", "0.32.15"], "0.9.7"),
        (["0.32.0", "0.32.0-rc2"], "0.32.0-rc2"),
        (["0.5", "0.5.1"], "0.5"),
        ([], None),
    ],
)
def test_the_lowest_version_is_a_number_not_a_text(versions: list[str], lowest: str | None) -> None:
    """Clients that look at it stay on safe ground."""
    bodies = {str(number): json.dumps({"version": one}).encode() for number, one in enumerate(versions)}
    assert lowest_version(bodies) == lowest


@given(st.dictionaries(st.sampled_from("abc"), st.binary(max_size=40) | st.sampled_from(
    [b"[]", b"null", b'{"models":7}', b'{"models":[1,{}]}', b'{"data":{"a":1}}', b'{"cloud":[]}', b'{"version":1}']
)))  # fmt: skip
def test_whatever_servers_answer_the_lists_are_lists(bodies: dict[str, bytes]) -> None:
    """A body that is not what its route answers counts as absent."""
    assert isinstance(json.loads(merge_tags(bodies))["models"], list)
    assert isinstance(json.loads(merge_ps(bodies))["models"], list)
    assert isinstance(json.loads(merge_openai_models(bodies))["data"], list | None)
    assert "disabled" in json.loads(merge_status(bodies, allowed=False))["cloud"]
    assert lowest_version(bodies) is None


def test_copies_that_a_server_made_for_itself_are_hidden():
    """`llamacpp:<64 hex>` is nothing that a client could ask for, pull or delete."""
    hidden = {"name": "llamacpp:" + "a" * 64, "digest": "b" * 64}
    shown = {"name": "llamacpp:8b", "digest": "c" * 64}
    body = json.dumps({"models": [hidden, shown]}).encode()
    assert json.loads(merge_tags({"a": body})) == {"models": [shown]}


def test_aliases_are_listed_where_their_model_is() -> None:
    """Marked as standing for it; an alias of nothing, or of what may not be seen, is not listed."""
    aliases = {"fast": "a", "none": "missing", "hidden": "secret", "b": "a"}
    seen = {"aliases": aliases, "may_see": lambda one: "secret" not in str(one)}
    rows = (row("a", "1", details={"family": "llama"}), row("b", "2"), row("secret", "3"))
    found = json.loads(merge_tags({"one": body("models", *rows)}, **seen))["models"]
    assert [one["name"] for one in found] == ["a", "b", "fast"]
    alias = found[-1]
    assert (alias["model"], alias["remote_model"], alias["digest"]) == ("fast", "a", "1")
    assert alias["details"] == {"family": "llama", "parent_model": "a"}
    listed = merge_openai_models({"one": body("data", {"id": "a", "created": 1}, {"id": "secret"})}, **seen)
    assert [one["id"] for one in json.loads(listed)["data"]] == ["a", "fast", "b"]
