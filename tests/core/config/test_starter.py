"""The file that `orouter init` writes."""

from __future__ import annotations

import re

from ollama_router_core.config import Config, ProbedServer, load_config, render_starter


def uncommented(text: str) -> str:
    """The file with every example and default taken into use."""
    return re.sub(r"(?m)^( *)#(\S)", r"\1\2", text)


def test_without_a_probe_it_holds_the_local_ollama():
    """The file works as it is on a machine with an Ollama: its port is left alone."""
    config = load_config(render_starter())
    assert [(server.host, server.port) for server in config.servers.values()] == [("127.0.0.1", 11434)]
    assert config.proxy_port == 11433


def test_it_is_short_enough_to_read():
    """Some twenty lines for one server, and it says where the rest is explained."""
    text = render_starter()
    assert len(text.splitlines()) <= 25
    assert "orouter config reference" in text


def test_what_it_does_not_say_is_default():
    """Every setting but the servers, the port, the strategy and who may spend is as without a file."""
    config = load_config(render_starter())
    assert config.external_hosts_for == "granted"
    assert config.routing_strategy == "fastest"
    usual = {"proxy_port": Config().proxy_port, "routing_strategy": Config().routing_strategy}
    said = {"servers": {}, "external_hosts_for": "all", **usual}
    assert config.model_copy(update=said) == Config()


def test_examples_load_when_uncommented():
    """Taking away every # gives a file that loads and assigns a paid model."""
    config = load_config(uncommented(render_starter()))
    assert set(config.external_hosts) == {"openai"}
    assert config.models.explicit_assignments["gpt-4o"] == "openai"


def test_probed_servers_are_written_with_what_they_said():
    """Name, host and port as settings; version and models, or the failure, as a comment of one line."""
    text = render_starter(
        [
            ProbedServer(name="gpu box", host="10.0.0.5", version="0.12.3", models=("llama3.1:70b", "phi4")),
            ProbedServer(name="gpu-box", host="10.0.0.6", port=8443, protocol="https", error="refused\nport: 1"),
            ProbedServer(name="again", host="10.0.0.5"),
        ]
    )
    config = load_config(text)
    assert [(name, server.host, server.port, server.protocol) for name, server in config.servers.items()] == [
        ("gpu-box", "10.0.0.5", 11434, "http"),
        ("gpu-box-2", "10.0.0.6", 8443, "https"),
    ]
    assert "    # Ollama 0.12.3. Models: llama3.1:70b, phi4\n" in text
    assert "    # Did not answer: refused port: 1\n" in text
    assert config.proxy_port == 11434


def test_a_long_list_of_models_is_cut():
    """A server with a hundred models does not fill the file."""
    models = tuple(f"model-{number}" for number in range(100))
    text = render_starter([ProbedServer(name="big", host="10.0.0.5", version="0.12.3", models=models)])
    assert "model-7 and 92 more" in " ".join(text.replace("#", " ").split())
    assert "model-8" not in text
