"""Laws of reading and writing config files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.properties.strategies import configs, destination_names, hosts
from ollama_router_core.config import (
    Config,
    ProbedServer,
    Problem,
    dump_config,
    load_config,
    redacted,
    render_starter,
)
from ollama_router_core.config.checks import LOCALHOST, folded_host
from ollama_router_core.config.expansion import escape, expand
from ollama_router_core.config.nodes import NodeReader
from ollama_router_core.config.yaml_document import compose
from ollama_router_core.errors import ConfigError

EXAMPLE = (Path(__file__).parents[2] / "data" / "ollama_proxy.yml").read_text(encoding="utf-8")

variables = st.dictionaries(st.sampled_from(["A", "B", "PORT"]), st.text(max_size=8))


# A whole config costs some 30 ms to draw, write and read: enough examples is fewer here than elsewhere.
# a whole config takes long to parse, most of all with the oldest PyYAML and busy neighbours
WHOLE_CONFIGS = settings(max_examples=min(settings.default.max_examples // 2, 500))


@WHOLE_CONFIGS
@given(configs(), variables, st.sampled_from(["default", "development", "test", "production", "staging"]))
def test_dump_and_load_round_trip(config: Config, env: dict[str, str], environment: str):
    """What `dump_config` writes, `load_config` reads back equal: whatever the variables, and in any environment."""
    assert load_config(dump_config(config), env=env, environment=environment) == config


@given(st.one_of(st.none(), st.text(max_size=30)), st.text("abc@:/#?&= ", max_size=8))
def test_redaction_only_touches_the_database(url: str | None, password: str):
    """`redacted` changes nothing but `database_url`, and leaves no password of a URL in it."""
    config = Config(proxy_port=80, database_url=url and url.encode(errors="replace").decode())
    assert redacted(config).model_copy(update={"database_url": config.database_url}) == config
    secret = Config(database_url=f"postgresql://router:X{password}X@db.lan/router")
    assert redacted(secret).database_url == "postgresql://router:***@db.lan/router"


scalars = st.sampled_from(["1", "0x1F", "010", "1.5", "yes", "off", "~", "abc", "'1'", '"a b"', "1_000", "-3", "1:30"])
keys = st.sampled_from(["a", "b", "c", "d", "'1'", "'on'"])


Merged = dict[str, Any]


@st.composite
def merging_documents(draw: st.DrawFn) -> tuple[str, Merged]:
    """A document of anchored mappings that merge earlier ones, alone or in lists, and override some of their keys.

    With it what it means: an own key wins, then the first of several merged mappings. (PyYAML's own loaders are no
    judge: from 6.0.4 on a key that came by a merge wins over the one that overrode it, once that mapping is merged.)
    """
    lines, meant = [], Merged()
    for number in range(draw(st.integers(1, 6))):
        earlier = [f"m{index}" for index in range(number)]
        own = {key: draw(scalars) for key in draw(st.lists(keys, unique=True, max_size=4))}
        pairs = [f"{key}: {value}" for key, value in own.items()]
        values = {yaml.safe_load(key): yaml.safe_load(value) for key, value in own.items()}
        if earlier and draw(st.booleans()):
            nested = draw(st.sampled_from(earlier))
            pairs.append(f"nested: *{nested} ")
            values["nested"] = meant[nested]
        merged = draw(st.lists(st.sampled_from(earlier), max_size=3)) if earlier else []
        for name in merged:
            values = meant[name] | values
        if merged:
            listed = ", ".join(f"*{name}" for name in merged)
            alone = len(merged) == 1 and draw(st.booleans())
            pairs.insert(draw(st.integers(0, len(pairs))), f"<<: {listed} " if alone else f"<<: [{listed}]")
        lines.append(f"m{number}: &m{number} {{{', '.join(pairs)}}}")
        meant[f"m{number}"] = values
    return "\n".join(lines), meant


@given(merging_documents())
def test_mappings_merge_as_yaml_means(drawn: tuple[str, Merged]):
    """Anchors, aliases and merge keys: an own key wins, then the first of several merged mappings."""
    document, meant = drawn
    reader = NodeReader({})
    values = reader.read(compose(document))
    assert reader.problems == []
    assert values == meant
    assert list(values["m0"]) == list(meant["m0"])


def test_of_two_merge_keys_in_one_mapping_the_later_wins():
    """YAML has no word for it, and PyYAML read it so until 6.0.3."""
    reader = NodeReader({})
    text = "m0: &m0 {a: 1, b: 1}\nm1: &m1 {a: 2, c: 2}\nm2: {<<: *m0, <<: [*m1], c: 3}"
    assert reader.read(compose(text))["m2"] == {"a": 2, "b": 1, "c": 3}
    assert reader.problems == []


overrides = st.fixed_dictionaries(
    {},
    optional={
        "proxy_port": st.integers(1, 65535),
        "request_timeout": st.integers(1, 900),
        "servers": st.just({"other": {"host": "10.9.9.9"}}),
        "model_config": st.fixed_dictionaries({"default_memory_gb": st.integers(1, 9)}),
        "routing_strategy": st.just("round_robin"),
    },
)


@given(st.lists(overrides, min_size=1, max_size=4))
def test_environments_merge_as_yaml_merges(layers: list[dict[str, object]]):
    """An environment that merges others is the section that YAML's own merge gives: whole keys, nothing deeper."""
    base = {"servers": {"s": {"host": "10.0.0.1", "priority": 3}}}
    parts = ["base: &base " + yaml.safe_dump(base, default_flow_style=True).strip()]
    previous = "base"
    for number, layer in enumerate(layers):
        inside = yaml.safe_dump(layer, default_flow_style=True).strip()[1:-1]
        parts.append(f"env{number}: &env{number} {{<<: *{previous} , {inside}}}".replace(", }", "}"))
        previous = f"env{number}"
    text = "\n".join(parts)
    merged = yaml.safe_load(text)[previous]
    assert load_config(text, environment=previous) == load_config(yaml.safe_dump(merged))


