"""What a driver carries out the actions of an exchange with."""

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
    """What actions are carried out with. `record` takes the row of an exchange that has ended.

    `beside` is one thread: of two that compute, each would hold up the event loop in turn.
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
