"""`orouter route explain`: which server, and why, from a file or from the servers themselves."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from ollama_router_core.testing import SimulatorThread, model
from ollama_router_server.storage.database import Database
from ollama_router_server.storage.user_store import UserStore
from ollama_router_server.system import SystemClock

CONFIG = """\
servers:
  big: {{host: 127.0.0.1, port: {big}, max_memory_gb: 48.0, priority: 2}}
  small: {{host: 127.0.0.1, port: {small}, max_memory_gb: 8.0, priority: 1}}
  spare: {{host: gpu9, enabled: false}}
external_hosts:
  openai: {{host: api.openai.com}}
model_config:
  explicit_assignments: {{gpt-4o: openai}}
"""

TAGS = {
    "models": [
        {"name": "llama3.3:70b", "model": "llama3.3:70b", "size": 42_520_413_916, "digest": "aa"},
        {"name": "llama3.2:3b", "model": "llama3.2:3b", "size": 2_019_393_189, "digest": "bb"},
    ]
}


@pytest.fixture
def fleet(write_config, tmp_path):
    """A config and a snapshot file of two servers with both models."""
    write_config(CONFIG.format(big=1, small=2))
    path = tmp_path / "fleet.json"
    asked = {"tags": TAGS, "show": {"llama3.3:70b": {"model_info": model("llama3.3:70b").model_info(verbose=False)}}}
    path.write_text(json.dumps({"servers": {"big": asked, "small": {**asked, "in_flight": 2}}}))
    return str(path)


def verdicts(decision) -> dict[str, str]:
    """Each server's verdict."""
    return {row["server"]: row["verdict"] for row in decision["candidates"]}


def test_json_says_who_is_chosen_and_what_holds_for_everyone(cli, fleet):
    """The nouns that library, command line and HTTP share; every server exactly once."""
    decision = cli("route", "explain", "llama3.3:70b", "--snapshot", fleet, "--json").json()
    assert {"model", "server", "reason", "candidates"} <= set(decision)
    assert (decision["model"], decision["server"]) == ("llama3.3:70b", "big")
    assert verdicts(decision) == {"big": "chosen", "small": "refused", "spare": "refused", "openai": "skipped"}
    assert all(row["reasons"] for row in decision["candidates"])


def test_the_table_reads_from_top_to_bottom(cli, fleet):
    """What was asked and needed, a line a server with the chosen one marked, what comes next."""
    result = cli("route", "explain", "llama3.2:3b", "--context", "8192", "--snapshot", fleet)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].startswith("llama3.2:3b · 8k context")
    assert "needs" in lines[0]
    assert lines[1].split()[:3] == [">", "big", "chosen"]  # small has two requests in flight
    assert lines[2].split()[:2] == ["small", "possible"]
    assert lines[-1] == "Next best: small."


def test_what_was_measured_is_shown_beside_what_was_foretold(cli, fleet, tmp_path):
    """A line for each server where the model was in memory."""
    told = model("llama3.3:70b")
    held = {"name": told.name, "size": 50 * 2**30, "size_vram": 50 * 2**30, "digest": "a" * 64, "context_length": 8192}
    path = tmp_path / "loaded.json"
    seen = json.loads(Path(fleet).read_text())
    seen["servers"]["big"]["ps"] = {"models": [held]}
    path.write_text(json.dumps(seen))
    lines = cli("route", "explain", "llama3.3:70b", "--snapshot", str(path)).out.splitlines()
    line = next(line for line in lines if line.startswith("big, 8k context: "))
    assert "predicted by Ollama " in line
    assert ", measured 50.00 GiB, " in line
    assert not any(line.startswith("small, ") for line in lines)


def test_an_assignment_decides(cli, fleet):
    """Whatever else holds."""
    decision = cli("route", "explain", "gpt-4o", "--snapshot", fleet, "--json").json()
    assert decision["server"] == "openai"
    assert "assign" in decision["reason"]


