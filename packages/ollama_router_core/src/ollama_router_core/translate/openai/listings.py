"""External models for OpenAI's clients."""

from __future__ import annotations

from typing import Any

from ollama_router_core.translate.external_models import ExternalModel

__all__ = ["model_entry"]


def model_entry(model: ExternalModel) -> dict[str, Any]:
    """Return the model's entry in `/v1/models`."""
    return {"id": model.name, "object": "model", "created": model.since_ns // 1_000_000_000, "owned_by": model.host}
