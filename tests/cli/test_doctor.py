"""`orouter doctor`: what is looked at, how grave it is, and what fixes it."""

from __future__ import annotations

import ast
import json
import re
import sqlite3
import subprocess
from contextlib import closing
from email.utils import formatdate
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

import ollama_router_cli.sources
import ollama_router_server.admin.doctor
from ollama_router_core.config import Server
from ollama_router_core.config.reference import settings_reference
from ollama_router_core.testing import Answer, SimulatorThread
from ollama_router_server.admin.doctor import machine_findings
from ollama_router_server.admin.doctor.connection_findings import certificate_findings, clock_difference
from ollama_router_server.admin.doctor.fleet_findings import slots_finding
from ollama_router_server.admin.doctor.machine_findings import certificate_finding
from ollama_router_server.fleet.discovery.kubernetes import KubernetesFinder
from ollama_router_server.storage import upgrade
from support.certificates import certificate_for_loopback
from support.kubernetes_api import SELECTOR, endpoint, kubernetes_api
from support.orouter import Orouter
from support.workers import served

MODEL = "llama3.1:8b"
DAY = 86_400.0


def found(result, subject):
    """The findings about one thing."""
    return [one for one in json.loads(result.out)["findings"] if one["subject"] == subject]


@pytest.fixture
def servers(write_config):
    """One server that answers, and one that does not."""
    with SimulatorThread(models=[MODEL]) as big:
        write_config(f"servers: {{big: {{host: 127.0.0.1, port: {big.port}}}, gone: {{host: 127.0.0.1, port: 9}}}}\n")
        yield big


def test_servers_are_asked(cli, servers):
    """Version and models of one that answers; the reason and what to type for one that does not, which is here."""
    result = cli("doctor", "--json")
    (big,), (gone,) = found(result, "server big"), found(result, "server gone")
    assert big["severity"] == "ok"
    assert "1 models" in big["reason"]
    assert gone["severity"] == "warning"
    assert "ollama serve" in gone["fix"]


def test_an_error_is_exit_code_one(cli, write_config):
    """No server answers: nobody is served."""
    write_config("servers: {gone: {host: 127.0.0.1, port: 9}}\n")
    result = cli("doctor", "--json")
    assert result.code == 1
    assert json.loads(result.out)["ok"] is False
    assert found(result, "server gone")[0]["severity"] == "error"


def test_a_running_router_is_asked(tmp_path):
    """Whether it takes requests, at the address of the config; without it that is a warning."""
    orouter = Orouter(home=tmp_path)
    with SimulatorThread(models=[MODEL]) as big:
        orouter.config.write_text(f"servers: {{big: {{host: 127.0.0.1, port: {big.port}}}}}\n")
        with orouter.serve("--port", "0") as url:
            port = url.rpartition(":")[2]
            orouter.config.write_text(f"proxy_port: {port}\nservers: {{big: {{host: 127.0.0.1, port: {big.port}}}}}\n")
            told = orouter.json("doctor")["findings"]
        assert [one["severity"] for one in told if one["subject"] == "router"] == ["ok"]
        (absent,) = [one for one in orouter.json("doctor")["findings"] if one["subject"] == "router"]
    assert (absent["severity"], absent["fix"]) == ("warning", "orouter serve")


def test_another_program_at_the_router_s_port_is_an_error(cli, servers, tmp_path):
    """`orouter serve` could not start there."""
    path = tmp_path / "orouter.yml"
    with SimulatorThread() as other:
        path.write_text(f"{path.read_text()}proxy_port: {other.port}\n")
        (finding,) = found(cli("doctor", "--json"), "router")
    assert (finding["severity"], "another program, not the router" in finding["reason"]) == ("error", True)
    assert f"ss -ltnp 'sport = :{other.port}'" in finding["fix"]


