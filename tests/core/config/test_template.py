"""The file that `orouter init` writes."""

from __future__ import annotations

import re

from ollama_router_core.config import Config, ProbedServer, load_config, render_template, settings_reference


def uncommented(text: str) -> str:
    """The file with every example and default taken into use."""
    return re.sub(r"(?m)^( *)#(\S)", r"\1\2", text)


def test_without_a_probe_it_holds_the_local_ollama():
    """The file works as it is on a machine with an Ollama: its port is left alone."""
    config = load_config(render_template())
    assert [(server.host, server.port) for server in config.servers.values()] == [("127.0.0.1", 11434)]
    assert config.proxy_port == 11435


def test_every_setting_is_in_it_with_its_meaning():
    """Each key of a file stands in the template, next to its description."""
    text = render_template()
    words = " ".join(re.sub(r"(?m)^ *#", "", text).split())
    for setting in settings_reference():
        key = re.split(r"[.\]]", setting.path)[-1]
        assert re.search(rf"(?m)^ *#? *(- {{)?{key}:|[{{ ]{key}:", text), setting.path
        if "memory_patterns[]" not in setting.path:
            assert " ".join(setting.description.split()) in words, setting.path


def test_examples_load_when_uncommented():
    """Taking away every # gives a file that loads, with all defaults as they were."""
    config = load_config(uncommented(render_template()))
    assert set(config.external_hosts) == {"openai", "anthropic"}
    assert config.models.explicit_assignments["gpt-4o"] == "openai"
    assert (config.limits, config.request_timeout) == (Config().limits, Config().request_timeout)


def test_probed_servers_are_written_with_what_they_said():
    """Name, host and port as settings; version and models, or the failure, as a comment of one line."""
    text = render_template(
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
