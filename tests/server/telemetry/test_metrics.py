"""Figures for Prometheus: what is counted, who may ask, and that labels stay few."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import OllamaSimulator, Silence, model
from ollama_router_server.telemetry.histograms import DECIDING, Histogram
from ollama_router_server.telemetry.metric_aggregation import text_of
from ollama_router_server.telemetry.metrics import ConsoleGauges, Gauges, Metrics
from support.eventually import eventually, eventually_async
from support.router import running_router, server_entry

pytestmark = pytest.mark.anyio

CHAT = {"model": "llama3.1:8b", "messages": [{"role": "user", "content": "hi"}], "stream": False}


def samples(text: str) -> dict[tuple[str, frozenset[str]], float]:
    """Each sample by its name and the values of its labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.values())): one.value for family in families for one in family.samples}


def record(**values: object) -> RequestRecord:
    """A request that went well, but for `values`."""
    usual: dict[str, object] = {
        "id": "1", "started_at": 0.0, "user": "alice", "client": None, "method": "POST", "path": "/api/chat",
        "status": 200, "total_ms": 10.0,
    }  # fmt: skip
    return RequestRecord(**{**usual, **values})  # type: ignore[arg-type]


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of a router at rest."""
    return Metrics(
        Gauges(
            in_flight=lambda: 0,
            waiting=lambda: 0,
            longest_wait=lambda: 0.0,
            servers=tuple,
            deciding=Histogram(DECIDING),
            log_pending=lambda: 0,
            log_dropped=lambda: 7,
            log_lines_dropped=lambda: 3,
            coordination_away=lambda: None,
            config_refused=lambda: False,
            console=lambda: ConsoleGauges(5, 2, 1),
        )
    )


async def test_a_request_is_counted_with_its_tokens_and_times(tmp_path: Path) -> None:
    """One chat: one request, one decision, the tokens of its answer, one observation of each time."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        answer = (await alice.post("/api/chat", json=CHAT)).json()
        (row,) = await router.rows(1)
        found = samples((await admin.get("/metrics")).text)
        assert found["orouter_requests_total", frozenset({"one", "/api/chat", "2xx"})] == 1
        assert found["orouter_decisions_total", frozenset({"priority_with_memory", "one"})] == 1
        assert found["orouter_tokens_total", frozenset({"one", "out"})] == answer["eval_count"]
        assert found["orouter_tokens_total", frozenset({"one", "in"})] == answer["prompt_eval_count"]
        assert row.ttft_ms is not None
        assert found["orouter_ttft_seconds_count", frozenset({"one"})] == 1
        assert found["orouter_ttft_seconds_sum", frozenset({"one"})] == pytest.approx(row.ttft_ms / 1000)
        assert found["orouter_request_seconds_sum", frozenset({"one"})] == pytest.approx(row.total_ms / 1000)
        assert found["orouter_server_up", frozenset({"one"})] == 1


async def test_only_admins_may_ask(tmp_path: Path) -> None:
    """Figures show how much others use; whoever is refused is counted too."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
        router.client("") as nobody,
        router.client() as alice,
        router.client(router.admin_token) as admin,
    ):
        assert (await nobody.get("/metrics")).status_code == 401
        assert (await alice.get("/metrics")).status_code == 403
        assert (await nobody.post("/api/chat", json=CHAT)).status_code == 401
        answer = await admin.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert samples(answer.text)["orouter_refused_total", frozenset({"missing_credential"})] == 1


async def test_viewers_see_figures_and_change_nothing(tmp_path: Path) -> None:
    """What a dashboard needs, with a token that can do nothing else."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}) as router,
    ):
        created = await router.services.users.create("grafana", role="viewer")
        await router.services.authenticator.refresh()
        async with router.client(created.token.reveal()) as grafana:
            for path in ("/metrics", "/router/status", "/router/usage", "/router/explain?model=llama3.1:8b"):
                assert (await grafana.get(path)).status_code == 200, path
            for path in ("/router/users", "/router/groups", "/router/openapi.json"):
                assert (await grafana.get(path)).status_code == 403, path
            assert (await grafana.post("/router/servers/one/drain")).status_code == 403
            assert (await grafana.post("/api/chat", json=CHAT)).status_code == 403


async def test_a_setting_opens_them(tmp_path: Path) -> None:
    """With `metrics_open` nobody needs a token, and other routes of the router stay closed."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, metrics_open=True) as router,
        router.client("") as nobody,
    ):
        assert (await nobody.get("/metrics")).status_code == 200
        assert (await nobody.get("/router/status")).status_code == 401


async def test_what_runs_is_shown_while_it_runs(tmp_path: Path) -> None:
    """A stream under way is in flight in the router and on its server; when it has ended nothing is."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b", decode_speed=50.0)], answer_tokens=100_000) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, metrics_open=True) as router,
        router.client() as alice,
    ):
        sim.time_scale, sim.load_speed = 1.0, 1e13  # a token every 20 ms: it runs until its client leaves

        async def in_flight() -> tuple[float, float]:
            found = samples((await alice.get("/metrics")).text)
            return found["orouter_in_flight", frozenset()], found["orouter_server_in_flight", frozenset({"one"})]

        async with alice.stream("POST", "/api/chat", json={**CHAT, "stream": True}) as answer:
            await anext(answer.aiter_raw())
            assert await in_flight() == (1, 1)
        await eventually(lambda: router.services.fleet.running("one") == 0)
        await router.rows(1)
        found = samples((await alice.get("/metrics")).text)
        assert found["orouter_requests_total", frozenset({"one", "/api/chat", "client_left"})] == 1
        assert await in_flight() == (0, 0)


