"""The services with which a driver performs the actions of an exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from msgspec import Struct

from ollama_router_core.exchange.admission_controller import AdmissionController
from ollama_router_core.exchange.context import RequestContext
from ollama_router_core.exchange.environment import Environment
from ollama_router_core.records.request_record import RequestRecord
from ollama_router_server.accounts.authentication import Authenticator
from ollama_router_server.accounts.usage_limits import UsageLimits
from ollama_router_server.relay.model_search import ModelSearch
from ollama_router_server.relay.unfinished_bodies import UnfinishedBodies
from ollama_router_server.storage.response_store import ResponseStore
from ollama_router_server.upstream.interface import CallingUpstream
from ollama_router_server.upstream.targets import Target

__all__ = ["Collaborators"]


class Collaborators(Struct, frozen=True, kw_only=True):
    """The services of the drivers. `record` receives the record of each exchange that ends.

    `beside` has one thread, since several computing threads would starve the event loop.
    """

    environment: Environment
    targets: Mapping[str, Target]
    upstream: CallingUpstream
    admission: AdmissionController
    authenticator: Authenticator
    limits: UsageLimits
    search: ModelSearch
    responses: ResponseStore
    record: Callable[[RequestContext, RequestRecord], None]
    beside: Executor
    unfinished: UnfinishedBodies
