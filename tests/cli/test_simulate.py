"""`orouter simulate` and `orouter replay`: strategies on a trace, logged requests under another config."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import time

import pytest

from ollama_router_core.records.request_record import RequestRecord
from ollama_router_core.testing import SimulatorThread
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.request_log import RequestLog
from ollama_router_server.storage.upgrade import prepare_database

FLEET = """\
servers:
  big: {vram_gb: 48, bandwidth: 900, tflops: 80, load_rate: 3.0}
  small: {vram_gb: 8, bandwidth: 300, tflops: 20, load_rate: 1.0, priority: 2}
models:
  "llama3.1:8b": {billions: 8, weights_gb: 4.7}
  "llama3.2:3b": {billions: 3, weights_gb: 2.0}
"""


@pytest.fixture
def trace(tmp_path):
    """Forty requests, one every two seconds."""
    path = tmp_path / "trace.csv"
    lines = ["time,prompt,output", *(f"{2 * number}.0,{200 + number},{50 + number}" for number in range(40))]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def fleet(tmp_path):
    """A fleet of two."""
    path = tmp_path / "fleet.yml"
    path.write_text(FLEET)
    return str(path)


def test_one_table_with_a_column_a_strategy(cli, trace, fleet):
    """Our four by default, with each model's wait; the same seed gives the same figures."""
    result = cli("simulate", "--fleet", fleet, "--trace", trace)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["priority_with_memory", "least_loaded", "round_robin", "fastest"]
    assert lines[1].split() == ["requests", "40", "40", "40", "40"]
    assert [line.split()[:3] for line in lines[13:15]] == [["p95", "of", "llama3.1:8b"], ["p95", "of", "llama3.2:3b"]]
    assert cli("simulate", "--fleet", fleet, "--trace", trace).out == result.out


def test_json_has_every_figure(cli, trace, fleet):
    """Counts and seconds by name, for chosen strategies alone."""
    rows = cli("simulate", "--fleet", fleet, "--trace", trace, "--strategies", "fastest,least_loaded", "--json").json()
    assert [row["router"] for row in rows] == ["fastest", "least_loaded"]
    assert all(row["requests"] == 40 and row["loads"] >= 1 and row["ttft_p95"] >= row["ttft_p50"] for row in rows)


def test_what_if_the_config_the_patience_or_the_slots_were_others(cli, trace, fleet, tmp_path):
    """Each world beside the one as it is; nobody waits for long: some are refused. A config is of the same servers."""
    config = tmp_path / "orouter.yml"
    config.write_text("servers: {big: {host: 10.0.0.1}, small: {host: 10.0.0.2}}\nqueue: {max_waiting: 0}\n")
    usual = ["simulate", "--fleet", fleet, "--trace", trace, "--strategies", "fastest", "--stretch", "0.02", "--json"]
    as_shipped, wide = cli(*usual, "--num-parallel", "4").json()
    _, impatient = cli(*usual, "--config", str(config), "--max-wait", "0.5").json()
    assert (as_shipped["router"], wide["router"]) == ("fastest", "fastest, num_parallel 4")
    assert as_shipped["refused"] == 0
    assert impatient["refused"] == impatient["refusals"]["overloaded"] > 0
    assert wide["ttft_p95"] != as_shipped["ttft_p95"]
    told = cli(*usual[:-1], "--config", str(config), "--max-wait", "0.5").out
    assert f"refused: overloaded {impatient['refused']}" in re.sub(" +[0-9]+ +", " ", told)
    config.write_text("servers: {big: {host: 10.0.0.1}}\n")
    result = cli(*usual, "--config", str(config))
    assert result.code == 1
    assert "in one alone: small" in result.err


def test_a_server_that_the_config_disables_takes_nothing(cli, trace, fleet, tmp_path):
    """As where it is taken off."""
    config = tmp_path / "orouter.yml"
    usual = ["simulate", "--fleet", fleet, "--trace", trace, "--strategies", "fastest", "--json", "--config", config]
    config.write_text("servers: {big: {host: 10.0.0.1}, small: {host: 10.0.0.2}}\n")
    _, off = cli(*map(str, usual), "--off", "small").json()
    config.write_text("servers: {big: {host: 10.0.0.1}, small: {host: 10.0.0.2, enabled: false}}\n")
    (disabled,) = cli(*map(str, usual)).json()
    assert {**disabled, "router": "", "worse": []} == {**off, "router": "", "worse": []}


