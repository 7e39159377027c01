"""What a server's error says about the server: in the words of several versions and engines."""

from __future__ import annotations

import json

import pytest

from ollama_router_core.responses.server_faults import FaultKind, read_fault


def kind_of(status: int, body: bytes, *, streamed: bool = False) -> FaultKind | None:
    """What an error means."""
    fault = read_fault(status, body, streamed=streamed)
    return None if fault is None else fault.kind


@pytest.mark.parametrize(
    "text",
    [
        'tensor "token_embd.weight" offset+size (268402688) exceeds file size (104857600)',
        "llama runner process has terminated: exit status 2",
        "llama runner process has terminated: signal: killed",
        "llama-server process has terminated: error loading model: unknown model architecture: 'x'",
        "llama-server reported out-of-memory during startup: cudaMalloc failed: out of memory",
        "timed out waiting for llama-server to start - progress 0.00",
        "timed out waiting for llama runner to start: context canceled",
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error",
        "model requires more system memory (31.0 GiB) than is available (8.9 GiB)",
        "model requires 40.2 GB but only 22.0 GB are available (after 0 B overhead)",
        "this model requires MLX support, but the MLX runtime is not available",
        "'llama3.2-vision' is no longer compatible with your version of Ollama",
        "unable to load model: /models/blobs/sha256-74701a8c",
        "open /models/blobs/sha256-74701a8c: no such file or directory",
        "invalid file magic",
        "unable to allocate CUDA0 buffer",
        'do load request: Post "http://127.0.0.1:38123/load": EOF',
    ],
)
@pytest.mark.parametrize("shape", ["native", "openai", "anthropic"])
def test_a_load_that_failed_is_told_by_its_words(text: str, shape: str) -> None:
    """Nothing was generated, whichever dialect says so, and whether a stream was asked for or not."""
    error: object = {"native": text, "openai": {"message": text, "type": "api_error"}}.get(shape, {"message": text})
    body = json.dumps({"error": error}).encode()
    fault = read_fault(500, body, streamed=False)
    assert fault is not None
    assert (fault.kind, fault.nothing_ran) == (FaultKind.NOT_LOADED, True)
    assert fault.words == text


@pytest.mark.parametrize("body", [b"", b"oops", b'{"error":"oops"}', b'{"error":{"message":"panic"}}', b"[" * 70_000])
def test_another_500_is_a_failure_of_which_nothing_is_known(body: bytes) -> None:
    """It counts, and is the answer: the request may have run."""
    fault = read_fault(500, body, streamed=False)
    assert fault is not None
    assert (fault.kind, fault.nothing_ran) == (FaultKind.FAILED, False)


def test_a_run_that_broke_off_may_have_lasted_long() -> None:
    """In place of a whole answer it may have run for minutes; in place of a stream's first piece it did not."""
    body = b'{"error":"an error was encountered while running the model: unexpected EOF"}'
    assert kind_of(500, body) is FaultKind.FAILED
    assert kind_of(500, body, streamed=True) is FaultKind.NOT_LOADED
    calls = b'{"error":"llama-server returned invalid tool call arguments"}'
    assert kind_of(500, calls, streamed=True) is FaultKind.FAILED


@pytest.mark.parametrize(
    "text",
    [
        'option "num_ctx" must be of type integer',
        'invalid format: "x"; expected "json"',
        "image input is not supported",
    ],
)
def test_what_every_server_would_say_is_not_the_servers_fault(text: str) -> None:
    """Ollama has 500 for some mistakes of requests."""
    assert kind_of(500, json.dumps({"error": text}).encode()) is None


def test_only_the_words_of_a_missing_model_say_that_it_is_missing() -> None:
    """Each dialect's; another JSON text says nothing, and a text that is none comes from a router without the route."""
    assert kind_of(404, b'{"error":"model \'m\' not found"}') is FaultKind.NO_MODEL
    assert kind_of(404, b'{"error":"model \\"m:1b\\" not found, try pulling it first"}') is FaultKind.NO_MODEL
    openai = b'{"error":{"message":"model \'m\' not found","type":"not_found_error","param":null,"code":null}}'
    assert kind_of(404, openai) is FaultKind.NO_MODEL
    assert kind_of(404, b'{"error":"file was not found in this store"}') is None
    assert kind_of(404, b"404 page not found") is FaultKind.NO_ROUTE
    assert kind_of(404, b"<html>404 Not Found</html>") is FaultKind.NO_ROUTE
    assert kind_of(405, b"405 method not allowed") is FaultKind.NO_ROUTE


def test_a_capable_model_that_is_called_incapable_has_lost_its_weights() -> None:
    """Ollama tells what a model can do from its weights; where they are gone it says that it cannot chat."""
    body = b'{"error":"\\"gemma3:270m\\" does not support chat"}'
    fault = read_fault(400, body, streamed=False, capable=True)
    assert fault is not None
    assert (fault.kind, fault.nothing_ran) == (FaultKind.NOT_LOADED, True)
    assert kind_of(400, body) is None
    assert read_fault(400, b'{"error":"m does not support tools"}', streamed=False, capable=True) is None
    assert read_fault(400, b'{"error":"invalid model name"}', streamed=False, capable=True) is None


@pytest.mark.parametrize("status", [200, 400, 401, 403, 413, 429, 499, 501, 502, 503, 504])
def test_other_statuses_say_it_all(status: int) -> None:
    """Their bodies are not looked at."""
    assert read_fault(status, b'{"error":"llama runner process has terminated"}', streamed=False) is None


def test_words_are_one_short_printable_line() -> None:
    """They stand in logs and tables."""
    fault = read_fault(500, json.dumps({"error": "failed to load\n\tx\x1b[31m " + "y" * 1000}).encode(), streamed=False)
    assert fault is not None
    assert fault.words.startswith("failed to load x[31m yyy")
    assert len(fault.words) == 300