@pytest.mark.parametrize(
    ("revision", "fix"),
    [
        ("9999", "a newer release"),
        ("0004_token_priority_expand", "with the last development version"),
        ("copying-x", "orouter db copy"),
        (None, "orouter db restore"),
    ],
)
def test_a_database_that_this_release_cannot_read_is_told_with_what_can(cli, servers, tmp_path, revision, fix):
    """An upgrade would not: a newer release's, a development version's, an unfinished copy, and what is none."""
    path = tmp_path / "router.sqlite3"
    if revision is None:
        path.write_text("not a database " * 100)
        path.chmod(0o600)
    else:
        cli("users", "create", "alice")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    (finding,) = found(cli("doctor", "--json"), "database")
    assert finding["severity"] == "error"
    assert fix in finding["fix"]


@pytest.mark.parametrize(("status", "severity"), [(200, "warning"), (503, "error")])
def test_what_troubles_a_router_is_told(cli, servers, tmp_path, respx_mock, status, severity):
    """In the words of its `/health`; an error where it takes no requests."""
    path = tmp_path / "orouter.yml"
    path.write_text(f"{path.read_text()}proxy_port: 1\n")
    problem = "the coordination store does not answer"
    respx_mock.get("http://127.0.0.1:1/readyz").respond(status)
    respx_mock.get("http://127.0.0.1:1/health").respond(json={"problems": [problem]})
    respx_mock.route(path="/api/version").pass_through()
    (finding,) = found(cli("doctor", "--json"), "router")
    assert finding["severity"] == severity
    assert problem in finding["reason"]


def test_a_database_is_judged_without_being_made(cli, servers, tmp_path):
    """None yet is fine; one that others can read is a warning with the command."""
    assert found(cli("doctor", "--json"), "database")[0]["severity"] == "ok"
    assert not (tmp_path / "router.sqlite3").exists()
    cli("users", "create", "alice")
    (tmp_path / "router.sqlite3").chmod(0o644)
    first, second = found(cli("doctor", "--json"), "database")
    assert (first["severity"], first["fix"]) == ("warning", f"chmod 600 {tmp_path}/router.sqlite3")
    assert second["severity"] == "ok"


def test_a_database_that_cannot_be_made_is_an_error(cli, servers, tmp_path, monkeypatch):
    """Its folder would have to be where a file is, or belongs to somebody else."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("OROUTER_DATABASE_URL", f"sqlite:///{tmp_path}/file/router.sqlite3")
    (told,) = found(cli("doctor", "--json"), "database")
    assert told["severity"] == "error"
    assert f"cannot create it in {tmp_path}/file" in told["reason"]
    assert "install -d" in told["fix"]


def test_something_else_at_a_server_s_port_is_told_as_such(cli, write_config):
    """To start Ollama would not help: its port is taken."""
    with SimulatorThread(models=[MODEL]) as other:
        other.simulator.faults.add([Answer(status=404)], path="/api/version", times=9)
        write_config(f"servers: {{a: {{host: 127.0.0.1, port: {other.port}}}}}\n")
        (told,) = found(cli("doctor", "--json"), "server a")
    assert "is this Ollama?" in told["reason"]
    assert told["fix"].startswith("servers.a.port")


def test_a_database_that_cannot_be_reached_is_an_error(cli, servers, monkeypatch):
    """Its password is not shown."""
    monkeypatch.setenv("OROUTER_DATABASE_URL", "postgresql://router:hunter2@127.0.0.1:1/router")
    result = cli("doctor", "--json")
    assert result.code == 1
    assert found(result, "database")[0]["severity"] == "error"
    assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize(("free", "severity"), [(10 << 30, "ok"), (2 << 30, "warning"), (1 << 20, "error")])
def test_a_full_disk_is_foretold(cli, servers, monkeypatch, free, severity):
    """Where the database is."""
    monkeypatch.setattr(machine_findings.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert found(cli("doctor", "--json"), "disk")[0]["severity"] == severity


def test_rows_for_postgresql_need_a_disk_that_is_not_full(cli, servers, monkeypatch):
    """It is this machine's, wherever the database is; to delete rows there would free nothing here."""
    monkeypatch.setenv("OROUTER_DATABASE_URL", "postgresql://router@127.0.0.1:9/router")
    monkeypatch.setattr(machine_findings.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    (disk,) = found(cli("doctor", "--json"), "disk")
    assert disk["severity"] == "error"
    assert "log rows wait" in disk["reason"]
    assert "cleanup" not in disk["fix"]


def test_tokens_in_the_clear_are_a_smell(cli, servers, tmp_path):
    """A router that listens on every address without TLS and without a proxy in front."""
    path = tmp_path / "orouter.yml"
    path.write_text(f"{path.read_text()}proxy_host: 0.0.0.0\n")
    (finding,) = found(cli("doctor", "--json"), "config")
    assert finding["severity"] == "warning"
    assert "in the clear" in finding["reason"]


def test_rows_that_wait_are_told(cli, servers, tmp_path):
    """A folder of rows that the database could not take."""
    folder = tmp_path / "router.sqlite3.spill"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}\n")
    assert found(cli("doctor", "--json"), "request log")[0]["severity"] == "warning"


