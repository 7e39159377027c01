"""What clients see of a model that runs elsewhere."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.api.endpoints import Family
from ollama_router_core.translate import CODECS, ExternalModel, codec_of
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT, OLLAMA_GENERATE
from ollama_router_core.translate.ollama.listings import show_reply, tags_entry
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from support.conversations import IDENTITY

MODEL = ExternalModel(name="gpt-4", remote_name="gpt-4o", host="openai", since_ns=1_700_000_000_000_000_000)


def test_a_tags_entry_has_all_that_ollamas_clients_print() -> None:
    """Ollama's own client cuts the digest and shows the size; `remote_*` mark the entry as a model in the cloud."""
    entry = tags_entry(MODEL)
    assert (entry["name"], entry["model"], entry["size"]) == ("gpt-4", "gpt-4", 0)
    assert (entry["remote_model"], entry["remote_host"]) == ("gpt-4o", "openai")
    assert entry["modified_at"] == "2023-11-14T22:13:20.000000000Z"
    assert len(bytes.fromhex(entry["digest"])) == 32
    assert tags_entry(MODEL) == entry


@pytest.mark.parametrize(
    ("remote_name", "said", "capabilities"),
    [
        ("gpt-4o", None, ["completion", "tools", "vision"]),
        ("anthropic/claude-sonnet-4.5", None, ["completion", "tools", "vision", "thinking"]),
        ("openai/gpt-5.6-mini", None, ["completion", "tools", "vision", "thinking"]),
        ("deepseek-reasoner", None, ["completion", "tools", "thinking"]),
        ("nobody-knows", None, ["completion"]),
        ("gpt-4o", ("completion",), ["completion"]),
        ("text-embedding-3-small", None, ["embedding"]),
        ("gpt-4o", ("completion", "tools", "vision"), ["completion", "tools", "vision"]),
        ("gpt-4o", (), []),
    ],
)
def test_capabilities_are_what_can_be_said(remote_name, said, capabilities) -> None:
    """What the operator says, else what is known of the model, and never a guess."""
    model = ExternalModel(name="x", remote_name=remote_name, host="openai", capabilities=said)
    assert show_reply(model)["capabilities"] == tags_entry(model)["capabilities"] == capabilities


def test_a_context_is_shown_when_it_is_known() -> None:
    """In the places where clients look for it."""
    assert show_reply(ExternalModel(name="x", remote_name="y", host="h"))["model_info"] == {}
    assert show_reply(MODEL)["model_info"] == {"general.context_length": 128_000}
    known = show_reply(ExternalModel(name="x", remote_name="y", host="h", context_length=128_000))
    assert known["model_info"]["general.context_length"] == 128_000
    assert known["details"]["context_length"] == 128_000


def test_an_entry_for_openai_clients() -> None:
    """The same model in `/v1/models`."""
    entry = codec_of(Family.OPENAI).model_entry(MODEL)
    assert entry == {
        "id": "gpt-4",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "openai",
    }


@pytest.mark.parametrize(
    ("source", "body", "reason"),
    [
        (OLLAMA_CHAT, {"messages": []}, "load"),
        (OLLAMA_CHAT, {"keep_alive": 0}, "unload"),
        (OLLAMA_GENERATE, {"prompt": "", "keep_alive": "0s"}, "unload"),
        (OLLAMA_GENERATE, {"keep_alive": "10m"}, "load"),
        (OLLAMA_CHAT, {"messages": [{"role": "user", "content": "x"}]}, None),
        (OLLAMA_GENERATE, {"prompt": "x"}, None),
        (OPENAI_CHAT, {"messages": []}, None),
    ],
)
def test_loading_a_model_elsewhere_is_answered_at_once(source, body, reason) -> None:
    """As `ollama run` begins; anything with something to answer goes to the host."""
    written = codec_of(source.family).answer_locally(source.path, body, MODEL, IDENTITY)
    assert (json.loads(written)["done_reason"] if written else None) == reason


@pytest.mark.parametrize("family", CODECS)
def test_every_dialect_lists_a_model_under_the_name_that_clients_use(family: Family) -> None:
    """The host's own name of the model is no name to ask for."""
    entry = codec_of(family).model_entry(MODEL)
    assert MODEL.name in {entry.get("id"), entry.get("model")}
