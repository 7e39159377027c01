"""Models as shown to people: location, requirements and speed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ollama_router_core.access.grants import Grants, may_use_model
from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.config.model_settings import ModelSettings
from ollama_router_core.config.settings import Config
from ollama_router_core.fleet.snapshot import FleetSnapshot, InstalledModel, ServerFacts
from ollama_router_core.routing.model_placement import differing_digests
from ollama_router_core.routing.policy import rule_for
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.servers import LoadedView, ServerModelView, loaded_view, server_model
from ollama_router_server.services import Services
from ollama_router_server.storage.request_log import ModelUse

__all__ = ["ModelDetailView", "ModelOnServerView", "ModelView", "ModelsView", "model_detail", "model_views", "with_use"]


class ModelView(View):
    """A model of the fleet, described by its largest copy. `differs`: servers have different weights under its name.

    `requests` counts the last seven days, `last_used_at` is the hour of the last use; both are null for users, who see
    only their own requests. `rule` is the pattern of its rule in the config.
    """

    name: str
    parameters: str | None
    quantization: str | None
    family: str | None
    context: int | None
    size: int
    capabilities: list[str] | None
    on_servers: int
    loaded_on: int
    differs: bool
    hosted: bool
    rule: str | None = None
    requests: int | None = None
    last_used_at: float | None = None


class ModelsView(View):
    """All models that the requesting user may use; `aliases` maps aliases of the config to models."""

    models: list[ModelView]
    servers: int
    loaded: int
    aliases: dict[str, str]


class ModelOnServerView(View):
    """A model on one server; `memory` is null while it is not loaded there."""

    server: str
    disk: ServerModelView
    memory: LoadedView | None


class ModelDetailView(ModelView):
    """One model, by server; `assigned` is where the config routes it."""

    assigned: str | None
    servers: list[ModelOnServerView]


Copies = dict[CanonicalName, list[tuple[ServerFacts, InstalledModel]]]


def model_views(services: Services, grants: Grants | None) -> ModelsView:
    """List the models that these grants allow, by name; None allows all."""
    snapshot, models = services.fleet.snapshot, services.config.models
    differing = differing_digests(snapshot)
    shown = [_model(copies, models, differs=name in differing) for name, copies in sorted(_copies(snapshot).items())]
    return ModelsView(
        models=[model for model in shown if grants is None or may_use_model(grants, model.name)],
        servers=len(services.config.servers),
        loaded=sum(1 for model in shown if model.loaded_on),
        aliases={name: target for name, target in models.aliases.items() if _may(grants, name, target)},
    )


def with_use(view: ModelsView, use: Mapping[CanonicalName, ModelUse]) -> ModelsView:
    """Add the number of requests and the last use to each model."""
    models = [model.model_copy(update=_used(use.get(canonical_name(model.name)))) for model in view.models]
    return view.model_copy(update={"models": models})


def _used(use: ModelUse | None) -> dict[str, int | float | None]:
    if use is None:
        return {"requests": 0}
    return {"requests": use.requests, "last_used_at": use.last_hour}


def model_detail(services: Services, name: str) -> ModelDetailView:
    """Return one model, by server.

    Raises:
        KeyError: no server has it.
    """
    snapshot, now = services.fleet.snapshot, services.clock.monotonic()
    key = canonical_name(name)
    copies = _copies(snapshot)[key]
    return ModelDetailView(
        **_model(copies, services.config.models, differs=key in differing_digests(snapshot)).model_dump(),
        assigned=_assigned(services.config, key),
        servers=list(_on_servers(services, copies, now)),
    )


def _may(grants: Grants | None, *names: str) -> bool:
    return grants is None or all(may_use_model(grants, name) for name in names)


def _assigned(config: Config, key: CanonicalName) -> str | None:
    found = config.models.explicit_assignments.items()
    return next((target for name, target in found if canonical_name(name) == key), None)


def _copies(snapshot: FleetSnapshot) -> Copies:
    found: Copies = {}
    for facts in snapshot.servers.values():
        for name, installed in (facts.installed or {}).items():
            found.setdefault(name, []).append((facts, installed))
    return found


def _model(copies: list[tuple[ServerFacts, InstalledModel]], models: ModelSettings, *, differs: bool) -> ModelView:
    _, largest = max(copies, key=lambda copy: copy[1].size)
    rule = rule_for(largest.name, models)
    return ModelView(
        name=largest.spelling,
        parameters=largest.parameter_size,
        quantization=largest.quantization,
        family=largest.family,
        context=largest.context_length,
        size=largest.size,
        capabilities=None if largest.capabilities is None else sorted(largest.capabilities),
        on_servers=len(copies),
        loaded_on=sum(installed.name in facts.loaded for facts, installed in copies),
        differs=differs,
        hosted=largest.remote_host is not None,
        rule=None if rule is None else rule.pattern,
    )


def _on_servers(
    services: Services, copies: list[tuple[ServerFacts, InstalledModel]], now: float
) -> Iterator[ModelOnServerView]:
    for facts, installed in sorted(copies, key=lambda copy: copy[0].name):
        row, host = facts.loaded.get(installed.name), services.config.servers.get(facts.name)
        computed = None if row is None or host is None else services.computed_sizes.find(row, facts, host)
        yield ModelOnServerView(
            server=facts.name,
            disk=server_model(facts, installed, services.fleet.snapshot),
            memory=None if row is None else loaded_view(row, now, computed),
        )
