"""Model names by Ollama's rules."""

from __future__ import annotations

import pytest

from ollama_router_core.api.model_names import ModelName, canonical_name, parse_model_name
from ollama_router_core.errors import InvalidModelName


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("llama3", "llama3:latest"),
        ("llama3:70b", "llama3:70b"),
        ("library/llama3", "llama3:latest"),
        ("registry.ollama.ai/library/llama3:8B", "llama3:8B"),
        ("alice/llama3", "alice/llama3:latest"),
        ("hf.co/alice/model.gguf:Q4_K_M", "hf.co/alice/model.gguf:Q4_K_M"),
        ("https://hf.co/alice/m", "hf.co/alice/m:latest"),
        ("localhost:5000/alice/m:x", "localhost:5000/alice/m:x"),
        ("a", "a:latest"),
        ("_x", "_x:latest"),
    ],
)
def test_missing_parts_are_filled(text: str, short: str):
    """Host, namespace and tag have defaults; the short form drops the first two and keeps the tag."""
    assert parse_model_name(text).short == str(parse_model_name(text)) == short


def test_all_parts_are_there():
    """Each part goes to its field, spelled as it was."""
    assert parse_model_name("Host.io:80/Alice/Model:Tag") == ModelName(
        host="Host.io:80", namespace="Alice", model="Model", tag="Tag"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":",
        "llama3:",
        ":70b",
        "/llama3",
        "llama3/",
        "a//b",
        "a/b/c/d",
        "-llama",
        ".hidden",
        "../etc/passwd",
        "a b",
        "llama3\n",
        "llama3@sha256:0123456789abcdef",
        "al.ice/llama3",
        "a:b:c",
        "é",
        "\u212a",
        "m" * 81,
        "m:" + "t" * 81,
        "n" * 81 + "/m",
        "h" * 351 + "/n/m",
    ],
)
def test_what_ollama_refuses_is_refused(text: str):
    """The text of the error is Ollama's own."""
    with pytest.raises(InvalidModelName, match=r"^invalid model name$"):
        parse_model_name(text)


@pytest.mark.parametrize("text", ["m" * 80, "m:" + "t" * 80, "n" * 80 + "/m", "h" * 350 + "/n/m"])
def test_the_longest_parts_are_accepted(text: str):
    """80 characters a part, 350 for the host."""
    assert parse_model_name(text)


@pytest.mark.parametrize(
    ("text", "short", "source"),
    [
        ("gpt-oss:20b-cloud", "gpt-oss:20b-cloud", "cloud"),
        ("gpt-oss:20b:cloud", "gpt-oss:20b-cloud", "cloud"),
        ("gpt-oss:20b:CLOUD", "gpt-oss:20b-cloud", "cloud"),
        ("kimi:cloud", "kimi:cloud", "cloud"),
        ("kimi:Cloud", "kimi:Cloud", "cloud"),
        ("llama3:local", "llama3:latest", "local"),
        ("llama3:8b:local", "llama3:8b", "local"),
        ("llama3-cloud", "llama3-cloud:latest", None),
        ("cloud", "cloud:latest", None),
        ("llama3:cloudy", "llama3:cloudy", None),
    ],
)
def test_a_suffix_names_the_source(text: str, short: str, source: str | None):
    """`:cloud`, a tag that ends in `-cloud`, and `:local`, in any case."""
    name = parse_model_name(text)
    assert (name.short, name.source) == (short, source)


@pytest.mark.parametrize(
    "text", ["m:cloud:local", "m:local:cloud", "m:local:local", "m:8b-cloud:local", "m:x-cloud:cloud"]
)
def test_two_sources_are_refused(text: str):
    """`m:cloud:local` would be a cloud model for whoever parses the result again."""
    with pytest.raises(InvalidModelName):
        parse_model_name(text)


def test_long_rows_of_suffixes_end():
    """A hostile name costs no recursion."""
    with pytest.raises(InvalidModelName):
        parse_model_name("m" + ":local" * 100_000)


def test_canonical_names_are_one_key_a_model():
    """Case and written-out defaults make no difference."""
    assert {canonical_name(text) for text in ("Llama3", "llama3:latest", "library/LLAMA3:Latest")} == {"llama3:latest"}
    assert canonical_name("hf.co/a/b") != canonical_name("huggingface.co/a/b")


def test_foreign_ids_are_kept_as_they_are():
    """What no Ollama would accept still has a key of its own."""
    assert canonical_name("Models/Über v2") == "models/Über v2"


def test_a_foreign_id_never_equals_a_model():
    """The Kelvin sign lower-cases to `k`, but it is no `k`."""
    assert canonical_name("\u212aimi:latest") != canonical_name("kimi:latest")
