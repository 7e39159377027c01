"""Replies of servers become facts: the shapes of Ollama 0.5 to 0.33, and no harm from anything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.errors import UpstreamProtocolError
from ollama_router_core.fleet.memory.estimates import measured_memory
from ollama_router_core.fleet.observations import (
    forget_model,
    observe_down,
    observe_load_finished,
    observe_load_started,
    observe_ps,
    observe_show,
    observe_tags,
    observe_unloaded,
    observe_version,
)
from ollama_router_core.fleet.runners import Load
from ollama_router_core.fleet.server_replies import read_show
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, ServerFacts

NEW = ServerFacts(name="a")
WALL = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()
LLAMA = CanonicalName("llama3.1:8b")
DIGEST = "46e0c10c039e019119339687c3c1757cc81b9da49709a3b3924863ba87ca666e"


def tag(**extra: Any) -> dict[str, Any]:
    """A row of `/api/tags` as v0.5 wrote it; newer servers add keys."""
    return {
        "name": "Llama3.1:8b",
        "model": "Llama3.1:8b",
        "modified_at": "2025-01-10T09:11:12.123456789+01:00",
        "size": 4920753328,
        "digest": DIGEST,
        "details": {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "8.0B",
            "quantization_level": "Q4_K_M",
        },
        **extra,
    }


def tags(*rows: Any) -> bytes:
    """A whole reply."""
    return json.dumps({"models": rows}).encode()


def row_of_ps(**extra: Any) -> dict[str, Any]:
    """A row of `/api/ps` as v0.5 wrote it."""
    return {
        "name": "llama3.1:8b",
        "model": "llama3.1:8b",
        "size": 6654289920,
        "digest": DIGEST,
        "details": tag()["details"],
        "expires_at": "2026-03-01T12:05:00.123456789Z",
        "size_vram": 5000000000,
        **extra,
    }


SHOW = {
    "license": "x",
    "modelfile": "FROM x",
    "details": {},
    "model_info": {
        "general.architecture": "llama",
        "general.parameter_count": 8030261248,
        "llama.block_count": 32,
        "llama.context_length": 131072,
        "llama.embedding_length": 4096,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.vocab_size": 128256,
        "tokenizer.ggml.tokens": None,
    },
    "capabilities": ["completion", "tools"],
}


def test_tags_of_an_old_server() -> None:
    """v0.5 tells name, size, digest and details; what it does not tell is not known rather than false."""
    facts = observe_tags(NEW, tags(tag()), now=5.0)
    assert facts.installed is not None
    model = facts.installed[LLAMA]
    assert (model.spelling, model.size, model.digest) == ("Llama3.1:8b", 4920753328, DIGEST)
    assert (model.parameter_size, model.quantization, model.family) == ("8.0B", "Q4_K_M", "llama")
    assert model.capabilities is None
    assert model.context_length is None
    assert facts.installed_at == 5.0


def test_tags_of_a_new_server() -> None:
    """From v0.30 the row also tells capabilities and context length, and names the host of a cloud model."""
    details = {**tag()["details"], "context_length": 131072, "embedding_length": 4096}
    row = tag(details=details, capabilities=["completion", "tools"])
    cloud = tag(name="gpt-oss:120b-cloud", model="gpt-oss:120b-cloud", remote_host="https://ollama.com:443", size=384)
    facts = observe_tags(NEW, tags(row, cloud), now=0)
    assert facts.installed is not None
    assert facts.installed[LLAMA].capabilities == {"completion", "tools"}
    assert facts.installed[LLAMA].context_length == 131072
    assert facts.installed[CanonicalName("gpt-oss:120b-cloud")].remote_host == "https://ollama.com:443"


@pytest.mark.parametrize("body", [b'{"models":[]}', b'{"models":null}'])
def test_a_server_without_models_has_an_empty_list(body: bytes) -> None:
    """Which is not the same as a server whose list is not known."""
    assert observe_tags(NEW, body, now=0).installed == {}
    assert observe_ps(NEW, body, now=0, wall=WALL).loaded == {}


def test_details_may_be_missing() -> None:
    """Safetensors and foreign rows come with less."""
    facts = observe_tags(NEW, tags({"model": "x"}, {"name": "y", "details": None, "size": None}), now=0)
    assert facts.installed is not None
    assert set(facts.installed) == {"x:latest", "y:latest"}


def test_rows_that_cannot_be_believed_are_left_out() -> None:
    """One bad row does not take the others with it, and no absurd number reaches a formula."""
    bad: list[Any] = [None, 1, "x", {}, {"name": 7}, {"name": "a\nb"}, {"name": "\ud800"}]
    facts = observe_tags(NEW, tags(*bad, tag(size=-1), {"name": "huge", "size": 10**30}), now=0)
    assert facts.installed is not None
    assert {name: model.size for name, model in facts.installed.items()} == {"llama3.1:8b": 0, "huge:latest": 0}


def test_facts_from_show_stay_while_the_digest_does() -> None:
    """The same file has the same architecture; a new file has to be asked about again."""
    shown = observe_show(observe_tags(NEW, tags(tag()), now=0), LLAMA, json.dumps(SHOW).encode())
    same = observe_tags(shown, tags(tag()), now=1)
    other = observe_tags(shown, tags(tag(digest="b" * 64)), now=1)
    assert same.installed is not None
    assert same.installed[LLAMA].facts is not None
    assert other.installed is not None
    assert other.installed[LLAMA].facts is None


def test_show_gives_what_the_memory_formulas_need() -> None:
    """`model_info` is keyed by architecture."""
    facts = observe_show(observe_tags(NEW, tags(tag()), now=0), LLAMA, json.dumps(SHOW).encode())
    assert facts.installed is not None
    model = facts.installed[LLAMA].facts
    assert model is not None
    assert (model.architecture, model.block_count, model.embedding_length, model.head_count) == ("llama", 32, 4096, 32)
    assert (model.head_counts_kv, model.vocabulary, model.context_length) == ((8,), 128256, 131072)
    assert (model.key_length, model.sliding_window) == (None, None)
    assert model.capabilities == {"completion", "tools"}


def test_show_gives_experts_and_recurrent_layers() -> None:
    """The first decide the expected speed, the second add to the memory."""
    counts = {"expert_count": 128, "expert_used_count": 6}
    sizes = {"ssm.conv_kernel": 4, "ssm.inner_size": 4096, "ssm.state_size": 128, "ssm.group_count": 8}
    info = {f"nemotron_h_moe.{key}": value for key, value in (counts | sizes).items()}
    body = json.dumps({"model_info": {"general.architecture": "nemotron_h_moe", **info}}).encode()
    model = read_show(body)
    assert (model.expert_count, model.expert_used_count) == (128, 6)
    assert (model.ssm_conv_kernel, model.ssm_inner_size) == (4, 4096)
    assert (model.ssm_state_size, model.ssm_group_count) == (128, 8)


@pytest.mark.parametrize(
    ("value", "counts"),
    [([8, 8, 1], (8, 8, 1)), (None, ()), ([None, 2], (2,)), ("8", ()), ([True], ()), ([], ())],
)
def test_kv_heads_may_differ_by_layer(value: Any, counts: tuple[int, ...]) -> None:
    """Verbose replies list them by layer; newer servers write null for every list."""
    show = {"model_info": {"general.architecture": "gemma3", "gemma3.attention.head_count_kv": value}}
    facts = observe_show(observe_tags(NEW, tags(tag()), now=0), LLAMA, json.dumps(show).encode())
    assert facts.installed is not None
    assert facts.installed[LLAMA].facts is not None
    assert facts.installed[LLAMA].facts.head_counts_kv == counts


def test_show_about_a_model_that_is_gone_changes_nothing() -> None:
    """The list may have changed between question and answer."""
    assert observe_show(NEW, LLAMA, json.dumps(SHOW).encode()) is NEW


def test_ps_of_an_old_server() -> None:
    """v0.5 has no context length; the expiry is moved to the snapshot's clock."""
    facts = observe_ps(NEW, json.dumps({"models": [row_of_ps()]}).encode(), now=1000.0, wall=WALL)
    model = facts.loaded[LLAMA]
    assert (model.size, model.size_vram, model.context_length) == (6654289920, 5000000000, None)
    assert model.expires_at == pytest.approx(1300.123456)
    assert facts.loaded_at == 1000.0


