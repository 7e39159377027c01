"""The config file of the Rails application this project replaces loads unchanged."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from ollama_router_core.config import Config, ExternalHost, Logging, MemoryPattern, Server, load_config

TEXT = (Path(__file__).parents[2] / "data" / "ollama_proxy.yml").read_text(encoding="utf-8")


def load(environment: str) -> Config:
    """One environment of the example, with every warning an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_config(TEXT, environment=environment)


@pytest.mark.parametrize("environment", ["default", "development", "test", "production"])
def test_every_environment_loads(environment: str):
    """All four load without a warning or a problem."""
    assert load(environment).servers


def test_every_key_has_its_value():
    """Each key of the original reaches the setting of the same name."""
    config = load("default")
    assert config.proxy_port == 11434
    assert list(config.servers) == ["small", "medium", "large"]
    assert config.servers["small"] == Server(
        host="192.168.10.11", port=11434, name="Small server", priority=1, max_memory_gb=8.0, enabled=True
    )
    assert config.servers["medium"].max_memory_gb == 24.0
    assert config.servers["large"].max_memory_gb is None
    assert config.external_hosts["openai"] == ExternalHost(
        host="api.openai.com", port=443, protocol="https", api_key_env="OPENAI_API_KEY", name="OpenAI", enabled=True
    )
    assert not config.external_hosts["anthropic"].enabled
    assert config.routing_strategy == "priority_with_memory"
    assert (config.request_timeout, config.health_check_interval) == (300.0, 30.0)
    assert (config.server_busy_threshold_ms, config.model_info_timeout) == (1000.0, 10.0)
    assert config.logging == Logging(
        enabled=True, level="info", directory="log/ollama_proxy", max_size="100MB", max_files=10
    )


def test_the_models_section_has_its_values():
    """Assignments, overrides, patterns in their order, default and cache."""
    models = load("default").models
    assert models.explicit_assignments == {"gpt-4": "openai", "claude-3-opus": "anthropic", "llama2:70b": "large"}
    assert models.memory_overrides == {"mixtral:8x7b": 48.0, "codellama:34b": 22.0}
    assert models.memory_patterns == tuple(
        MemoryPattern(pattern=pattern, memory_gb=memory)
        for pattern, memory in [
            (".*-7b.*", 4.5),
            (".*-13b.*", 8.0),
            (".*-34b.*", 20.0),
            (".*-70b.*", 40.0),
            (".*-8x7b.*", 45.0),
        ]
    )
    assert (models.default_memory_gb, models.cache_model_info, models.cache_ttl_seconds) == (4.5, True, 3600.0)


def test_environments_override_whole_keys():
    """What an environment writes replaces the merged key; what it merges stays."""
    assert load("development").logging == load("default").logging.model_copy(update={"level": "debug"})
    test = load("test")
    assert (list(test.servers), test.proxy_port, test.request_timeout) == (["only"], 11436, 5.0)
    assert test.models.explicit_assignments == {}
    assert not test.models.cache_model_info
    production = load("production")
    assert (production.servers["small"].enabled, production.servers["small"].host) == (False, "10.1.0.11")
    assert production.servers["large"] == load("default").servers["large"]
    assert (production.logging.level, production.logging.directory) == ("warn", "/var/log/ollama_proxy")