def test_a_certificate_is_told_by_its_last_day(tmp_path):
    """Two days are few, none are too few, and a file that is no certificate is told as it is."""
    path = certificate_for_loopback(tmp_path)
    issued = path.stat().st_mtime
    near = certificate_finding(str(path), None, now=issued)
    assert (near.severity, near.fix is None) == ("warning", False)
    assert "2 more days" in near.reason
    assert certificate_finding(str(path), None, now=issued - 30 * DAY).severity == "ok"
    broken = tmp_path / "broken.pem"
    broken.write_text("nothing")
    assert certificate_finding(str(broken), None, now=issued).severity == "error"


def test_an_expired_certificate_is_an_error(tmp_path):
    """The handshake says so itself."""
    path = certificate_for_loopback(tmp_path)
    text = path.read_text()
    old = tmp_path / "old.crt"
    dates = ("-not_before", "20200101000000Z", "-not_after", "20200201000000Z")
    command = ["openssl", "x509", "-in", str(path.with_suffix(".crt")), "-key", str(path), "-out", str(old), *dates]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this openssl sets no dates")
    key = text[: text.index("-----BEGIN CERTIFICATE")]
    path.write_text(key + old.read_text())
    finding = certificate_finding(str(path), None, now=0.0)
    assert finding.severity == "error"
    assert "expired" in finding.reason


def test_a_clock_is_compared_in_whole_seconds():
    """The way of the answer and the cut second explain away what they can."""
    assert clock_difference(formatdate(1_000, usegmt=True), sent=1_000.4, received=1_002.0) == 0.0
    assert clock_difference(formatdate(1_090, usegmt=True), sent=1_000.0, received=1_000.5) == 89.5
    assert clock_difference(formatdate(900, usegmt=True), sent=1_000.0, received=1_000.5) == -99.0
    assert clock_difference(None, sent=0.0, received=0.0) is None
    assert clock_difference("yesterday", sent=0.0, received=0.0) is None
    assert clock_difference("Mon, 1 Jan 99999999999 00:00:00 GMT", sent=0.0, received=0.0) is None


def test_it_reads_as_a_table(cli, servers):
    """Severity first, and what to type last."""
    shown = cli("doctor").out
    assert "SUBJECT" in shown
    assert "orouter serve" in shown


def test_nothing_is_changed(cli, servers, tmp_path):
    """A look is only a look."""
    before = {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob("*")}
    cli("doctor")
    assert {path: path.stat().st_mtime_ns for path in Path(tmp_path).rglob("*")} == before