def test_ps_of_a_new_server() -> None:
    """From v0.9.7 the context length is there; fully offloaded models may omit nothing or everything of the split."""
    rows = [row_of_ps(context_length=8192), {"name": "b", "size": 10}]
    facts = observe_ps(NEW, json.dumps({"models": rows}).encode(), now=0, wall=WALL)
    assert facts.loaded[LLAMA].context_length == 8192
    assert facts.loaded[CanonicalName("b:latest")].size_vram == 10


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("2318-06-11T12:00:00.000000000+02:00", None),
        ("2026-03-01T13:01:00+01:00", 60.0),
        ("2026-03-01T12:01:00", 60.0),
        ("2026-03-01T11:59:00Z", -60.0),
        ("soon", None),
        ("", None),
        (None, None),
        (17, None),
        ([], None),
    ],
)
def test_expiry(text: Any, left: float | None) -> None:
    """A negative keep_alive gives a year that means never; nonsense means not known; no zone means UTC."""
    body = json.dumps({"models": [row_of_ps(expires_at=text)]}).encode()
    expires = observe_ps(NEW, body, now=100.0, wall=WALL).loaded[LLAMA].expires_at
    assert expires == (None if left is None else pytest.approx(100.0 + left))


def test_a_load_is_over_when_its_model_appears() -> None:
    """Servers from v0.30 do not list a model that is still loading, so our own traffic knows better."""
    other = CanonicalName("b:latest")
    facts = observe_load_started(observe_load_started(NEW, LLAMA, now=1), other, now=2)
    assert facts.loading == {LLAMA: 1, other: 2}
    facts = observe_ps(facts, json.dumps({"models": [row_of_ps()]}).encode(), now=3, wall=WALL)
    assert facts.loading == {other: 2}


