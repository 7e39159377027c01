"""What is compared: our router with everything on, and what a user would pick instead.

Each stack is a context manager that yields a `Running` once it answers. Peers from the package index live in a
virtual environment of their own below `.peers/`, made on first use.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / ".peers"
BACKEND = 18900
OPEN = "none"  # what stacks without users are sent
BODY = b'{"model":"llama3.1:8b","messages":[{"role":"user","content":"hello"}],"stream":false}'
NGINX = """worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off;
events {{ worker_connections 8192; }}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
 uwsgi_temp_path {folder}; scgi_temp_path {folder};
 upstream b {{ server 127.0.0.1:{backend}; keepalive 512; }}
 server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://b; proxy_http_version 1.1;
 proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""
HAPROXY = """global
  maxconn 8192
  nbthread 1
defaults
  mode http
  timeout connect 3s
  timeout client 300s
  timeout server 300s
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{backend}
"""
ROUTER = """
proxy_port: {port}
servers:
  one: {{host: 127.0.0.1, port: {backend}, priority: 1, max_memory_gb: 24}}
limits: {{max_in_flight: 8192}}
logging: {{level: warning}}
"""
LITELLM = """
model_list:
  - model_name: "llama3.1:8b"
    litellm_params: {{model: "openai/llama3.1:8b", api_base: "http://127.0.0.1:{backend}/v1", api_key: none}}
"""


@dataclass
class Running:
    """A stack that answers: its port, its processes, the header that lets a request in, its time to start (s)."""

    name: str
    port: int
    pids: list[int]
    token: str = OPEN
    started_in: float = 0.0

    def rss(self) -> int:
        """Resident bytes of all its processes."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in self.pids)

    def cpu(self) -> float:
        """Processor seconds of all its processes."""
        fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split() for pid in self.pids)
        return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def process(*command, **options):
    """A process that ends with the block."""
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, **{"stdout": subprocess.DEVNULL, **options})
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def backend(*slots):
    """The backend behind every stack; `slots` is how many whole answers it works on at once."""
    with process(sys.executable, str(HERE / "backend.py"), str(BACKEND), *map(str, slots)) as running:
        wait_for(BACKEND, OPEN, 20)
        yield Running("direct", BACKEND, [running.pid])


@contextlib.contextmanager
def before_all_others(*running):
    """Have the kernel run these stacks and this process before everything else, so that neighbours cost no delay.

    Needs root; says so and changes nothing without.
    """
    pids = [os.getpid(), *(pid for one in running for pid in one.pids)]
    try:
        _schedule(pids, os.SCHED_RR, 1)
    except PermissionError:
        print("not root: delays include those that neighbours on this machine cause", file=sys.stderr)
        yield
        return
    try:
        yield
    finally:
        _schedule(pids, os.SCHED_OTHER, 0)


def _schedule(pids, policy, priority):
    for thread in [one for pid in pids for one in Path(f"/proc/{pid}/task").iterdir()]:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


def wait_for(port, token, seconds):
    """Return the seconds until a chat is answered."""
    begun = time.monotonic()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    request = urllib.request.Request(url, BODY, headers)
    while time.monotonic() - begun < seconds:
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
            if answer.status == 200:
                return time.monotonic() - begun
        time.sleep(0.02)
    raise RuntimeError(f"nothing answers on port {port}")


@contextlib.contextmanager
def started(name, command, port, *, token=OPEN, **options):
    """A stack from one command."""
    with process(*command, **options) as running:
        seconds = wait_for(port, token, 120)
        pids = [running.pid, *_descendants(running.pid)]
        yield Running(name, port, pids, token, seconds)


def _descendants(pid):
    found = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in _descendants(child)]


@contextlib.contextmanager
def nginx(config=NGINX):
    """Nginx, one worker, buffering off."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nginx.conf"
        path.write_text(config.format(folder=folder, port=port, backend=BACKEND))
        with started("nginx", ["nginx", "-c", str(path)], port) as running:
            yield running


@contextlib.contextmanager
def haproxy():
    """Haproxy, one thread."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(HAPROXY.format(port=port, backend=BACKEND))
        with started("haproxy", ["haproxy", "-f", str(config)], port) as running:
            yield running


@contextlib.contextmanager
def router(workers=1, config=ROUTER, *, name="ollama-router", python=sys.executable):
    """Our router: auth, routing, log to SQLite, metrics, all on."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orouter.yml"
        path.write_text(config.format(port=port, backend=BACKEND))
        environment = {**os.environ, "OROUTER_DATABASE_URL": f"sqlite:///{folder}/router.sqlite3"}
        orouter = [python, "-m", "ollama_router_cli", "--config", str(path)]
        made = subprocess.run(
            [*orouter, "users", "create", "bench"], env=environment, check=True, capture_output=True, text=True
        )
        token = re.search(r"\b[0-9A-Za-z]{32}\b", made.stdout)[0]
        command = [*orouter, "serve", *(["--workers", str(workers)] if workers > 1 else [])]
        with started(name, command, port, token=token, env=environment) as running:
            yield running


@contextlib.contextmanager
def vllm_router():
    """The Rust router."""
    port = free_port()
    command = [str(_peer("vllm-router", "vllm-router")), "--port", str(port), "--host", "127.0.0.1"]
    command += ["--worker-urls", f"http://127.0.0.1:{BACKEND}", "--policy", "round_robin", "--log-level", "error"]
    with started("vllm-router", [*command, "--prometheus-port", str(free_port())], port) as running:
        yield running


@contextlib.contextmanager
def litellm():
    """LiteLLM's proxy, one worker."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litellm.yml"
        config.write_text(LITELLM.format(backend=BACKEND))
        command = [str(_peer("litellm[proxy]==1.100.0", "litellm")), "--config", str(config), "--port", str(port)]
        with started("litellm", [*command, "--telemetry", "False"], port, cwd=folder) as running:
            yield running


def _peer(package, program):
    folder = PEERS / program
    if not (folder / "bin" / program).exists():
        uv = shutil.which("uv") or "uv"
        subprocess.run([uv, "venv", "-q", str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(folder / "bin" / "python"), package], check=True)
    return folder / "bin" / program


STACKS = {
    "nginx": nginx,
    "haproxy": haproxy,
    "ollama-router": router,
    "vllm-router": vllm_router,
    "litellm": litellm,
}