def test_a_running_router_tells_what_it_learned(tmp_path):
    """With an admin's token: how many requests a server takes at once, and what the config says otherwise."""
    with SimulatorThread(models=[MODEL]) as big:
        server = {"host": "127.0.0.1", "port": big.port, "num_parallel": 4}
        with served(tmp_path, {"big": server}) as router, router.client(router.admin_token) as admin:
            told = admin.get("/router/doctor").json()
            assert told["ok"] is True
            assert {"subject": "router", "severity": "ok", "reason": "takes requests", "fix": None} in told["findings"]
            port = int(router.url.rpartition(":")[2])
            router.orouter.config.write_text(json.dumps({"proxy_port": port, "servers": {"big": server}}))
            with_token = Orouter(home=tmp_path, variables={"OROUTER_TOKEN": router.admin_token})
            reasons = [one["reason"] for one in with_token.json("doctor")["findings"]]
            assert "takes requests" in reasons
            shown = with_token.run("doctor").stdout.splitlines()
            seen = {tuple(line.split()[1:3]) for line in shown if line.startswith("ok") and line.split()[1] == "router"}
            assert seen == {("router", "here"), ("router", "router")}
            refused = Orouter(home=tmp_path, variables={"OROUTER_TOKEN": router.token}).run("doctor")
            assert refused.returncode == 1


@pytest.mark.parametrize(("told", "severity"), [(None, "ok"), (2, "ok"), (4, "warning")])
def test_learned_slots_are_compared_with_the_config(told, severity):
    """What was seen is told; a setting that says otherwise is worth a word."""
    (finding,) = slots_finding("big", Server(host="h", num_parallel=told), 2)
    assert (finding.severity, "OLLAMA_NUM_PARALLEL" in finding.reason) == (severity, True)
    assert list(slots_finding("big", Server(host="h"), None)) == []


def test_a_config_with_problems_is_a_finding_for_each(cli, write_config):
    """In JSON, too; nothing else can be looked at."""
    write_config("servers: {a: {host: }}\nroutng: x\n")
    result = cli("doctor", "--json")
    assert result.code == 1
    first, second = found(result, "config")
    assert (first["severity"], first["reason"].partition(":")[0]) == ("error", "line 1")
    assert "routng" in second["reason"]


def test_the_store_of_coordination_is_asked(cli, servers, tmp_path):
    """One that is away is a warning, because each router goes on with its share; its password is not shown."""
    path = tmp_path / "orouter.yml"
    path.write_text(f"{path.read_text()}coordination: {{url: 'redis://:hunter2@127.0.0.1:9/0'}}\n")
    result = cli("doctor", "--json")
    (finding,) = found(result, "coordination")
    assert finding["severity"] == "warning"
    assert finding["fix"] == "redis-cli -u redis://:***@127.0.0.1:9/0 ping"
    assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize(
    ("url", "severity"),
    [
        ("redis://127.0.0.1:9/0?password=hunter2", "warning"),
        ("redis://127.0.0.1:hunter2/0", "error"),
        ("redis://me:hunter2/3@127.0.0.1:9/0", "error"),
    ],
)
def test_no_form_of_the_store_s_url_shows_its_password(cli, servers, tmp_path, url, severity):
    """In its query, or in a URL that is none because of it: that is an error with how it must look."""
    path = tmp_path / "orouter.yml"
    path.write_text(f"{path.read_text()}coordination: {{url: '{url}'}}\n")
    result = cli("doctor", "--json")
    (finding,) = found(result, "coordination")
    assert finding["severity"] == severity
    assert "hunter2" not in result.out + result.err


def test_places_where_servers_are_found_are_looked_at(cli, servers, tmp_path):
    """How many there are, or why they cannot be told and what shows it."""
    (tmp_path / "some.yml").write_text("one: {host: 10.0.0.1}\n")
    path = tmp_path / "orouter.yml"
    path.write_text(f"{path.read_text()}discovery: {{files: [{tmp_path}/some.yml, {tmp_path}/none.yml]}}\n")
    result = cli("doctor", "--json")
    (some,), (none,) = (found(result, f"discovery file:{tmp_path}/{name}.yml") for name in ("some", "none"))
    assert (some["severity"], some["reason"]) == ("ok", "servers found: 1")
    assert (none["severity"], none["fix"]) == ("warning", f"ls -l {tmp_path}/none.yml")