def test_a_load_is_counted_from_its_first_request() -> None:
    """A burst does not start the same load again."""
    facts = observe_load_started(NEW, LLAMA, now=1)
    assert observe_load_started(facts, LLAMA, now=9) is facts


def test_an_answer_means_that_the_model_is_loaded() -> None:
    """Until the next poll its size is 0 (not measured), its context the one asked for."""
    facts = observe_load_started(observe_tags(NEW, tags(tag()), now=0), LLAMA, now=1)
    facts = observe_load_finished(facts, LLAMA, load=Load(8192), now=2)
    assert facts.loading == {}
    assert (facts.loaded[LLAMA].size, facts.loaded[LLAMA].context_length) == (0, 8192)


def test_an_answer_keeps_what_a_poll_has_measured() -> None:
    """A measured size is better than a file's, as long as the context is the same or was not asked for."""
    polled = observe_ps(NEW, json.dumps({"models": [row_of_ps(context_length=4096)]}).encode(), now=0, wall=WALL)
    for num_ctx in (None, 4096):
        assert observe_load_finished(polled, LLAMA, load=Load(num_ctx), now=1).loaded == polled.loaded
    assert observe_load_finished(polled, LLAMA, load=Load(8192), now=1).loaded[LLAMA].context_length == 8192


def test_a_model_that_left_memory_is_no_longer_loaded() -> None:
    """Also when its load was given up."""
    facts = observe_load_started(
        observe_load_finished(NEW, LLAMA, load=Load(), now=0), CanonicalName("b:latest"), now=1
    )
    assert observe_unloaded(facts, LLAMA, now=2.0).loaded == {}
    assert observe_unloaded(facts, CanonicalName("b:latest"), now=2.0).loading == {}


def test_a_report_is_as_old_as_its_question() -> None:
    """What our own traffic showed since the server was asked is newer, whatever the answer says."""
    body = json.dumps({"models": [row_of_ps()]}).encode()
    came = CanonicalName("b:latest")
    facts = observe_unloaded(observe_ps(NEW, body, now=0, wall=WALL), LLAMA, now=5.0)
    facts = observe_load_finished(observe_load_started(facts, came, now=5.0), came, now=9.0)
    late = observe_ps(facts, body, now=14.0, wall=WALL, asked=4.0)
    assert set(late.loaded) == {came}
    assert late.loaded_at == 4.0
    assert set(observe_ps(late, body, now=20.0, wall=WALL, asked=10.0).loaded) == {LLAMA}


def test_what_a_late_report_cannot_tell_of_says_nothing_about_memory() -> None:
    """Neither a size of nothing for what was seen to answer, nor an eviction where our own traffic made the room."""
    row, came = row_of_ps(size=5_000_000_000, size_vram=5_000_000_000), CanonicalName("b:latest")
    body = json.dumps({"models": [row]}).encode()
    facts = observe_unloaded(observe_ps(NEW, body, now=0, wall=WALL), LLAMA, now=5.0)
    facts = observe_load_finished(observe_load_started(facts, came, now=5.0), came, now=9.0)
    late = observe_ps(facts, body, now=14.0, wall=WALL, asked=4.0)
    assert {name for name, _ in late.measured} == {LLAMA}
    assert late.capacity.less_than is None


