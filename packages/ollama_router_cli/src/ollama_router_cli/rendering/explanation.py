"""An explanation of a routing decision for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ollama_router_cli.rendering.output import clean, print_result
from ollama_router_cli.rendering.tables import print_table

__all__ = ["print_explanation"]

_GIB = 1024**3
_SIZES = (("predicted by Ollama", "predicted_bytes"), ("computed", "computed_bytes"), ("measured", "measured_bytes"))


def print_explanation(answer: Mapping[str, Any]) -> None:
    """Print the question, the memory needed, every server with its verdict and reasons, and what comes next.

    `answer` is the result of `ollama_router_core.explain`, or of a router's `/router/explain`.
    """
    print_result(clean(_headline(answer)))
    print_table(("", "", "", ""), [_row(one) for one in answer["candidates"]])
    for line in (*_forecasts(answer["candidates"]), *_placements(answer["candidates"])):
        print_result(clean(line))
    print_result(clean(_outlook(answer)))
    for change in answer["would_change"] if answer["error"] else ():
        print_result(clean(f"  {change['server']}: {change['then']} if {change['if']}"))
    if "strategies" in answer:
        print_result()
        rows = [(name, one["server"], one["reason"]) for name, one in answer["strategies"].items()]
        print_table(("strategy", "server", "reason"), rows)


def _row(candidate: Mapping[str, Any]) -> tuple[str, ...]:
    text = ", ".join(reason["text"] for reason in candidate["reasons"])
    mark = " >" if candidate["verdict"] == "chosen" else ""
    return mark, candidate["server"], candidate["verdict"], text


def _forecasts(candidates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what Ollama predicts, what is computed and what was measured, for each server with a measurement."""
    for one in candidates:
        forecast = one.get("forecast")
        if forecast is None or forecast["measured_bytes"] is None:
            continue
        sizes = [f"{name} {forecast[key] / _GIB:.2f}" for name, key in _SIZES if forecast[key] is not None]
        where = f"{one['server']}, {_context(forecast['context'])}"
        yield f"{where}: {', '.join(sizes)} GiB, {forecast['correction']:.2f} of the computed size"


def _placements(candidates: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the free memory of each GPU, and which GPUs hold the models, by their sizes or by assumption."""
    for one in candidates:
        gpus = (one.get("forecast") or {}).get("gpus")
        if gpus is None or not gpus["models"]:
            continue
        free = ", ".join(f"{size / _GIB:.1f}" for size in gpus["free_bytes"])
        placed = ", ".join(_placed(model) for model in gpus["models"])
        yield f"{one['server']}, free of each GPU: {free} GiB, with {placed}"


def _placed(model: Mapping[str, Any]) -> str:
    where = "all" if model["gpu"] is None else f"GPU {model['gpu']}"
    return f"{model['name']} on {where}{' (assumed)' * model['assumed']}"


def _headline(answer: Mapping[str, Any]) -> str:
    parts = [answer["model"] or "(no model)"]
    if answer["context"] is not None:
        parts.append(_context(answer["context"]))
    if answer["user"] is not None:
        parts.append(answer["user"] + (" (may not use it)" if answer["allowed"] is False else ""))
    parts += [answer["strategy"], *answer["policy"]]
    asked = " · ".join(parts)
    memory = next((one["memory"] for one in answer["candidates"] if one["memory"] is not None), None)
    return asked if memory is None else f"{asked}    needs {memory['text']}"


def _context(tokens: int) -> str:
    return f"{tokens // 1024}k context" if tokens % 1024 == 0 else f"{tokens} tokens of context"


def _outlook(answer: Mapping[str, Any]) -> str:
    error = answer["error"]
    if error is not None:
        after = error["retry_after"]
        again = "" if after is None else f", Retry-After {after:g} s"
        return f"No server: {error['status']} {error['code']}{again}."
    first, *others = answer["ranking"]
    if others:
        return f"Next best: {', '.join(others)}."
    return f"Next best: none. If {first} cannot take it, the request fails."