def test_discovery_that_may_not_watch_is_a_warning(cli, servers, tmp_path, monkeypatch):
    """What is found is told, with the right that is missing."""
    with kubernetes_api(tmp_path) as api:
        api.put("ollama-x", endpoint("10.1.0.1", "ollama-0"))
        api.statuses["watch"] = 403
        in_pod = partial(KubernetesFinder, account=str(api.account))
        monkeypatch.setattr("ollama_router_server.fleet.discovery.discovery_loop.KubernetesFinder", in_pod)
        for name, value in api.environment.items():
            monkeypatch.setenv(name, value)
        path = tmp_path / "orouter.yml"
        path.write_text(f"{path.read_text()}discovery: {{kubernetes: {{selector: {SELECTOR}}}}}\n")
        (finding,) = found(cli("doctor", "--json"), f"discovery kubernetes:{SELECTOR}")
    assert finding["severity"] == "warning"
    assert finding["reason"].startswith(
        "servers found: 1; changes are noticed only at the next interval: its service account"
    )


def test_the_certificate_of_a_server_is_told(tmp_path):
    """Its last day where it is trusted, and why it is refused where it is not."""
    with kubernetes_api(tmp_path) as api:  # any server with TLS
        port = int(api.environment["KUBERNETES_SERVICE_PORT"])
        trusted = Server(host="127.0.0.1", port=port, protocol="https", ca_file=str(api.account / "ca.crt"))
        issued = (api.account / "ca.crt").stat().st_mtime
        (soon,) = certificate_findings("a", trusted, now=issued)
        (fine,) = certificate_findings("a", trusted, now=issued - 30 * DAY)
        (strange,) = certificate_findings("a", trusted.model_copy(update={"ca_file": None}), now=issued)
    assert (soon.severity, fine.severity, strange.severity) == ("warning", "ok", "error")
    assert "2 more days" in soon.reason
    assert "certificate is refused" in strange.reason


def test_what_mends_a_smell_is_about_it(cli, servers, tmp_path):
    """Not the same word for all."""
    path = tmp_path / "orouter.yml"
    host = "{host: 127.0.0.1, api: openai, api_key_env: NO_SUCH}"
    path.write_text(f"{path.read_text()}external_hosts: {{oa: {host}}}\n")
    (finding,) = found(cli("doctor", "--json"), "config")
    assert "NO_SUCH" in finding["reason"]
    assert "systemctl edit" in finding["fix"]


def words_of_the_doctor():
    """What its modules say, docstrings and all, and what says how a database becomes usable."""
    packages = (ollama_router_cli.sources, ollama_router_server.admin.doctor)
    paths = [path for package in packages for path in Path(package.__path__[0]).glob("*.py")]
    for path in (*paths, Path(upgrade.__file__)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_commands_that_mend_exist(cli):
    """A finding sends nobody to a command that there is not."""
    told = {
        found[1] for text in words_of_the_doctor() for found in re.finditer(r"\borouter ([a-z]+(?: [a-z]+)?)", text)
    }
    assert {"db upgrade", "servers undrain", "logs cleanup"} <= told
    for words in told:
        assert cli(*words.split(), "--help").code == 0, words


def test_settings_that_mend_exist():
    """Nor to a setting: each that is named in a section of the config is one."""
    known = {setting.path for setting in settings_reference()}
    sections = "|".join({path.partition(".")[0] for path in known if "." in path})
    texts = "\n".join(words_of_the_doctor())
    told = set(re.findall(rf"(?<![\w./])(?:{sections})\.[a-z_]+", texts))
    assert {"request_log.keep_days", "coordination.url"} <= told
    assert told <= known
