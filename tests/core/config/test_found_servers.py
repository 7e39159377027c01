"""A config with the servers that discovery found."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config import Config, FoundServer, FoundServers, found_server, load_config, with_found
from ollama_router_core.config.discovery_settings import FoundServerSettings
from ollama_router_core.config.found_servers import unknown_assignments
from ollama_router_core.errors import ConfigError
from ollama_router_core.routing.selector import assigned_destination

AUTO = load_config("servers: {a: {host: 10.0.0.1}}\nproxy_port: 1\ndiscovery: {use: auto, files: [f.yml]}\n")
ASK = load_config("discovery: {files: [f.yml]}\nproxy_port: 1\n")


def found(host: str, name: str = "", port: int = 11434, **settings: object) -> FoundServer:
    """A server that a look told of."""
    built = found_server(name or host, "dns:x", host, port, FoundServerSettings(**settings))  # type: ignore[arg-type]
    assert built is not None
    return built


def test_a_config_may_list_no_server_where_they_are_found():
    """Nothing else has to be in it."""
    assert ASK.servers == {}


def test_found_servers_are_added_with_what_holds_for_all():
    """And their sources are told; the config itself stays."""
    config, sources = with_found(AUTO, [found("10.0.0.2", priority=4, max_concurrent=2)])
    assert sources == {"10.0.0.2": "dns:x"}
    assert (config.servers["10.0.0.2"].priority, config.servers["10.0.0.2"].max_concurrent) == (4, 2)
    assert config.servers["10.0.0.2"].drain is False
    assert list(AUTO.servers) == ["a"]
    assert with_found(AUTO, []) == (AUTO, {})


def test_where_the_operator_is_asked_a_found_server_is_drained():
    """It is listed and probed, and gets nothing."""
    assert with_found(ASK, [found("10.0.0.2")])[0].servers["10.0.0.2"].drain is True


def test_one_address_is_one_server():
    """That of the config, else the first; never the router itself. Another one with a taken name gets a longer one."""
    config, sources = with_found(
        AUTO,
        [
            found("10.0.0.1"),
            found("10.0.0.2", "a"),
            found("10.0.0.2", "b"),
            found("localhost", port=1),
            found("::1", port=1),
        ],
    )
    assert set(config.servers) == {"a", "a-10.0.0.2-11434"}
    assert set(sources) == {"a-10.0.0.2-11434"}


def test_a_name_that_several_have_is_nobodys():
    """So that what is said of a name, such as an assignment or an admin's consent, never holds for another machine."""
    one, two = found("10.0.0.2", "gpu"), found("10.0.0.3", "gpu")
    assert set(with_found(ASK, [one])[0].servers) == {"gpu"}
    assert set(with_found(ASK, [one, two])[0].servers) == {"gpu-10.0.0.2-11434", "gpu-10.0.0.3-11434"}


def test_a_name_that_is_had_is_not_taken_by_claiming_it():
    """Whoever announces a server under another's name gets a longer one, for as long as the other is there."""
    old, new = found("10.0.0.3", "gpu"), found("10.0.0.2", "gpu")
    before = with_found(ASK, [old])[0].servers
    config, _ = with_found(ASK, [new, old], before)
    assert {name: server.host for name, server in config.servers.items()} == {
        "gpu": "10.0.0.3",
        "gpu-10.0.0.2-11434": "10.0.0.2",
    }
    assert with_found(ASK, [new, old], config.servers)[0] == config
    assert with_found(ASK, [new], config.servers)[0].servers["gpu"].host == "10.0.0.2"
    declared = load_config("servers: {gpu: {host: a}}\nproxy_port: 1\ndiscovery: {files: [f.yml]}\n")
    assert with_found(declared, [old], before)[0].servers.keys() == {"gpu", "gpu-10.0.0.3-11434"}


@pytest.mark.parametrize("there", ["the config", "one found", "one that had it"])
def test_a_name_with_an_address_is_one_server_s(there: str) -> None:
    """A server whose longer name somebody has already is left out; one that was there before stays."""
    longer = "gpu-10.0.0.2-11434"
    declared = f"servers: {{{longer}: {{host: a}}}}\n" if there == "the config" else ""
    config = load_config(f"{declared}discovery: {{files: [f.yml]}}\nproxy_port: 1\n")
    two, claimer = [found("10.0.0.2", "gpu"), found("10.0.0.3", "gpu")], found("10.0.0.1", longer)
    before = with_found(config, two)[0].servers if there == "one that had it" else {}
    with_it, sources = with_found(config, [claimer, *two], before)
    host = {"the config": "a", "one found": "10.0.0.1", "one that had it": "10.0.0.2"}[there]
    assert with_it.servers[longer].host == host
    assert "gpu-10.0.0.3-11434" in sources


