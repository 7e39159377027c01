"""Profile lines as text, for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ollama_router_core.config.profile_lines import Bounds, ProfileLine, Takes

__all__ = ["models_in_words", "words_of"]


def models_in_words(line: ProfileLine) -> str:
    """Return the models and routes of a line."""
    models = ", ".join(line.models) or "all"
    without = f" except {', '.join(line.unless)}" if line.unless else ""
    routes = f" on {', '.join(line.routes)}" if line.routes else ""
    return f"{models}{without}{routes}"


def words_of(line: ProfileLine) -> str:
    """Return the effect of a line."""
    return "; ".join([*_conditions(line), *_changes(line), *_takes(line.takes), *_rest(line)])


def _conditions(line: ProfileLine) -> Iterator[str]:
    for name, wanted in line.when.items():
        if isinstance(wanted, bool):
            yield f"with {name}" if wanted else f"without {name}"
        else:
            yield f"{name} is {' or '.join(map(_json, wanted))}"


def _changes(line: ProfileLine) -> Iterator[str]:
    yield from (f"{name} is sent as {other}" for name, other in line.rename.items())
    if line.drop:
        yield f"left out: {', '.join(line.drop)}"
    for name, values in line.replace.items():
        yield f"{name}: {', '.join(f'{old} becomes {_json(new)}' for old, new in values.items())}"
    yield from (f"{name} {_bounds(bounds)}" for name, bounds in line.clamp.items())
    yield from (f"{name} = {_json(value)}" for name, value in line.set.items())
    yield from (f"{name} = {_json(value)} where it is missing" for name, value in line.default.items())


def _bounds(bounds: Bounds) -> str:
    if bounds.min is not None and bounds.min == bounds.max:
        return f"must be {bounds.min}"
    low = [f"at least {bounds.min}"] if bounds.min is not None else []
    return ", ".join(low + ([f"at most {bounds.max}"] if bounds.max is not None else []))


def _takes(takes: Takes) -> Iterator[str]:
    for name, value in takes.model_dump(exclude_none=True, mode="json").items():
        if name == "thinking" and not any(value.values()):
            yield "has no parameter for the reasoning effort"
        elif name == "thinking":
            yield "thinking " + ", ".join(f"{level}: {_json(members)}" for level, members in value.items())
        else:
            yield f"{name}: {_json(value)}"


def _rest(line: ProfileLine) -> Iterator[str]:
    yield from (f"header {name}: {value}" for name, value in line.headers.items())
    if line.retry is not None:
        yield f"may be retried after {', '.join(map(str, line.retry))}"


def _json(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value) or "none"
    return json.dumps(value).replace('"', "")