def test_what_if_there_were_one_more_server(cli, trace, fleet):
    """Its time is spared; one like a server that is not there is an error."""
    usual = ["simulate", "--fleet", fleet, "--trace", trace, "--strategies", "fastest", "--stretch", "0.02"]
    before, after = cli(*usual, "--add", "big", "--json").json()
    assert after["router"] == "fastest, one more big"
    assert after["completion_p95"] < before["completion_p95"]
    assert "worse under fastest, one more big than fastest, p95 to the first token" in cli(*usual, "--add", "big").out
    result = cli(*usual, "--add", "huge")
    assert result.code == 1
    assert "known: big, small" in result.err


def test_who_would_wait_longer_is_named(cli, tmp_path, fleet):
    """A trace may name models and users; every world is compared with the first."""
    trace = tmp_path / "named.csv"
    lines = [
        f"{number},400,40,llama3.{1 + number % 2}:{'3b' if number % 2 else '8b'},user{number % 3}"
        for number in range(40)
    ]
    trace.write_text("\n".join(["time,prompt,output,model,user", *lines]))
    usual = ["simulate", "--fleet", fleet, "--trace", str(trace), "--strategies", "fastest,random", "--stretch", "0.3"]
    best, worst = cli(*usual, "--json").json()
    assert best["worse"] == []
    assert {one["name"] for one in worst["worse"]} <= {"llama3.1:8b", "llama3.2:3b", "user0", "user1", "user2"}
    assert all(one["after"] > one["before"] + 1 for one in worst["worse"])
    assert re.search(r"\nuser +user\d +[\d.]+ +[\d.]+ +0\n", cli(*usual).out)
    trace.write_text("time,prompt,output,model\n0,1,1,phi4\n")
    assert "the fleet has no model phi4; known: llama3.1:8b, llama3.2:3b" in cli(*usual).err


def test_all_includes_what_people_use_today(cli, trace):
    """The usual baselines stand beside our own, on the built-in fleet."""
    rows = cli("simulate", "--trace", trace, "--strategies", "all", "--requests", "10", "--json").json()
    assert len(rows) > 5
    assert {"fastest", "least_loaded"} < {row["router"] for row in rows}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("time,prompt,output\nx,y,z", "is not a trace: line 2"),
        ("time,prompt,output\n1", "is not a trace: line 2"),
        ("time,prompt,output\nnan,1,1", "is not a trace: line 2"),
        ("time,prompt,output\n0,1,1\n1,-1,1", "is not a trace: line 3"),
        ("time,prompt,output\n", "is not a trace: it has no requests"),
    ],
)
def test_what_is_no_trace_is_named(cli, tmp_path, content, expected):
    """One text, exit code 1."""
    path = tmp_path / "bad.csv"
    path.write_text(content)
    result = cli("simulate", "--trace", str(path))
    assert result.code == 1
    assert expected in result.err


def test_what_is_no_fleet_is_named_with_its_place(cli, tmp_path, trace):
    """The key that is wrong."""
    path = tmp_path / "bad.yml"
    path.write_text(FLEET.replace("vram_gb: 48", "vram_gb: lots"))
    result = cli("simulate", "--trace", trace, "--fleet", str(path))
    assert result.code == 1
    assert "servers.big.vram_gb" in result.err


def test_unknown_strategies_are_wrong_usage(cli, trace):
    """Exit code 2, and the known ones are listed."""
    result = cli("simulate", "--trace", trace, "--strategies", "quickest")
    assert result.code == 2
    assert "least_loaded" in result.err


def test_a_plot_without_matplotlib_says_what_to_install(cli, trace, tmp_path, monkeypatch):
    """Before the work begins, not after."""
    real = importlib.import_module

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("ollama_router_cli.commands.simulate.import_module", without, raising=False)
    result = cli("simulate", "--trace", trace, "--plot", str(tmp_path / "out.png"))
    assert result.code == 1
    assert "pip install 'ollama-router-cli[plot]'" in result.err
    assert all(word not in result.err for word in ("fastest:", "Traceback"))


def test_a_plot_is_drawn(cli, trace, tmp_path):
    """A picture in the format that the name says, with a bar for each strategy."""
    pytest.importorskip("matplotlib")
    for name, begins in (("out.png", b"\x89PNG\r\n"), ("out.svg", b"<?xml")):
        path = tmp_path / name
        result = cli("simulate", "--trace", trace, "--strategies", "fastest,least_loaded", "--plot", str(path))
        assert result.code == 0
        assert f"wrote {path}" in result.err
        assert path.read_bytes().startswith(begins)
    assert "<!-- least_loaded -->" in path.read_text()


