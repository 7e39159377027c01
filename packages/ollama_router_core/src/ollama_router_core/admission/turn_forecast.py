"""The expected time until a waiting request's turn, as reported to its client."""

from __future__ import annotations

from ollama_router_core.admission.cost_model import CostModel, ServiceCost
from ollama_router_core.admission.wait_queue import WaitQueue
from ollama_router_core.routing.filters import slots_of

__all__ = ["seconds_to_turn"]


def seconds_to_turn(costs: CostModel, queue: WaitQueue, number: int) -> float:
    """Return the expected seconds until a ticket gets a server, after all tickets ahead of it.

    A newcomer's wait (`CostModel.expected_wait`) depends on the whole queue; this one depends on the remaining time of
    running requests and on the tickets ahead, so that it shrinks as time passes.

    Raises:
        KeyError: the ticket does not wait.
    """
    group, before = queue.before(number)
    own, tokens = before.get(group.kind, 0), group.mean_tokens
    serving = costs.serving(group)
    if serving:
        rates = [_slots(one, costs) / _seconds(one, tokens) for one in serving]
        ahead = sum([rate * _free_in(one, costs, tokens) for rate, one in zip(rates, serving, strict=True)])
        wait = (own + ahead) / sum(rates)
    else:
        wait = min([one.load + own * one.work(tokens) for one in costs.costs_of(group).values()], default=0.0)
    return wait + costs.backlog(group, before)


def _seconds(cost: ServiceCost, tokens: float) -> float:
    return cost.work(tokens) * cost.server_load.pace


def _slots(cost: ServiceCost, costs: CostModel) -> int:
    limit = slots_of(cost.candidate, costs.snapshot)
    return cost.parallel if limit is None else max(1, min(cost.parallel, limit))


def _free_in(cost: ServiceCost, costs: CostModel, tokens: float) -> float:
    """Return the seconds until a request can be sent to the server: its model is loaded and a slot is free.

    The length and start of other processes' requests are unknown; each counts as an average request.
    """
    if not cost.warm:
        return cost.load
    candidate, usual = cost.candidate, cost.work(tokens)
    running = cost.server_load.left(usual, costs.now)
    until = _until_fewer([left for model, left in running if model in candidate.runner], cost.parallel)
    limit = slots_of(candidate, costs.snapshot)
    if limit is None:
        return until
    elsewhere = [_seconds(cost, tokens)] * costs.snapshot.elsewhere.get(candidate.name, 0)
    return max(until, _until_fewer([*[left for _, left in running], *elsewhere], limit))


def _until_fewer(left: list[float], than: int) -> float:
    """Return the seconds until fewer than `than` requests run, given their remaining seconds."""
    than = max(than, 1)  # slots kept for others become free later
    return sorted(left)[len(left) - than] if len(left) >= than else 0.0