async def test_a_wait_is_told_while_it_lasts(tmp_path: Path) -> None:
    """Seconds of who came first, growing; nothing once nobody waits: what an autoscaler goes by."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim, max_concurrent=1)}, metrics_open=True) as router,
        router.client() as alice,
    ):
        sim.misbehave(Silence(), path="/api/chat", times=1)

        async def wait() -> float:
            return samples((await alice.get("/metrics")).text)["orouter_longest_wait_seconds", frozenset()]

        runs = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.fleet.running("one") == 1)
        assert await wait() == 0
        waits = asyncio.create_task(alice.post("/api/chat", json=CHAT))
        await eventually(lambda: router.services.admission.waiting == 1)
        assert 0 < await wait() < await wait()
        runs.cancel()
        assert (await waits).status_code == 200
        assert await wait() == 0


def test_no_client_makes_up_time_series(metrics: Metrics) -> None:
    """Names of models, users and clients, and odd statuses, add no sample."""
    metrics.ended(record(), None)
    before = text_of(metrics.families()).count(b"\n")
    for number in range(200):
        text = f"m{number}"
        metrics.ended(record(id=text, user=text, client=text, model_asked=text, status=200 + number % 100), None)
    assert text_of(metrics.families()).count(b"\n") == before


def test_retries_errors_and_lost_rows_are_counted(metrics: Metrics) -> None:
    """What an operator is woken for."""
    metrics.ended(record(status=502, attempts=3, error_code="upstream_error"), None, ("one", "two", "one"))
    found = samples(text_of(metrics.families()).decode())
    assert found["orouter_retries_total", frozenset()] == 2
    assert found["orouter_preemptions_total", frozenset({"one"})] == 2
    assert found["orouter_errors_total", frozenset({"upstream_error"})] == 1
    assert found["orouter_requests_total", frozenset({"none", "/api/chat", "5xx"})] == 1
    assert found["orouter_log_dropped_total", frozenset()] == 7
    assert found["orouter_log_lines_dropped_total", frozenset()] == 3
    assert found["orouter_console_sessions_total", frozenset()] == 5
    assert found["orouter_console_watchers", frozenset()] == 2
    assert found["orouter_console_watchers_cut_total", frozenset()] == 1


def test_work_for_clients_that_left_is_counted(metrics: Metrics) -> None:
    """The server's time only: not the wait for it, not what ended well, not what no server saw."""
    metrics.ended(record(server="one", status=499, queue_ms=500.0, total_ms=2_500.0), None)
    metrics.ended(record(server="one", status=200, total_ms=9_000.0), None)
    metrics.ended(record(server=None, status=499, total_ms=9_000.0), None)
    found = samples(text_of(metrics.families()).decode())
    assert found["orouter_wasted_seconds_total", frozenset({"one"})] == 2.0
    assert found["orouter_wasted_seconds_total", frozenset({"none"})] == 0.0


@pytest.mark.parametrize(("value", "within"), [(0.0, "0.5"), (0.5, "0.5"), (0.500001, "2.0"), (2.5, "+Inf")])
def test_a_histogram_counts_a_value_within_its_limit(value: float, within: str) -> None:
    """A limit belongs to its bucket, and each bucket holds all below it, as Prometheus wants it."""
    histogram = Histogram((0.5, 2.0))
    histogram.observe(value)
    names = [name for name, count in histogram.buckets() if count]
    assert names == ["0.5", "2.0", "+Inf"][["0.5", "2.0", "+Inf"].index(within) :]
    assert histogram.total == value


async def test_loads_and_evictions_are_counted(tmp_path: Path) -> None:
    """Two models that do not fit together: each is loaded once, and the second throws the first out."""
    async with (
        OllamaSimulator(max_loaded_models=1, models=[model("llama3.1:8b"), model("qwen2.5:7b")]) as sim,
        running_router(tmp_path, {"one": server_entry(sim)}, metrics_open=True) as router,
        router.client() as alice,
    ):

        async def counted() -> tuple[float, float, float]:
            found = samples((await alice.get("/metrics")).text)
            deciding = found["orouter_decision_seconds_count", frozenset()]
            one = frozenset({"one"})
            return found["orouter_cold_loads_total", one], found["orouter_evictions_total", one], deciding

        for name in ("llama3.1:8b", "llama3.1:8b"):
            assert (await alice.post("/api/chat", json={**CHAT, "model": name})).status_code == 200
        fleet = router.services.fleet
        await eventually(lambda: any(row.size for row in fleet.servers["one"].loaded.values()))
        assert (await alice.post("/api/chat", json={**CHAT, "model": "qwen2.5:7b"})).status_code == 200

        async def seen() -> bool:
            return await counted() == (2, 1, 3)

        await eventually_async(seen)


async def test_a_server_left_alone_is_shown(tmp_path: Path) -> None:
    """An operator sees an open breaker, and a drain."""
    async with (
        OllamaSimulator(models=[model("llama3.1:8b")]) as sim,
        OllamaSimulator(models=[model("llama3.1:8b")]) as other,
        running_router(tmp_path, {"one": server_entry(sim), "two": server_entry(other)}, metrics_open=True) as router,
        router.client() as alice,
    ):
        router.services.fleet.drain("two", on=True)
        for _ in range(20):
            router.services.fleet.health.failed("one", router.services.fleet.now(), refused=False)
        found = samples((await alice.get("/metrics")).text)
        assert found["orouter_server_breaker", frozenset({"one"})] == 2
        assert found["orouter_server_breaker", frozenset({"two"})] == 0
        assert found["orouter_server_draining", frozenset({"two"})] == 1
