"""Changes of a scenario (servers, slots, maximum wait), and the models and users that lose by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace  # noqa: TID251 - these are dataclasses
from typing import Any, Literal

from ollama_router_core.api.model_names import canonical_name
from ollama_router_core.config.settings import Server
from ollama_router_core.errors import ConfigError
from ollama_router_core.fleet.gpus import GPUS, read_gpu
from ollama_router_core.simulation.report import Summary, fields_json
from ollama_router_core.simulation.routers import Knowledge
from ollama_router_core.simulation.scenarios import Scenario
from ollama_router_core.simulation.server_hardware import Machine
from ollama_router_core.simulation.workload import SimulatedModel

__all__ = ["Change", "Loss", "changed", "losses"]

_LOAD_RATE = 1.5
"""Assumed: GB/s from the disk of a hypothetical server."""
_NOTICED = 1.05
_SECOND = 1.0
"""A wait longer by less than five per cent, or by less than a second, does not count as a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of a scenario: slots of each loaded model, seconds of `queue.max_wait`, more or fewer servers.

    `more` are names of servers to duplicate; `gpus` are names of `GPUS`, or figures for `read_gpu`, each in a new
    server; `off` are names of servers to remove. `put` are pairs of a server and a model to add to its disk.
    """

    num_parallel: int | None = None
    max_wait: float | None = None
    more: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    put: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return self != Change()

    def __str__(self) -> str:
        parts = [
            f"one more {name}" if count == 1 else f"{count} more {name}"
            for name, count in Counter((*self.more, *self.gpus)).items()
        ]
        parts += [f"without {name}" for name in self.off]
        parts += [f"{model} on {server}" for server, model in self.put]
        if self.num_parallel is not None:
            parts.append(f"num_parallel {self.num_parallel}")
        if self.max_wait is not None:
            parts.append(f"max_wait {self.max_wait:g}")
        return ", ".join(parts)


def changed(scenario: Scenario, change: Change) -> Scenario:
    """Return the scenario with the change applied to its servers and its router's knowledge.

    Raises:
        ConfigError: a server, model or GPU is unknown, or no server would be left.
    """
    machines = list(scenario.machines)
    twins: dict[str, str] = {}
    for gpu in change.gpus:
        machines.append(_with_gpu(gpu, machines))
    for name in change.more:
        machines.append(twin := _twin(name, machines))
        twins[twin.name] = name
    machines = _without(change.off, machines)
    for name, model in change.put:
        machines = _with_model(name, model, machines, scenario.models)
    if change.num_parallel is not None:
        machines = [replace(one, num_parallel=change.num_parallel) for one in machines]
    return replace(
        scenario, machines=tuple(machines), knowledge=_changed_knowledge(scenario.knowledge, machines, twins, change)
    )


def _twin(name: str, machines: Iterable[Machine]) -> Machine:
    known = {one.name: one for one in machines}
    if name not in known:
        raise ConfigError(f"there is no server {name} to duplicate; known: {', '.join(sorted(known))}")
    return replace(known[name], name=_free_name(name, known))


def _without(off: Iterable[str], machines: Iterable[Machine]) -> list[Machine]:
    known = {one.name: one for one in machines}
    for name in off:
        if name not in known:
            raise ConfigError(f"there is no server {name} to remove; known: {', '.join(sorted(known))}")
        del known[name]
    if not known:
        raise ConfigError("no server would be left")
    return list(known.values())


def _with_model(name: str, model: str, machines: Sequence[Machine], models: Iterable[SimulatedModel]) -> list[Machine]:
    """Add a model to a machine's disk."""
    wanted, asked = canonical_name(model), sorted(one.name for one in models)
    if wanted not in asked:
        raise ConfigError(f"no request is for the model {model}; requested models: {', '.join(asked)}")
    if name not in {one.name for one in machines}:
        raise ConfigError(f"there is no server {name} to put {model} on")
    return [
        replace(one, installed=one.installed | {wanted}) if one.name == name and one.installed is not None else one
        for one in machines
    ]


def _with_gpu(text: str, machines: Iterable[Machine]) -> Machine:
    """Build a server with only this GPU, and every model on disk that fits."""
    names, found = {one.name for one in machines}, read_gpu(text)
    if found is None:
        raise ConfigError(f"{text} is neither a known GPU nor GIB,GB/s,TFLOP/s; known: {', '.join(GPUS)}")
    return Machine(
        name=found.name if found.name not in names else _free_name(found.name, names),
        vram_gib=found.memory_gib,
        bandwidth=found.bandwidth,
        tflops=found.tflops,
        load_rate=_LOAD_RATE,
    )


def _free_name(name: str, taken: Container[str]) -> str:
    number = 2
    while f"{name}-{number}" in taken:
        number += 1
    return f"{name}-{number}"


def _changed_knowledge(
    knows: Knowledge, machines: Iterable[Machine], twins: Mapping[str, str], change: Change
) -> Knowledge:
    """Return the router's knowledge of the changed scenario; a duplicate has the settings of its original.

    A server with a new GPU is configured with the GPU's memory.
    """
    slots = {} if change.num_parallel is None else {"num_parallel": change.num_parallel}
    patience = {} if change.max_wait is None else {"max_wait": change.max_wait}
    config = knows.config
    if config is None:
        servers = {one.name: {**knows.servers.get(twins.get(one.name, one.name), {}), **slots} for one in machines}
        queue = {**knows.settings.get("queue", {}), **patience}
        return replace(knows, servers=servers, settings={**knows.settings, "queue": queue})
    known = {name: one for name, one in config.servers.items() if one.enabled}
    known |= {name: config.servers[like] for name, like in twins.items()}
    known |= {one.name: Server(host=one.name, gpus=(one.vram_gib,)) for one in machines if one.name not in known}
    off = {name: {"enabled": False} for name in change.off}
    changes = {
        "servers": config.servers
        | {name: one.model_copy(update=slots | off.get(name, {})) for name, one in known.items()},
        "queue": config.queue.model_copy(update=patience),
    }
    return replace(knows, config=config.model_copy(update=changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A model or a user that loses: 95th percentiles to the first token in seconds, and `refused` more requests.

    One with an equal or shorter wait counts only if more requests are rejected.
    """

    kind: Literal["model", "user"]
    name: str
    before: float
    after: float
    refused: int = 0

    def __str__(self) -> str:
        more = f", {self.refused} more refused" if self.refused else ""
        return f"{self.kind} {self.name} {self.before:.1f} -> {self.after:.1f}{more}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name, seconds to a millisecond."""
        return fields_json(self)


def losses(before: Summary, after: Summary) -> tuple[Loss, ...]:
    """Return the models and users that lose: first by more rejections, then by longer waits; no users if only one."""
    found = list(_worse("model", before, after))
    if len(after.users) > 1:
        found += _worse("user", before, after)
    return tuple(sorted(found, key=lambda one: (-one.refused, one.before - one.after, one.name)))


def _worse(kind: Literal["model", "user"], before: Summary, after: Summary) -> Iterator[Loss]:
    if kind == "model":
        waits, refused = (before.models, after.models), (before.refused_models, after.refused_models)
    else:
        waits, refused = (before.users, after.users), (before.refused_users, after.refused_users)
    for name, seconds in waits[1].items():
        old = waits[0].get(name)
        if old is None:
            continue
        more = max(0, refused[1].get(name, 0) - refused[0].get(name, 0))
        if more or seconds > max(old * _NOTICED, old + _SECOND):
            yield Loss(kind=kind, name=name, before=old, after=seconds, refused=more)