@pytest.mark.parametrize(("stays", "less_than"), [(False, 25), (True, None)])
def test_what_a_load_of_ours_drove_out_was_too_much_beside_it(stays: bool, less_than: int | None) -> None:
    """It has come since the last report, though its answer showed that before this one: 10 + 12 / 80 % of 25 GiB."""
    gib, came = 1 << 30, CanonicalName("b:latest")
    held = row_of_ps(size=10 * gib, size_vram=10 * gib)
    loaded = row_of_ps(name=came, model=came, size=12 * gib, size_vram=12 * gib)
    facts = observe_ps(NEW, json.dumps({"models": [held]}).encode(), now=0, wall=WALL)
    facts = observe_load_finished(observe_load_started(facts, came, now=5.0), came, now=9.0)
    body = json.dumps({"models": [held, loaded] if stays else [loaded]}).encode()
    seen = observe_ps(facts, body, now=9.0, wall=WALL).capacity
    assert seen.less_than == (None if less_than is None else less_than * gib)


def test_what_went_while_a_model_was_being_loaded_made_room_for_it() -> None:
    """A report in between shows neither; one that shows the new model tells that both were too much."""
    gib, came = 1 << 30, CanonicalName("b:latest")
    held = row_of_ps(size=10 * gib, size_vram=10 * gib)
    loaded = row_of_ps(name=came, model=came, size=12 * gib, size_vram=12 * gib)
    facts = observe_ps(NEW, json.dumps({"models": [held]}).encode(), now=0, wall=WALL)
    facts = observe_ps(observe_load_started(facts, came, now=5.0), b'{"models": []}', now=6.0, wall=WALL)
    assert facts.capacity.less_than is None
    both = observe_ps(facts, json.dumps({"models": [loaded]}).encode(), now=9.0, wall=WALL)
    assert both.capacity.less_than == 25 * gib
    given_up = observe_ps(observe_unloaded(facts, came, now=7.0), b'{"models": []}', now=8.0, wall=WALL)
    assert (
        observe_ps(given_up, json.dumps({"models": [loaded]}).encode(), now=9.0, wall=WALL).capacity.less_than is None
    )


def test_a_404_takes_the_model_off_the_list_and_makes_the_list_due() -> None:
    """Someone deleted it behind the router's back."""
    facts = forget_model(observe_tags(NEW, tags(tag()), now=5), LLAMA, now=6)
    assert facts.installed == {}
    assert facts.installed_at is None


def test_a_server_that_does_not_answer_keeps_its_files() -> None:
    """They are believed to be there when it comes back; what was in its memory is not."""
    facts = observe_load_finished(observe_tags(NEW, tags(tag()), now=0), LLAMA, load=Load(), now=1)
    down = observe_down(observe_load_started(facts, CanonicalName("b:latest"), now=1), "connection refused", now=2)
    assert (down.up, down.error, down.probed_at, down.probe_ms) == (False, "connection refused", 2, None)
    assert down.loaded == {}
    assert down.loading == {}
    assert down.installed == facts.installed


@pytest.mark.parametrize(
    ("body", "version"),
    [(b'{"version":"0.32.15"}', "0.32.15"), (b"Ollama is running", None), (b"", None), (b'{"version":7}', None),
     (b'{"version":"a\\nb"}', None), (b"[" * 100_000, None)],
)  # fmt: skip
def test_any_answer_to_a_probe_means_up(body: bytes, version: str | None) -> None:
    """Look-alikes have no version; a server keeps the last one it told."""
    facts = observe_version(observe_down(NEW, "x", now=0), body, probe_ms=12.0, now=1)
    assert (facts.up, facts.error, facts.probe_ms, facts.version) == (True, None, 12.0, version)
    assert observe_version(facts, b"", probe_ms=1, now=2).version == version


READERS: list[Callable[[bytes], ServerFacts]] = [
    lambda body: observe_tags(NEW, body, now=0),
    lambda body: observe_ps(NEW, body, now=0, wall=WALL),
]


@pytest.mark.parametrize("reader", READERS, ids=["tags", "ps"])
@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"null", b"{}", b'{"error":"x"}', b'{"models":{}}', b'{"models":"x"}', b'{"models":1}',
     b"\xff\xfe", b'{"models":[', b"[" * 100_000, b'{"models":' + b"9" * 5000 + b"}", b'{"data":[]}'],
)  # fmt: skip
def test_another_servers_answer_is_a_protocol_error(reader: Callable[[bytes], ServerFacts], body: bytes) -> None:
    """What is not a list of models must not be taken for an empty one: it would make every model disappear."""
    with pytest.raises(UpstreamProtocolError):
        reader(body)


def test_a_snapshot_is_not_touched_by_an_observation() -> None:
    """Facts are values: observing returns new ones."""
    fleet = FleetSnapshot(servers={"a": NEW})
    observe_tags(fleet.servers["a"], tags(tag()), now=0)
    assert fleet.servers["a"].installed is None


