"""Log events of the fleet."""

from __future__ import annotations

from typing import assert_never

import structlog

from ollama_router_core.fleet.load_probes import LoadProbe
from ollama_router_core.fleet.notices import (
    ModelReturned,
    ModelSuspended,
    Notice,
    ServerDown,
    ServerLost,
    ServerReturned,
    ServerSuspended,
    ServerUp,
)
from ollama_router_core.fleet.snapshot import ServerFacts

__all__ = ["log_drain", "log_load_probe", "log_notice", "log_up"]

_log = structlog.get_logger("fleet")


def log_notice(notice: Notice) -> None:
    """Log a change of a server's state."""
    match notice:
        case ServerUp() | ServerLost():
            pass  # `log_up` logs the one when its models are known; the other ends in `server_down`
        case ServerDown(server, error):
            _log.warning("server_down", server=server, error=error)
        case ServerSuspended(server, _, seconds):
            _log.warning("server_suspended", server=server, seconds=round(seconds, 1))
        case ServerReturned(server):
            _log.info("server_returned", server=server)
        case ModelSuspended(server, model, seconds, words):
            _log.warning("model_suspended", server=server, model=model, seconds=round(seconds, 1), error=words)
        case ModelReturned(server, model):
            _log.info("model_returned", server=server, model=model)
        case _:
            assert_never(notice)


def log_up(name: str, facts: ServerFacts) -> None:
    """Log that a server is up, and its models."""
    models = None if facts.installed is None else len(facts.installed)
    _log.info("server_up", server=name, version=facts.version, models=models)


def log_drain(name: str, *, on: bool) -> None:
    """Log that a drain started or ended."""
    _log.info("server_draining" if on else "server_undrained", server=name)


def log_load_probe(probe: LoadProbe, error: str | None) -> None:
    """Log the result of probing a model that may hang."""
    _log.info("load_probe", server=probe.server, model=probe.model, error=error)
