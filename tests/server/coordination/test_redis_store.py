"""The address of the store: what it may look like, and what is said of one that is none."""

from __future__ import annotations

import pytest

from ollama_router_core.config.settings import CoordinationSettings
from ollama_router_core.errors import ConfigError
from ollama_router_server.coordination.redis_store import RedisStore

WAYS = ({}, {"cluster": True}, {"sentinels": ("one:26379",)})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@one:6379/0?hunter2=1",
        "rediss://one/0?ssl_ca_certs=/ca.pem&ssl_cert=/c.pem",
        "unix:///run/redis.sock?db=1&tls=1",
    ],
)
def test_a_parameter_that_nobody_knows_is_an_error_of_the_config(url: str, way: dict[str, object]) -> None:
    """At the start, and not with the first connection; the text repeats nothing of the URL."""
    with pytest.raises(ConfigError, match="parameter") as caught:
        RedisStore(url, CoordinationSettings(url=url, **way), "a")
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "redis://one",
        "redis://one/0?health_check_interval=5&max_connections=20&client_name=router",
        "rediss://user:hunter2@one/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
    ],
)
def test_parameters_of_the_client_library_are_taken(url: str) -> None:
    """Those of its connections, and how many it opens."""
    RedisStore(url, CoordinationSettings(url=url), "a")


@pytest.mark.parametrize("url", ["redis://one/0?db=x", "redis://one:port/0", "http://one"])
def test_what_is_no_address_says_how_one_looks(url: str) -> None:
    """Values that are none, too."""
    with pytest.raises(ConfigError, match="must look like"):
        RedisStore(url, CoordinationSettings(url=url), "a")