def test_one_of_two_with_a_name_may_be_missing_for_a_while():
    """It has not moved to where the other is."""
    book = FoundServers()
    one, two = found("10.0.0.2", "gpu"), found("10.0.0.3", "gpu")
    book.report("mdns:x", [one, two], 0.0, keep=60.0)
    book.report("mdns:x", [two], 59.0, keep=60.0)
    assert book.all() == (one, two)
    book.report("mdns:x", [two], 60.0, keep=60.0)
    assert book.all() == (two,)


def test_a_server_that_moves_keeps_its_name():
    """A pod that is started anew elsewhere is found under its name at once; its old address is not kept."""
    book = FoundServers()
    book.report("dns:x", [found("10.0.0.2", "ollama-0"), found("10.0.0.3", "ollama-1")], 0.0, keep=60.0)
    book.report("dns:x", [found("10.0.0.4", "ollama-0")], 1.0, keep=60.0)
    config, _ = with_found(ASK, book.all())
    assert {name: server.host for name, server in config.servers.items()} == {
        "ollama-0": "10.0.0.4",
        "ollama-1": "10.0.0.3",
    }


def test_a_model_may_be_assigned_to_a_server_that_is_still_to_be_found():
    """A warning until it is there, and only where servers are looked for."""
    text = "servers: {a: {host: 10.0.0.1}}\nmodels: {explicit_assignments: {m: gpu-7}}\n"
    config = load_config(f"{text}discovery: {{use: auto, files: [f.yml]}}\n")
    (told,) = unknown_assignments(config)
    assert told.startswith("models.explicit_assignments.m: there is no server 'gpu-7' yet")
    with_it = with_found(config, [found("10.0.0.7", "gpu-7")])[0]
    assert unknown_assignments(with_it) == []
    request = RouteRequest(model_text="m", model=canonical_name("m"))
    assert (assigned_destination(request, config), assigned_destination(request, with_it)) == (None, "gpu-7")
    with pytest.raises(ConfigError, match="expected the name of a server or an external host"):
        load_config(text)


def test_no_more_than_a_thousand_are_added():
    """A network in which somebody announces servers without end costs no more than that."""
    many = [found("10.0.0.2", f"s{port}", port) for port in range(1, 1_102)]
    assert len(with_found(AUTO, many)[1]) == 1_000


def test_what_cannot_be_a_server_is_none():
    """Records may say anything."""
    assert found_server("x", "dns:x", "not a host", 11434, FoundServerSettings()) is None
    assert found_server("x", "dns:x", "host", 0, FoundServerSettings()) is None


def test_a_server_that_is_missing_goes_after_a_while():
    """And a source that is no longer looked at takes its servers along."""
    book = FoundServers()
    book.report("dns:x", [found("10.0.0.2"), found("10.0.0.3")], 0.0, keep=60.0)
    book.report("dns:x", [found("10.0.0.3")], 59.0, keep=60.0)
    assert book.counts() == {"dns:x": 2}
    book.report("dns:x", [found("10.0.0.3")], 60.0, keep=60.0)
    assert [one.name for one in book.all()] == ["10.0.0.3"]
    book.retain([])
    assert book.all() == ()


HOSTS = st.lists(st.tuples(st.sampled_from(["a", "b", "10.0.0.1", "10.0.0.9"]), st.integers(1, 3)), max_size=4)


@given(HOSTS)
def test_the_order_in_which_sources_answer_does_not_matter(hosts: list[tuple[str, int]]) -> None:
    """Every router of a fleet has the same servers under the same names."""
    configs = set[str]()
    for order in itertools.permutations(range(len(hosts))):
        book = FoundServers()
        for place in order:
            host, port = hosts[place]
            book.report(f"file:{place}", [found(host, "one", port)], 0.0, keep=1.0)
        config: Config = with_found(AUTO, book.all())[0]
        configs.add(config.model_dump_json())
    assert len(configs) == 1
