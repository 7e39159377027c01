"""Which runner serves a request, and for what it would be loaded anew."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.fleet.observations import observe_load_finished, observe_ps, observe_show, observe_tags
from ollama_router_core.fleet.runners import Load, misfit, runner_of
from ollama_router_core.fleet.snapshot import InstalledModel, LoadedModel, ModelFacts, ServerFacts

BASE, COPY, SHORT, TUNED = (canonical_name(name) for name in ("llama3.1:8b", "copy", "short", "tuned"))
MLX = canonical_name("mlx")
WEIGHTS = "a" * 64
SHOW = b"""{"modelfile": "# FROM copy\\nFROM /models/blobs/sha256-%b\\nADAPTER /models/blobs/sha256-%b\\nSYSTEM x\\n",
"parameters": "stop  \\"<end>\\"\\nnum_ctx                        2048\\nnum_ctx 4096", "model_info": {}}"""


def server(*loaded: LoadedModel) -> ServerFacts:
    """A server with a model, a copy of it, one with a shorter context, one with an adapter, and one that MLX runs."""
    facts = {
        BASE: ModelFacts(weights=WEIGHTS, context_length=131_072),
        COPY: ModelFacts(weights=WEIGHTS, context_length=131_072),
        SHORT: ModelFacts(weights=WEIGHTS, num_ctx=2048),
        TUNED: ModelFacts(weights=WEIGHTS, adapters=("b" * 64,)),
        MLX: ModelFacts(),
    }
    installed = {
        name: InstalledModel(name=name, spelling=name, size=5, digest=name, facts=known)
        for name, known in facts.items()
    }
    installed[MLX] = replace(installed[MLX], format="safetensors")
    return ServerFacts(name="a", up=True, installed=installed, loaded={row.name: row for row in loaded})


def row(name: str = BASE, context: int | None = 4096, **more: object) -> LoadedModel:
    """A loaded runner."""
    return replace(LoadedModel(name=canonical_name(name), size=5, size_vram=5, context_length=context), **more)


def test_names_of_one_file_share_a_runner() -> None:
    """Whatever name loaded it; a name whose file is not known has its own only."""
    facts = server(row())
    assert [runner_of(facts, name) is facts.loaded[BASE] for name in (BASE, COPY, SHORT, TUNED)] == [True] * 4
    assert runner_of(facts, MLX) is None
    assert runner_of(facts, canonical_name("unheard:of")) is None


@pytest.mark.parametrize(
    ("model", "loaded", "asked", "why"),
    [
        (BASE, row(automatic=True, options=frozenset()), Load(), None),
        (BASE, row(automatic=True, options=frozenset()), Load(4096), None),
        (BASE, row(automatic=True, options=frozenset()), Load(8192), "8192"),
        (BASE, row(context=8192, automatic=False), Load(8192), None),
        (BASE, row(context=8192, automatic=False), Load(), "the server's own context"),
        (BASE, row(context=8192), Load(), None),
        (BASE, row(context=131_072, automatic=False), Load(999_999), None),
        (COPY, row(automatic=True), Load(), None),
        (SHORT, row(automatic=True), Load(), "2048"),
        (SHORT, row(automatic=True), Load(4096), None),
        (TUNED, row(automatic=True), Load(), "other adapters"),
        (MLX, row("mlx", automatic=True), Load(9999, frozenset({("num_batch", 7)})), None),
        (BASE, row(options=frozenset()), Load(None, frozenset({("shift", False)})), "another shift"),
        (BASE, row(options=frozenset({("num_thread", 4)})), Load(), "another num_thread"),
        (BASE, row(options=frozenset({("num_gpu", 0)})), Load(), None),
        (BASE, row(options=frozenset({("num_gpu", 0)})), Load(None, frozenset({("num_gpu", 9)})), "another num_gpu"),
        (BASE, row(options=None), Load(None, frozenset({("num_gpu", 9)})), None),
    ],
)
def test_what_makes_a_runner_load_anew(model: str, loaded: LoadedModel, asked: Load, why: str | None) -> None:
    """Contexts that were chosen must be equal, those that Ollama chooses agree; options must be the same."""
    assert misfit(server(loaded), canonical_name(model), loaded, asked) == why


def test_the_context_that_ollama_chooses_is_learned() -> None:
    """Once `/api/ps` has told it, a runner of another context is known to be loaded anew."""
    facts = observe_load_finished(server(), BASE, now=1.0)
    listed = b'{"models": [{"name": "llama3.1:8b", "size": 9, "size_vram": 8, "context_length": 32768, "digest": "x"}]}'
    facts = observe_ps(facts, listed, now=2.0, wall=0.0)
    assert facts.automatic == {BASE: 32_768}
    assert facts.measured == {(BASE, 32_768): 8, (BASE, None): 8}
    loaded = row(context=8192)
    assert misfit(facts, BASE, loaded, Load()) == "32768"
    assert misfit(facts, BASE, row(context=32_768, automatic=False), Load()) is None


def test_what_another_client_loaded_is_not_known() -> None:
    """A context that changed between two polls was not our doing."""
    facts = observe_load_finished(server(), BASE, now=1.0, load=Load(8192))
    listed = b'{"models": [{"name": "llama3.1:8b", "size": 9, "context_length": %d}]}'
    same = observe_ps(facts, listed % 8192, now=2.0, wall=0.0)
    other = observe_ps(same, listed % 4096, now=3.0, wall=0.0)
    assert (same.loaded[BASE].automatic, other.loaded[BASE].automatic) == (False, None)


def test_show_tells_the_file_its_adapters_and_its_context() -> None:
    """The digest of FROM, those of ADAPTER, the last num_ctx; a comment is no instruction."""
    tags = b'{"models": [{"name": "copy", "size": 5, "digest": "d", "details": {"format": "gguf"}}]}'
    facts = observe_tags(ServerFacts(name="a"), tags, now=0.0)
    facts = observe_show(facts, COPY, SHOW % (WEIGHTS.encode(), b"c" * 64))
    assert facts.installed is not None
    known = facts.installed[COPY].facts
    assert known is not None
    assert (known.weights, known.adapters, known.num_ctx) == (WEIGHTS, ("c" * 64,), 4096)


def test_two_runners_of_one_name_both_hold_memory() -> None:
    """After a pull of newer files the old runner stays until it expires; requests reach the new one."""
    rows = '{"name": "llama3.1:8b", "size": %d, "digest": "%s", "context_length": 4096}'
    listed = f'{{"models": [{rows % (7, "old")}, {rows % (9, BASE)}]}}'.encode()
    facts = observe_ps(server(), listed, now=0.0, wall=0.0)
    assert [facts.loaded[BASE].size, [one.size for one in facts.outdated]] == [9, [7]]
