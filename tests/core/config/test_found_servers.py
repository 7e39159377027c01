"""A config with the servers that discovery found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.api.requests import RouteRequest
from ollama_router_core.config import FoundServer, FoundServers, found_server, load_config, with_found
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


@pytest.mark.parametrize("word", ["all", "where-it-fits"])
def test_a_word_for_servers_is_no_server_s_name(word: str) -> None:
    """A found server that is called so is called by its address, too."""
    assert set(with_found(ASK, [found("10.0.0.2", word)])[0].servers) == {f"{word}-10.0.0.2-11434"}


def test_who_was_first_does_not_matter():
    """A router that starts calls servers what those call them that have run for long."""
    book = FoundServers()
    book.report("dns:x", [found("10.0.0.3", "gpu")], 0.0, keep=60.0)
    book.report("dns:x", [found("10.0.0.3", "gpu"), found("10.0.0.2", "gpu")], 1.0, keep=60.0)
    assert set(with_found(ASK, book.all())[1]) == {"gpu-10.0.0.3-11434", "gpu-10.0.0.2-11434"}


@pytest.mark.parametrize("there", ["the config", "one found"])
def test_a_name_with_an_address_is_one_server_s(there: str) -> None:
    """It is its own before it is anybody's by name; the config's is the config's."""
    longer = "gpu-10.0.0.2-11434"
    declared = f"servers: {{{longer}: {{host: a}}}}\n" if there == "the config" else ""
    config = load_config(f"{declared}discovery: {{files: [f.yml]}}\nproxy_port: 1\n")
    two, claimer = [found("10.0.0.2", "gpu"), found("10.0.0.3", "gpu")], found("10.0.0.1", longer)
    with_it, sources = with_found(config, [claimer, *two])
    assert with_it.servers[longer].host == {"the config": "a", "one found": "10.0.0.2"}[there]
    assert {"gpu-10.0.0.3-11434", f"{longer}-10.0.0.1-11434"} <= set(sources)


def test_of_a_long_name_the_address_stays():
    """Else two of them would be called alike, and one left out."""
    long = [found(host, "x" * 80) for host in ("10.0.0.2", "10.0.0.3")]
    assert all(name.endswith(("10.0.0.2-11434", "10.0.0.3-11434")) for name in with_found(ASK, long)[1])
    assert len(with_found(ASK, long)[1]) == 2


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


HOSTS = st.sampled_from(["a", "b", "10.0.0.1", "10.0.0.9"])
NAMES = st.sampled_from(["a", "one", "two", "one-a-1", "one-10.0.0.9-1"])
SEEN = st.lists(st.builds(found, HOSTS, NAMES, port=st.integers(1, 2)), max_size=4)
HISTORY = st.lists(st.tuples(st.sampled_from(["file:x", "file:y", "file:z"]), SEEN), max_size=4)
LAST = st.fixed_dictionaries(dict.fromkeys(("file:x", "file:y", "file:z"), SEEN))


def seen(book: FoundServers, looks: Iterable[tuple[str, list[FoundServer]]], now: float) -> None:
    """Report looks at one moment."""
    for source, servers in looks:
        book.report(source, [replace(one, source=source) for one in servers], now, keep=60.0)


@given(HISTORY, HISTORY, LAST)
def test_names_depend_on_what_is_seen_now_and_on_nothing_else(
    one: list[tuple[str, list[FoundServer]]], other: list[tuple[str, list[FoundServer]]], last: dict[str, Any]
) -> None:
    """Routers that saw other things before, or sources in another order, have the same servers under the same names."""
    configs = []
    for history, order in ((one, list(last)), (other, [*reversed(last)])):
        book = FoundServers()
        seen(book, history, 0.0)
        seen(book, ((source, last[source]) for source in order), 60.0)
        configs.append(with_found(AUTO, book.all())[0])
    assert configs[0] == configs[1]


@given(LAST)
def test_what_is_found_at_one_address_is_one_server_and_none_is_lost(last: dict[str, Any]) -> None:
    """Whoever claims which name."""
    book = FoundServers()
    seen(book, last.items(), 0.0)
    config, sources = with_found(AUTO, book.all())
    there = {(one.settings.host, one.settings.port) for one in book.all()} - {("10.0.0.1", 11434)}
    assert {(config.servers[name].host, config.servers[name].port) for name in sources} == there
    assert len(sources) == len(there)
