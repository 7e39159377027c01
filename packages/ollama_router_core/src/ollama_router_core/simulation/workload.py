"""The workload: models, jobs and traces."""

from __future__ import annotations

import csv
import io
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace  # noqa: TID251 - these are dataclasses
from datetime import datetime

from ollama_router_core.api.model_names import CanonicalName, canonical_name
from ollama_router_core.fleet.slots import has_one_slot
from ollama_router_core.fleet.snapshot import MLX

__all__ = ["Arrival", "Job", "SimulatedModel", "assign_contexts", "assign_models", "parse_trace", "zipf_weights"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedModel:
    """A model: parameters in billions, weights in GiB.

    `context_length` is its own context in tokens, None if irrelevant; each token takes `kv_kib` KiB of memory. Its
    runner depends on `family` and `format`, as in `/api/tags`, and on whether it `embeds`.
    """

    name: CanonicalName
    billions: float
    weights_gib: float
    context_length: int | None = None
    kv_kib: float = 0.0
    family: str | None = None
    format: str | None = None
    embeds: bool = False

    @property
    def is_mlx(self) -> bool:
        """Whether it uses the MLX runner, which ignores the context, and allocates memory only for its used part."""
        return self.format == MLX

    @property
    def one_slot(self) -> bool:
        """Whether Ollama serves one of its requests at a time, whatever OLLAMA_NUM_PARALLEL is."""
        return has_one_slot(self.family, self.format, embeds=self.embeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One line of a trace: seconds since the first, tokens in and out; the model and the user, if named."""

    at: float
    prompt_tokens: int
    output_tokens: int
    model: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request: facts that a router knows, and `output_tokens`, which it does not.

    Each turn of a `conversation` begins with the prompt and the response of the previous one.
    `keep_alive` are the seconds that its model stays in memory, negative for ever, None to keep the current setting. A
    `batch` job has lower priority than all others. Without `streamed`, the whole response is sent at the end.
    """

    number: int
    at: float
    model: CanonicalName
    prompt_tokens: int
    output_tokens: int
    num_ctx: int | None = None
    keep_alive: float | None = None
    user: str = ""
    conversation: str = ""
    batch: bool = False
    streamed: bool = True


def parse_trace(text: str, *, stretch: float = 1.0) -> tuple[Arrival, ...]:
    """Parse a CSV trace: time, prompt tokens, output tokens, optional model and user; the first line may be a header.

    Times are ISO or seconds. A header is a line that does not begin with a time.
    `stretch` multiplies the times between arrivals: 4 is a quarter of the load.

    Raises:
        ValueError: a line is invalid (the text has its number), or there are no requests.
    """
    rows = [(number, row) for number, row in enumerate(csv.reader(io.StringIO(text.removeprefix("\ufeff"))), 1) if row]
    if rows and not _begins_with_time(rows[0][1]):
        del rows[0]
    read = sorted(_arrival(number, row) for number, row in rows)
    if not read:
        raise ValueError("it has no requests")
    start = read[0][0]
    return tuple(
        Arrival(at=(at - start) * stretch, prompt_tokens=prompt, output_tokens=output, model=model, user=user)
        for at, prompt, output, model, user in read
    )


def _arrival(line: int, row: Sequence[str]) -> tuple[float, int, int, str, str]:
    try:
        model, user, *_ = (*row[3:5], "", "")
        at, prompt, output = _seconds(row[0]), int(row[1]), int(row[2])
    except (ValueError, IndexError):
        at, prompt, output, model, user = math.nan, -1, -1, "", ""
    if not math.isfinite(at) or min(prompt, output) < 0:
        raise ValueError(f"line {line}: expected time, prompt tokens, output tokens, got {','.join(row)!r}")
    return at, prompt, output, model.strip(), user.strip()


def _begins_with_time(row: Sequence[str]) -> bool:
    try:
        _seconds(row[0])
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # Python 3.11 parses at most microseconds; traces have more digits.
        head, _, fraction = text.partition(".")
        digits = "".join(character for character in fraction if character.isdigit())
        return datetime.fromisoformat(head).timestamp() + (float(f"0.{digits}") if digits else 0.0)


def zipf_weights(count: int) -> tuple[float, ...]:
    """Return the weights 1, 1/2, 1/3, ..., most popular first."""
    return tuple(1 / rank for rank in range(1, count + 1))


def assign_models(
    arrivals: Iterable[Arrival],
    models: Sequence[SimulatedModel],
    weights: Sequence[float],
    rng: random.Random,
    *,
    users: int = 1,
) -> tuple[Job, ...]:
    """Assign a model, drawn by weight, to every arrival without one, and users in turn to those without a user.

    Raises:
        ValueError: an arrival names a model that is not in `models`.
    """
    chosen = list(arrivals)
    drawn = rng.choices(models, weights=weights, k=len(chosen))
    known = {model.name for model in models}
    for name in {one.model for one in chosen} - {""}:
        if canonical_name(name) not in known:
            raise ValueError(f"the fleet has no model {name}; known: {', '.join(sorted(known))}")
    return tuple(
        Job(
            number=number,
            at=arrival.at,
            model=canonical_name(arrival.model) if arrival.model else model.name,
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=max(1, arrival.output_tokens),
            user=arrival.user or f"user{number % users}",
        )
        for number, (arrival, model) in enumerate(zip(chosen, drawn, strict=True))
    )


def assign_contexts(
    jobs: Iterable[Job], models: Iterable[str], contexts: Sequence[int], rng: random.Random
) -> tuple[Job, ...]:
    """Assign a random one of `contexts` to each job for one of `models`, like applications with different contexts."""
    wanted = {canonical_name(model) for model in models}
    return tuple(replace(job, num_ctx=rng.choice(contexts)) if job.model in wanted else job for job in jobs)