_STRUCTURE = ("a: ", "- ", "\n", "  ", "\t", "{", "}", "[", "]", "'", '"', "| ", "> ", "? ", "---\n", "...", "%YAML 9")
_REFERENCES = ("&a ", "*a", "<<: ", "!!int ", "!!float ", "!!binary ", "!!set ", "!x ", "${", "$${", ":-")
_SETTINGS = ("servers: ", "host: h", "production:\n", "on: ", "model_config: ", "proxy_port: ")
_VALUES = ("=", "~", "0b_", "\\U", "9" * 30, "2024-01-01", ".nan", "\ufeff", "\x85", "\u2028", "\x00")
fragments = st.sampled_from(_STRUCTURE + _REFERENCES + _SETTINGS + _VALUES)


def problems_of(text: str, env: dict[str, str]) -> tuple[Problem, ...]:
    """The problems of a text; none when it loads."""
    try:
        load_config(text, env=env)
    except ConfigError as error:
        return error.problems
    return ()


@given(st.one_of(st.text(), st.lists(fragments, max_size=25).map("".join)), variables)
def test_no_text_raises_anything_else(text: str, env: dict[str, str]):
    """Whatever the text, the answer is a `Config` or a `ConfigError` with problems to show."""
    for problem in problems_of(text, env):
        assert problem.message
        assert str(problem).isprintable()


@given(st.data())
def test_no_damage_to_a_good_file_raises_anything_else(data: st.DataObject):
    """A good file with pieces cut out and others put in is read or refused, never a crash."""
    text = EXAMPLE
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        text = text[:start] + data.draw(fragments) + text[start + data.draw(st.integers(0, 30)) :]
    lines = [problem.line for problem in problems_of(text, {}) if problem.line is not None]
    assert all(1 <= line <= len(text) for line in lines)


@given(st.text(), variables)
def test_expansion_undoes_escaping(text: str, env: dict[str, str]):
    """`expand(escape(text))` is `text`, with no problem, whatever the variables are."""
    expanded = expand(escape(text), env)
    assert (expanded.text, expanded.problems) == (text, ())


@given(st.text(), st.text(max_size=8))
def test_values_of_variables_are_not_expanded_again(value: str, before: str):
    """A variable's value goes in as it is: it cannot bring in another variable."""
    expanded = expand(escape(before) + "-${A}", {"A": value, "SECRET": "hidden"})
    assert expanded.text == before + "-" + value


probed = st.builds(
    ProbedServer,
    name=st.one_of(destination_names(), st.text(max_size=10)),
    host=st.one_of(hosts(), st.sampled_from(["localhost", "127.0.0.1", "::1"])),
    port=st.sampled_from([11434, 11433, 8080]),
    protocol=st.sampled_from(["http", "https"]),
    version=st.none() | st.text(max_size=8),
    models=st.lists(st.text(max_size=12), max_size=4).map(tuple),
    error=st.none() | st.text(max_size=30),
)


@pytest.mark.timeout(600)
@WHOLE_CONFIGS
@given(st.lists(probed, max_size=5))
def test_the_starter_loads_whatever_a_probe_found(servers: list[ProbedServer]):
    """The file that `init` writes loads, also with every example uncommented, and names each address once."""
    text = render_starter(servers)
    addresses = {(folded_host(server.host), server.port) for server in servers} or {(LOCALHOST, 11434)}
    written = [(folded_host(server.host), server.port) for server in load_config(text).servers.values()]
    assert sorted(written) == sorted(addresses)
    load_config(re.sub(r"(?m)^( *)#(\S)", r"\1\2", text))


@pytest.mark.parametrize("environment", ["default", "development", "test", "production"])
def test_the_example_round_trips(environment: str):
    """Every environment of the original's file survives a dump and a load."""
    config = load_config(EXAMPLE, environment=environment)
    assert load_config(dump_config(config)) == config