def test_a_plot_that_cannot_be_written_is_a_text(cli, trace, tmp_path):
    """A folder that is not there, a format nobody knows."""
    pytest.importorskip("matplotlib")
    for name in ("nowhere/out.png", "out.sketch"):
        result = cli("simulate", "--trace", trace, "--strategies", "fastest", "--plot", str(tmp_path / name))
        assert result.code == 1
        assert "cannot write" in result.err


CONFIG = """\
routing_strategy: priority_with_memory
servers:
  one: {{host: 127.0.0.1, port: {one}, priority: {first}}}
  two: {{host: 127.0.0.1, port: {two}, priority: {second}}}
"""


async def log_requests(count: int, **changes) -> None:
    """Rows of requests that server one served, a minute apart, the newest a minute ago."""
    url = os.environ["OROUTER_DATABASE_URL"]
    await prepare_database(url)
    database = Database(url)
    rows = [
        RequestRecord(
            **{
                "id": f"r{number}",
                "started_at": time.time() - 60 * (number + 1),
                "user": "alice",
                "client": None,
                "method": "POST",
                "path": "/api/chat",
                "model_asked": "llama3.2:3b",
                "model_served": "llama3.2:3b",
                "server": "one",
                "status": 200,
                "streamed": True,
                "queue_ms": 0.1,
                "ttft_ms": 300.0,
                "total_ms": 2300.0,
                "prompt_tokens": 300,
                "completion_tokens": 100,
                **changes,
            }
        )
        for number in range(count)
    ]
    await RequestLog(database).insert(rows)
    await database.aclose()


@pytest.fixture
def servers():
    """Two servers with the same model."""
    with SimulatorThread(models=["llama3.2:3b"]) as one, SimulatorThread(models=["llama3.2:3b"]) as two:
        yield one, two


def test_replay_shows_what_would_move(cli, write_config, servers):
    """With the priorities swapped every request would go to the other server; the same config moves nothing."""
    one, two = servers
    write_config(CONFIG.format(one=one.port, two=two.port, first=1, second=2))
    asyncio.run(log_requests(12))
    same = cli("replay", "--json").json()
    logged, under_config = same["worlds"]
    assert (same["requests"], same["measured_p50"]) == (12, 2.3)
    assert (logged["router"], under_config["router"]) == ("logged", "priority_with_memory")
    assert (under_config["moved"], under_config["refused"], under_config["worse"]) == (0, 0, [])
    write_config(CONFIG.format(one=one.port, two=two.port, first=2, second=1))
    logged, swapped = cli("replay", "--since", "7d", "--json").json()["worlds"]
    assert swapped["moves"] == [{"model": "llama3.2:3b", "from": "one", "to": "two", "requests": 12}]
    assert (logged["servers"], swapped["servers"]) == ({"one": 12}, {"two": 12})
    shown = cli("replay")
    assert "12 requests would move (100%)" in shown.out
    assert "ended within 2.3 s, 95 % within 2.3 s" in shown.out
    assert shown.err == ""


def test_replay_says_that_the_log_is_of_other_servers(cli, write_config, servers):
    """As where it runs without the config that the router has."""
    one, two = servers
    write_config(CONFIG.format(one=one.port, two=two.port, first=1, second=2))
    asyncio.run(log_requests(2, server="elsewhere"))
    assert "this config does not have: elsewhere; --config names another" in cli("replay").err


def test_replay_asks_what_if(cli, write_config, servers):
    """Other strategies and changes of the fleet stand in one table beside what was logged."""
    one, two = servers
    write_config(CONFIG.format(one=one.port, two=two.port, first=1, second=2))
    asyncio.run(log_requests(4))
    result = cli("replay", "--strategies", "fastest,random", "--add", "one", "--num-parallel", "2", "--json")
    assert [world["router"] for world in result.json()["worlds"]] == [
        "logged", "fastest", "fastest, one more one, num_parallel 2", "random", "random, one more one, num_parallel 2",
    ]  # fmt: skip


def test_replay_leaves_out_what_was_not_routed(cli, write_config, servers):
    """Lists and requests that no server got are not decided again; an empty log is told."""
    one, two = servers
    write_config(CONFIG.format(one=one.port, two=two.port, first=1, second=2))
    assert "no requests have been logged" in cli("replay").err
    asyncio.run(log_requests(3, path="/api/tags", server=None, model_served=None))
    assert json.loads(cli("replay", "--json").out)["requests"] == 0
