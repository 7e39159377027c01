"""Spellings of model names on the routes that take one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.catalogue.building import GREEDY, MISSING, Exchange, post, say
from conformance.subject import Subject

__all__ = ["exchanges"]

_ROUTES: dict[str, dict[str, Any]] = {
    "/api/generate": {"prompt": "Hello.", "stream": False, "options": GREEDY},
    "/api/chat": {"messages": say(), "stream": False, "options": GREEDY},
    "/api/show": {},
    "/v1/chat/completions": {"messages": say(), "max_tokens": 8, "temperature": 0, "seed": 1},
}


def exchanges(subject: Subject) -> Iterator[Exchange]:
    """Good and bad spellings of one model; names of hosted models are left out, they cost money."""
    for path, body in _ROUTES.items():
        for label, name in {**_good(subject), **_bad(subject)}.items():
            yield post("names", f"{label} {path}", path, {**body, "model": name})
    for label, name in {**_good(subject), **_bad(subject)}.items() if subject.embedding else ():
        spelt = name.replace(subject.model, subject.embedding or "")
        yield post("names", f"{label} /api/embed", "/api/embed", {"model": spelt, "input": "Hello."})


def _good(subject: Subject) -> dict[str, str]:
    name = subject.model
    spellings = {"upper case": name.upper(), "mixed case": name.title()}
    if "/" not in name:
        spellings |= {
            "with namespace": f"library/{name}",
            "with host": f"registry.ollama.ai/library/{name}",
            "with scheme": f"https://registry.ollama.ai/library/{name}",
            "host in capitals": f"Registry.Ollama.AI/library/{name}",
        }
    if subject.at_least(0, 17, 6):
        spellings["local"] = f"{name}:local"
    return spellings


def _bad(subject: Subject) -> dict[str, str]:
    name = subject.model
    return {
        "missing": MISSING,
        "missing tag": f"{name.partition(':')[0]}:orouter-missing",
        "missing, with namespace": f"nobody/{MISSING}",
        "missing, of another host": f"hf.co/nobody/{MISSING}",
        "empty": "",
        "blank": " ",
        "space before": f" {name}",
        "space inside": f"{name} x",
        "newline": f"{name}\n",
        "empty tag": f"{name.partition(':')[0]}:",
        "only a tag": ":latest",
        "dash first": f"-{name}",
        "digest": f"{name}@sha256:{'0' * 64}",
        "parents": "../../etc/passwd",
        "too long": "m" * 81,
        "not ASCII": "modèle",
        "exclamation mark": f"{name}!",
    }