@pytest.mark.parametrize("arguments", [("llama3.3:8b",), ("llama3.3:70b", "--context", "131072")])
def test_nobody_can_is_an_answer_and_exit_code_1(cli, fleet, arguments):
    """The answer is whole, so a person sees why; a script sees the code."""
    result = cli("route", "explain", *arguments, "--snapshot", fleet)
    assert result.code == 1
    assert "refused" in result.out
    assert "No server: " in result.out
    as_json = cli("route", "explain", *arguments, "--snapshot", fleet, "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["server"] is None


def test_a_server_that_is_not_in_the_file_was_not_asked(cli, fleet, tmp_path):
    """Facts that are missing are not made up."""
    path = tmp_path / "half.json"
    path.write_text(json.dumps({"servers": {"big": {"tags": TAGS}}}))
    decision = cli("route", "explain", "llama3.2:3b", "--snapshot", str(path), "--json").json()
    assert verdicts(decision) == {"big": "chosen", "small": "refused", "spare": "refused", "openai": "skipped"}


def test_a_server_with_an_error_is_down(cli, fleet, tmp_path):
    """With the error as its reason."""
    path = tmp_path / "down.json"
    path.write_text(json.dumps({"servers": {"big": {"tags": TAGS}, "small": {"error": "cable unplugged"}}}))
    result = cli("route", "explain", "llama3.2:3b", "--snapshot", str(path))
    assert "cable unplugged" in result.out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "is not JSON"),
        ("[]", "expected an object"),
        ('{"servers": []}', "servers: expected an object"),
        ('{"servers": {"bgi": {}}}', "no server named bgi; it has big, small, spare"),
        ('{"servers": {"big": {"tagz": {}}}}', "unknown key tagz"),
        ('{"servers": {"big": {"tags": []}}}', "not a JSON object"),
        ('{"servers": {"big": {"in_flight": "many"}}}', "expected a number"),
    ],
)
def test_a_broken_snapshot_file_is_named_with_its_place(cli, fleet, tmp_path, content, expected):
    """One text, exit code 1."""
    path = tmp_path / "broken.json"
    path.write_text(content)
    result = cli("route", "explain", "llama3.2:3b", "--snapshot", str(path))
    assert (result.code, result.out) == (1, "")
    assert expected in result.err


def test_live_and_snapshot_exclude_each_other(cli, fleet):
    """Wrong usage, exit code 2."""
    assert cli("route", "explain", "m", "--live", "--snapshot", fleet).code == 2


@pytest.mark.parametrize("flag", [(), ("--live",)], ids=["default", "--live"])
def test_live_asks_the_servers_of_the_config(cli, write_config, flag):
    """The same code as in the router asks for models, sizes and what is loaded."""
    with (
        SimulatorThread(models=["llama3.3:70b", "llama3.2:3b"], vram=48 << 30) as big,
        SimulatorThread(models=["llama3.2:3b"], vram=8 << 30) as small,
    ):
        write_config(CONFIG.format(big=big.port, small=small.port))
        decision = cli("route", "explain", "llama3.2:3b", *flag, "--json").json()
        missing = cli("route", "explain", "llama3.3:70b", *flag)
    assert decision["server"] == "small"
    assert "does not have the model" in missing.out
    assert "40" in missing.out or "GiB" in missing.out


def test_a_needed_capability_counts(cli, write_config):
    """A model that cannot see is refused for images."""
    with SimulatorThread(models=["llama3.2:3b"]) as big, SimulatorThread(models=["llava:7b"]) as small:
        write_config(CONFIG.format(big=big.port, small=small.port))
        assert cli("route", "explain", "llama3.2:3b", "--need", "vision").code == 1
        assert cli("route", "explain", "llava:7b", "--need", "vision").code == 0


def test_nothing_is_sent_to_a_model(cli, write_config):
    """Asking why costs no GPU a second."""
    with SimulatorThread(models=["llama3.2:3b"]) as big, SimulatorThread(models=["llama3.2:3b"]) as small:
        write_config(CONFIG.format(big=big.port, small=small.port))
        cli("route", "explain", "llama3.2:3b")
        asked = {one.path for server in (big, small) for one in server.simulator.requests}
    assert asked
    assert not asked & {"/api/generate", "/api/chat", "/api/embed", "/v1/chat/completions"}


