"""The models that a user may use: whether they are loaded, their usual speed, and their price."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ollama_router_core.access.grants import Grants, Role, may_use_host, may_use_model
from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.config.destination_settings import HostedModel
from ollama_router_server.admin.view import View
from ollama_router_server.admin.views.models import ModelView, model_views
from ollama_router_server.services import Services
from ollama_router_server.storage.first_tokens import UsualSpeed
from ollama_router_server.storage.identities import User

__all__ = ["MyModelView", "my_models"]

_DAYS = 7 * 86_400.0


class MyModelView(View):
    """A model that the user may use, of the fleet or of an external host.

    `warm`: a server has it in memory now; null for a host. `ttft_ms` and `tokens_per_second` are medians over the last
    week's responses. Prices are per million tokens, null if the config has none.
    """

    name: str
    host: str | None
    warm: bool | None
    context: int | None
    capabilities: list[str] | None
    ttft_ms: float | None
    tokens_per_second: float | None
    input_price: float | None
    output_price: float | None


async def my_models(services: Services, user: User) -> list[MyModelView]:
    """List the models that a user may use, by name; none for a viewer."""
    if user.role == "viewer":
        return []
    soon = await services.request_log.usual_speeds(since=services.clock.wall() - _DAYS)
    speeds = {canonical_name(name): speed for name, speed in soon.items() if name}
    hosted = list(_hosted(services, user.role, user.grants, speeds))
    assigned = {
        canonical_name(name)
        for name, target in services.config.models.explicit_assignments.items()
        if target in services.config.external_hosts
    }
    fleet = model_views(services, user.grants).models
    own = [_of_fleet(model, speeds) for model in fleet if canonical_name(model.name) not in assigned]
    return sorted([*own, *hosted], key=lambda model: model.name)


def _of_fleet(model: ModelView, speeds: Mapping[CanonicalName, UsualSpeed]) -> MyModelView:
    speed = _speed(speeds.get(canonical_name(model.name)))
    return MyModelView.from_object(
        model, host=None, warm=model.loaded_on > 0, input_price=None, output_price=None, **speed
    )


def _hosted(
    services: Services, role: Role, grants: Grants, speeds: Mapping[CanonicalName, UsualSpeed]
) -> Iterator[MyModelView]:
    config = services.config
    for name, target in config.models.explicit_assignments.items():
        host = config.external_hosts.get(target)
        if host is None or not host.enabled or not may_use_model(grants, name):
            continue
        if not may_use_host(role, grants, config.external_hosts_for, target):
            continue
        details = next((one for key, one in host.models.items() if canonical_name(key) == canonical_name(name)), None)
        details = details or HostedModel()
        price = details.price
        yield MyModelView(
            name=name,
            host=target,
            warm=None,
            context=details.context_length,
            capabilities=None if details.capabilities is None else sorted(details.capabilities),
            input_price=None if price is None else price.input,
            output_price=None if price is None else price.output,
            **_speed(speeds.get(canonical_name(name))),
        )


def _speed(found: UsualSpeed | None) -> dict[str, float | None]:
    if found is None:
        return {"ttft_ms": None, "tokens_per_second": None}
    return {"ttft_ms": found.ttft_ms, "tokens_per_second": found.tokens_per_second}
