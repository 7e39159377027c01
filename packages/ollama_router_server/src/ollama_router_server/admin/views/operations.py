"""Operations on models as shown to people: what is done, where, and the progress."""

from __future__ import annotations

from typing import Literal

from ollama_router_core.routing.model_placement import OperationKind
from ollama_router_server.admin.view import View
from ollama_router_server.storage.operation_store import Operation, TargetState

__all__ = ["OperationTargetView", "OperationView", "OperationsView", "operation_view"]

State = Literal["running", "done", "partly", "failed", "cancelled"]


class OperationTargetView(View):
    """An operation on one server; bytes are 0 if unknown."""

    server: str
    state: TargetState
    status: str
    completed: int
    total: int
    error: str | None
    bytes_per_second: float | None
    seconds_left: float | None


class OperationView(View):
    """An operation on a model; `partly` is done on some servers and failed on others."""

    id: str
    kind: OperationKind
    model: str
    destination: str | None
    context: int | None
    actor: str
    created_at: float
    finished_at: float | None
    state: State
    targets: list[OperationTargetView]


class OperationsView(View):
    """Operations of the last seven days, newest first."""

    operations: list[OperationView]


def operation_view(operation: Operation) -> OperationView:
    """Return one operation, with the mean rate since its start."""
    elapsed = max(0.001, operation.seen_at - operation.created_at)
    return OperationView.from_object(
        operation,
        state=_state(operation),
        targets=[
            OperationTargetView.from_object(
                one,
                bytes_per_second=one.completed / elapsed if one.state == "running" and one.completed else None,
                seconds_left=(one.total - one.completed) * elapsed / one.completed
                if one.state == "running" and 0 < one.completed <= one.total
                else None,
            )
            for one in operation.targets
        ],
    )


def _state(operation: Operation) -> State:
    if operation.finished_at is None:
        return "running"
    states = {one.state for one in operation.targets}
    if "failed" in states:
        return "partly" if "done" in states else "failed"
    return "cancelled" if "cancelled" in states else "done"
