"""Hypothesis strategies for the core's values, shared by every property."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import strategies as st

from ollama_router_core.api.model_names import canonical_name, parse_model_name
from ollama_router_core.config import (
    Config,
    ExternalHost,
    Limits,
    Logging,
    MemoryPattern,
    ModelSettings,
    Server,
)
from ollama_router_core.errors import InvalidModelName

_FIRST = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


def _part(more: str, *, longest: int = 12) -> st.SearchStrategy[str]:
    return st.text(_FIRST + more, min_size=1, max_size=longest).map(
        lambda text: text if text[0] in _FIRST else f"m{text}"
    )


_COMMON = ["llama3.1:70b", "LLAMA3.1:70B", "Qwen3:8B", "mixtral:8x7b-q4_0", "gpt-oss:20b-cloud", "phi4", "phi4:latest"]
_PREFIXES = ["", "", "", "library/", "Alice/", "registry.ollama.ai/library/", "hf.co/bob/", "localhost:5000/a_b/"]
_SOURCES = ["", "", "", ":cloud", ":LOCAL"]


def model_names() -> st.SearchStrategy[str]:
    """Texts that Ollama takes as model names: short and full ones, in any case, with and without a source."""
    tag = st.one_of(st.just(""), _part("-.").map(":{}".format))
    built = st.builds("{}{}{}{}".format, st.sampled_from(_PREFIXES), _part("-."), tag, st.sampled_from(_SOURCES))
    return st.one_of(st.sampled_from(_COMMON), built.filter(_is_valid))


def _is_valid(text: str) -> bool:
    try:
        parse_model_name(text)
    except InvalidModelName:
        return False
    return True


def destination_names() -> st.SearchStrategy[str]:
    """Names of servers and external hosts, those that YAML would read as something else among them."""
    awkward = st.sampled_from(["on", "null", "1", "0x1f", "1e3", "1:30", "2024-01-01", "a b"])
    return st.one_of(awkward, _part("-.", longest=8))


def hosts() -> st.SearchStrategy[str]:
    """Host names and addresses other than this machine's."""
    return st.one_of(
        st.integers(0, 2**24 - 1).map(lambda number: str(ipaddress.IPv4Address((10 << 24) + number))),
        st.sampled_from(["fd00::1", "2001:db8::ff", "gpu", "gpu-1.example.lan", "a_b.c", "GPU"]),
    )


_ports = st.integers(1, 65535)
_gib = st.one_of(st.integers(1, 2000), st.floats(0.001, 2000.0))
_seconds = st.one_of(st.integers(1, 10_000), st.floats(0.001, 1e9))
_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def servers() -> st.SearchStrategy[Server]:
    """One server's settings."""
    return st.builds(
        Server,
        host=hosts(),
        port=_ports,
        protocol=st.sampled_from(["http", "https"]),
        name=st.none() | _text,
        priority=st.integers(-5, 20),
        max_memory_gb=st.none() | _gib,
        max_concurrent=st.none() | st.integers(1, 64),
        enabled=st.booleans(),
    )


def external_hosts() -> st.SearchStrategy[ExternalHost]:
    """One external host's settings."""
    return st.builds(
        ExternalHost,
        host=hosts(),
        port=_ports,
        protocol=st.sampled_from(["http", "https"]),
        api_key_env=st.none() | st.sampled_from(["OPENAI_API_KEY", "_K", "k9"]),
        name=st.none() | _text,
        enabled=st.booleans(),
    )


_SIZES = st.sampled_from(["1", "100MB", "1.5 GiB", "10k", "2TB"])
_patterns = st.builds(
    MemoryPattern,
    pattern=st.sampled_from([".*-7b.*", "(?i)[-:]70b", r"^qwen\d", "8x7b$", "x${Y}"]),
    memory_gb=st.floats(0, 2000),
)


@st.composite
def model_settings(draw: st.DrawFn, destinations: list[str]) -> ModelSettings:
    """Assignments that only name `destinations`, and memory of models; no model is in a table twice."""
    names = st.lists(model_names(), max_size=4, unique_by=canonical_name)
    assigned = draw(names) if destinations else []
    target = st.sampled_from(destinations) if destinations else st.nothing()
    return ModelSettings(
        explicit_assignments={name: draw(target) for name in assigned},
        memory_overrides={name: draw(_gib) for name in draw(names)},
        memory_patterns=tuple(draw(st.lists(_patterns, max_size=3))),
        default_memory_gb=draw(_gib),
        cache_model_info=draw(st.booleans()),
        cache_ttl_seconds=draw(_seconds),
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Configs that hold together: at least one destination is enabled and no two servers share an address."""
    names = draw(st.lists(destination_names(), min_size=1, max_size=5, unique=True))
    split = draw(st.integers(0, len(names)))
    fleet = draw(
        st.lists(servers(), min_size=split, max_size=split, unique_by=lambda server: (server.host.lower(), server.port))
    )
    others = draw(st.lists(external_hosts(), min_size=len(names) - split, max_size=len(names) - split))
    entries: list[Any] = [*fleet, *others]
    if not any(entry.enabled for entry in entries):
        entries[0] = entries[0].model_copy(update={"enabled": True})
    return Config(
        proxy_host=draw(st.sampled_from(["127.0.0.1", "0.0.0.0", "::", "localhost"])),
        proxy_port=draw(_ports),
        servers=dict(zip(names[:split], entries[:split], strict=True)),
        external_hosts=dict(zip(names[split:], entries[split:], strict=True)),
        models=draw(model_settings(names)),
        routing_strategy=draw(st.sampled_from(["priority_with_memory", "least_loaded", "round_robin"])),
        when_nothing_fits=draw(st.sampled_from(["refuse", "first_enabled"])),
        request_timeout=draw(_seconds),
        idle_timeout=draw(_seconds),
        server_busy_threshold_ms=draw(_seconds),
        logging=draw(st.builds(Logging, directory=st.none() | _text, max_size=_SIZES)),
        limits=draw(st.builds(Limits, max_body=_SIZES, max_in_flight=st.integers(1, 10**6))),
        database_url=draw(st.none() | _text),
    )