def test_all_strategies_are_asked_side_by_side(cli, fleet):
    """The same question under every strategy; the expected times depend on the prompt."""
    asked = ("route", "explain", "llama3.2:3b", "--snapshot", fleet, "--all-strategies", "--prompt-tokens", "4000")
    answer = cli(*asked, "--json").json()
    assert set(answer["strategies"]) == {"priority_with_memory", "least_loaded", "round_robin", "fastest"}
    assert answer["strategies"]["least_loaded"]["server"] == "big"
    assert answer["prompt_tokens"] == 4000
    assert "least_loaded" in cli(*asked).out


def test_what_would_change_the_answer(cli, fleet):
    """The loss of the chosen server, and what each refused one lacks."""
    answer = cli("route", "explain", "llama3.3:70b", "--snapshot", fleet, "--json").json()
    changes = {one["server"]: one for one in answer["would_change"]}
    assert changes["big"]["then"] == "the request fails"
    assert changes["small"]["if"] == "the context is smaller, or max_memory_gb larger"


def test_what_would_change_it_reads_as_a_sentence(cli, fleet):
    """Server, what it could do then, and what has to happen."""
    assert ": it could take it if the model is pulled there" in cli("route", "explain", "x", "--snapshot", fleet).out


async def _then_close(work, database) -> None:
    await work
    await database.aclose()


def test_a_user_who_may_not_is_told(cli, fleet):
    """The decision is shown all the same; the exit code says that the request would fail."""
    assert cli("users", "create", "bob").code == 0
    database = Database(os.environ["OROUTER_DATABASE_URL"])
    grant = UserStore(database, clock=SystemClock()).set_grants("bob", {"models": ["gemma*"]})
    asyncio.run(_then_close(grant, database))
    result = cli("route", "explain", "llama3.2:3b", "--snapshot", fleet, "--user", "bob")
    assert result.code == 1
    assert "bob (may not use it)" in result.out
    unknown = cli("route", "explain", "llama3.2:3b", "--snapshot", fleet, "--user", "nobody")
    assert unknown.code == 1
    assert "known: bob" in unknown.err


def test_a_running_router_is_asked_with_url(cli, fleet):
    """What cannot be asked is one text and exit code 1; two sources at once are wrong usage."""
    result = cli("route", "explain", "m", "--url", "http://127.0.0.1:9")
    assert result.code == 1
    assert "cannot query http://127.0.0.1:9" in result.err
    assert cli("route", "explain", "m", "--url", "http://127.0.0.1:9", "--snapshot", fleet).code == 2


def test_an_address_needs_no_scheme(cli):
    """It is read as everywhere: `http`, and Ollama's port where none is given."""
    assert "cannot query http://127.0.0.1:9:" in cli("route", "explain", "m", "--url", "127.0.0.1:9").err


def test_a_server_that_held_nothing_is_wrong_usage(cli, fleet):
    """A name that is not in the config would change nothing, without a word."""
    result = cli("route", "explain", "llama3.2:3b", "--snapshot", fleet, "--held-by", "bigg")
    assert result.code == 2
    assert "known: " in result.err


def test_where_the_models_of_several_gpus_lie_is_said(cli, write_config, tmp_path):
    """What is free of each, and what is only assumed, as `/api/ps` does not tell."""
    write_config("servers:\n  big: {host: gpu1, gpus: [24.0, 48.0]}\n")
    path, loaded = tmp_path / "fleet.json", {"size": 6 << 30, "size_vram": 6 << 30}
    ps = {"models": [{"name": "llama3.2:3b", "model": "llama3.2:3b", "digest": "bb", **loaded}]}
    show = {"llama3.3:70b": {"model_info": model("llama3.3:70b").model_info(verbose=False)}}
    path.write_text(json.dumps({"servers": {"big": {"tags": TAGS, "show": show, "ps": ps}}}))
    said = cli("route", "explain", "llama3.3:70b", "--snapshot", str(path)).out
    assert "big, free of each GPU: 24.0, 42.0 GiB, with llama3.2:3b on GPU 1 (assumed)" in said
