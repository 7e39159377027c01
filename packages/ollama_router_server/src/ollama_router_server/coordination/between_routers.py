"""Select a process's coordination: between its router's workers only, or with other routers as well."""

from __future__ import annotations

from importlib.util import find_spec

from ollama_router_core.access.token_proofs import TokenProver
from ollama_router_core.config.settings import Config
from ollama_router_core.coordination.interface import Coordination
from ollama_router_core.errors import ConfigError
from ollama_router_server.system import Clock, random_bytes

__all__ = ["between_routers", "unshared"]


def unshared(config: Config, database_url: str) -> list[str]:
    """Return warnings about what routers on one database do not share; empty if they share everything."""
    if config.coordination.url is not None or not database_url.startswith("postgres"):
        return []
    shared = "coordination.url is not set: routers on this database share users, the log, drains and limits of users"
    return [f"{shared}, but not max_concurrent, the queue, polls and what they learn of servers"]


def between_routers(config: Config, local: Coordination, *, prover: TokenProver | None, clock: Clock) -> Coordination:
    """Return coordination over the configured store, or `local` without one.

    Routers with the same token key share the tokens that one of them has verified.

    Raises:
        ConfigError: the extra `redis` is not installed, or the URL is invalid.
    """
    settings = config.coordination
    if settings.url is None:
        return local
    if find_spec("redis") is None:
        raise ConfigError("coordination.url needs the extra redis: pip install 'ollama-router-server[redis]'")
    from ollama_router_server.coordination.redis_member import RedisMember  # noqa: PLC0415 - an extra
    from ollama_router_server.coordination.redis_store import RedisStore  # noqa: PLC0415 - an extra

    name = f"{local.group}-{local.index}"
    store = RedisStore(settings.url, settings, name)
    secret = random_bytes(32) if prover is None else prover.derive(b"coordination")
    return RedisMember(
        store, local, fleet=settings.fleet, name=name, secret=secret, clock=clock, lease=2 * settings.heartbeat
    )