class TestReloads:
    """Another context is another load: the model is not what it was from the moment it is asked for."""

    def loaded(self):
        """A server with a model in memory at 4096 tokens; it was made for 8192."""
        row = InstalledModel(name=LLAMA, spelling=LLAMA, size=5, digest="aa", context_length=8192)
        facts = replace(NEW, installed={LLAMA: row})
        return observe_load_finished(facts, LLAMA, load=Load(4096), now=1)

    def test_counts_as_loading_until_the_answer_begins(self):
        """Not loaded at what it had, loading at what is asked for; then loaded at that."""
        facts = observe_load_started(self.loaded(), LLAMA, now=2, load=Load(8192))
        assert (facts.loaded, facts.loading, facts.loading_at) == ({}, {LLAMA: 2}, {LLAMA: 8192})
        done = observe_load_finished(facts, LLAMA, load=Load(8192), now=9)
        assert (done.loaded[LLAMA].context_length, done.loading, done.loading_at) == (8192, {}, {})

    def test_a_poll_that_still_lists_the_old_one_changes_nothing(self):
        """The one that lists the new one ends the load."""
        facts = observe_load_started(self.loaded(), LLAMA, now=2, load=Load(8192))
        row = {"name": LLAMA, "size": 7, "size_vram": 7, "digest": "aa"}
        old = observe_ps(facts, json.dumps({"models": [{**row, "context_length": 4096}]}).encode(), now=3, wall=0)
        assert (old.loaded, old.loading) == ({}, {LLAMA: 2})
        new = observe_ps(facts, json.dumps({"models": [{**row, "context_length": 8192}]}).encode(), now=4, wall=0)
        assert (new.loaded[LLAMA].context_length, new.loading) == (8192, {})

    def test_more_than_the_model_was_made_for_is_what_it_was_made_for(self):
        """Ollama gives that, so nothing is loaded anew."""
        facts = observe_load_finished(self.loaded(), LLAMA, load=Load(99_999), now=1)
        assert facts.loaded[LLAMA].context_length == 8192
        assert observe_load_started(facts, LLAMA, now=2, load=Load(50_000)) is facts
        assert observe_load_finished(facts, LLAMA, load=Load(50_000), now=3) is facts


COPY_FOR_ITSELF = "llamacpp:" + "a" * 64


def test_copies_that_a_server_made_for_itself_are_no_models_of_it():
    """Since 0.40 Ollama keeps converted copies under such names; they cannot be pulled and come back when deleted."""
    rows = [{"name": COPY_FOR_ITSELF, "size": 5}, {"name": "llamacpp:8b", "size": 5}]
    facts = observe_tags(NEW, json.dumps({"models": rows}).encode(), now=0)
    assert set(facts.installed) == {"llamacpp:8b"}


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("0.24.0", {"completion"}),
        ("0.30.0", None),
        ("0.34.0", None),
        ("0.34.1", {"completion"}),
        (None, {"completion"}),
    ],
)
def test_a_capability_that_a_list_leaves_out_may_be_there(version, known):
    """From 0.30 to 0.34.0 `/api/tags` tells some of what a model can, and `/api/show` all."""
    row = {"name": "m:1b", "size": 5, "capabilities": ["completion"]}
    facts = observe_tags(replace(NEW, version=version), json.dumps({"models": [row]}).encode(), now=0)
    assert facts.installed["m:1b"].capabilities == known


@pytest.mark.parametrize(("kind", "kept"), [("safetensors", 9 * 10**9), ("gguf", 7 * 10**9)])
def test_what_the_mlx_runner_takes_grows_and_the_most_counts(kind: str, kept: int) -> None:
    """Its cache is not reserved at the load: what `/api/ps` says rises with use, and falls between requests."""
    row = {"name": "qwen3:8b", "model": "qwen3:8b", "size": 5 * 10**9, "digest": "a" * 64, "details": {"format": kind}}
    facts = observe_tags(ServerFacts(name="mac"), json.dumps({"models": [row]}).encode(), now=0.0)
    for now, size in enumerate((6 * 10**9, 9 * 10**9, 7 * 10**9)):
        held = {"name": "qwen3:8b", "size": size, "size_vram": size, "digest": "a" * 64, "context_length": 40_960}
        facts = observe_ps(facts, json.dumps({"models": [held]}).encode(), now=float(now), wall=0.0)
    assert measured_memory(facts, canonical_name("qwen3:8b"), 40_960) == kept
