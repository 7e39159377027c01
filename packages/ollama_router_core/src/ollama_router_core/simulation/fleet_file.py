"""The file format of a simulated fleet.

servers: {big: {vram_gb: 48, bandwidth: 900, tflops: 80, load_rate: 3.0, priority: 1, num_parallel: 1}}
models: {"llama3.1:8b": {billions: 8, weights_gb: 4.7, context_length: 131072, kv_kib: 128}}
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.errors import ConfigError
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import SimulatedModel

__all__ = ["parse_fleet"]

Positive = Annotated[float, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Server(_Table):
    vram_gb: Positive
    bandwidth: Positive
    tflops: Positive
    load_rate: Positive
    priority: int = 1
    num_parallel: Annotated[int, Field(ge=1)] = 1
    keep_alive: Positive = 300.0


class _Model(_Table):
    billions: Positive
    weights_gb: Positive
    context_length: Annotated[int, Field(ge=4)] | None = None
    kv_kib: Annotated[float, Field(ge=0)] = 0.0
    family: str | None = None
    format: str | None = None
    embeds: bool = False


class _Fleet(_Table):
    servers: Annotated[dict[str, _Server], Field(min_length=1)]
    models: Annotated[dict[str, _Model], Field(min_length=1)]


def parse_fleet(values: Any) -> tuple[tuple[Machine, ...], tuple[SimulatedModel, ...]]:
    """Parse machines and models; models are in file order, most popular first.

    Raises:
        ConfigError: the values are invalid; the text names each path.
    """
    try:
        fleet = _Fleet.model_validate(values)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors())
        raise ConfigError(f"the fleet cannot be read: {'; '.join(problems)}") from None
    machines = tuple(
        Machine(name=name, vram_gib=server.vram_gb, **server.model_dump(exclude={"vram_gb"}))
        for name, server in fleet.servers.items()
    )
    models = tuple(
        SimulatedModel(
            name=canonical_name(name), weights_gib=model.weights_gb, **model.model_dump(exclude={"weights_gb"})
        )
        for name, model in fleet.models.items()
    )
    return machines, models
