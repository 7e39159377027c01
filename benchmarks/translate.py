"""How many stream chunks a second one core translates, for every pair of dialects a user can meet.

Run alone: `python benchmarks/translate.py`. The promises are 100,000 text chunks a second a core and at most 60 us that
translation adds to a piece of any kind, so it is processor time that is counted. Each chunk is fed by itself, as a
server sends it; one column feeds 16 KiB at a time, as a fast server's bytes arrive. The last is the dearest kind of
piece: thoughts or arguments of a call.
"""

from __future__ import annotations

import json
import time

from ollama_router_core.translate import ReplyIdentity, Route, StreamTranslator
from ollama_router_core.translate.anthropic.codec import ANTHROPIC_MESSAGES
from ollama_router_core.translate.ollama.codec import OLLAMA_CHAT
from ollama_router_core.translate.openai.codec import OPENAI_CHAT
from ollama_router_core.translate.openai_responses.codec import OPENAI_RESPONSES

CHUNKS = 20_000
FEWER = 4_000
ROUNDS = 4
PROMISE = 100_000
MOST_US = 60.0
DIALECTS = (OLLAMA_CHAT, OPENAI_CHAT, ANTHROPIC_MESSAGES, OPENAI_RESPONSES)
IDENTITY = ReplyIdentity(model="llama3.3:70b", id="01JD2Q9K5V", created_ns=1_700_000_000_000_000_000)


def chunk(dialect: Route, text: str) -> bytes:
    """A chunk of text as the dialect's own server writes it."""
    if dialect is OLLAMA_CHAT:
        head = {"model": "llama3.3:70b", "created_at": "2026-08-21T10:00:00.123456789Z"}
        return json.dumps({**head, "message": {"role": "assistant", "content": text}, "done": False}).encode() + b"\n"
    if dialect is OPENAI_CHAT:
        head = {"id": "chatcmpl-BJ3x9", "object": "chat.completion.chunk", "created": 1744438886, "model": "gpt-4o"}
        rest = {"service_tier": "default", "system_fingerprint": "fp_44add55e8c"}
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        return b"data: " + json.dumps({**head, **rest, "choices": [choice]}).encode() + b"\n\n"
    if dialect is OPENAI_RESPONSES:
        place = {"item_id": "msg_67c9fdcf37fc81909ba82116258fb28d", "output_index": 0, "content_index": 0}
        event = {"type": "response.output_text.delta", "sequence_number": 9, **place, "delta": text, "logprobs": []}
        return b"event: response.output_text.delta\ndata: " + json.dumps(event).encode() + b"\n\n"
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\ndata: " + json.dumps(data).encode() + b"\n\n"


def thought(dialect: Route, text: str) -> bytes:
    """A chunk of what the model thinks."""
    if dialect is OLLAMA_CHAT:
        return json.dumps({"message": {"role": "assistant", "content": "", "thinking": text}}).encode() + b"\n"
    if dialect is OPENAI_CHAT:
        choice = {"index": 0, "delta": {"reasoning_content": text}, "finish_reason": None}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    if dialect is OPENAI_RESPONSES:
        event = {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": text}
        return b"data: " + json.dumps(event).encode() + b"\n\n"
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": text}}
    return b"event: content_block_delta\ndata: " + json.dumps(data).encode() + b"\n\n"


def arguments(dialect: Route, text: str, number: int) -> bytes:
    """A chunk of a call's arguments, the first one with its name; Ollama's calls come whole."""
    if dialect is OLLAMA_CHAT:
        call = {"id": f"call_{number}", "function": {"name": "write", "arguments": {"text": text}}}
        return json.dumps({"message": {"role": "assistant", "content": "", "tool_calls": [call]}}).encode() + b"\n"
    piece = text if number else '{"text":"'
    if dialect is OPENAI_CHAT:
        head = {} if number else {"id": "call_1", "type": "function"}
        function = {"arguments": piece} if number else {"name": "write", "arguments": piece}
        delta = {"tool_calls": [{"index": 0, **head, "function": function}]}
        return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
    if dialect is OPENAI_RESPONSES:
        item = {"type": "function_call", "call_id": "call_1", "name": "write", "arguments": ""}
        added = {"type": "response.output_item.added", "output_index": 0, "item": item}
        event = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": piece}
        return b"data: " + json.dumps(event if number else added).encode() + b"\n\n"
    block = {"type": "tool_use", "id": "call_1", "name": "write", "input": {}}
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
    return b"data: " + json.dumps(data if number else start).encode() + b"\n\n"


def rate(source: Route, target: Route, pieces: list[bytes], count: int = CHUNKS) -> float:
    """Chunks a second, the best of some rounds: the machine is shared."""
    best = 0.0
    for _ in range(ROUNDS):
        translator = StreamTranslator(source, target, identity=IDENTITY)
        feed = translator.feed
        begun = time.process_time()
        for piece in pieces:
            feed(piece)
        best = max(best, count / (time.process_time() - begun))
        assert translator.failure is None
    return best


def main() -> None:
    """Measure and print the table."""
    texts = [f" word{number % 97}" for number in range(CHUNKS)]
    print(f"{'from':<20}{'to':<20}{'text one by one/s':>20}{'text 16 KiB/s':>16}{'us a piece':>12}{'dearest us':>12}")
    slowest, dearest = float("inf"), 0.0
    for source in DIALECTS:
        chunks = [chunk(source, text) for text in texts]
        whole = b"".join(chunks)
        reads = [whole[start : start + 16384] for start in range(0, len(whole), 16384)]
        others = [
            [thought(source, text) for text in texts[:FEWER]],
            [arguments(source, text, number) for number, text in enumerate(texts[:FEWER])],
        ]
        for target in DIALECTS:
            if source is target:
                continue
            single, batched = rate(source, target, chunks), rate(source, target, reads)
            worst = 1e6 / min(single, *(rate(source, target, pieces, FEWER) for pieces in others))
            slowest, dearest = min(slowest, single, batched), max(dearest, worst)
            figures = f"{single:>20,.0f}{batched:>16,.0f}{1e6 / single:>12.1f}{worst:>12.1f}"
            print(f"{source.name:<20}{target.name:<20}{figures}")
    print(f"slowest {slowest:,.0f}, promised {PROMISE:,}: {'kept' if slowest >= PROMISE else 'MISSED'}")
    print(f"dearest {dearest:.1f} us, promised at most {MOST_US:.0f}: {'kept' if dearest <= MOST_US else 'MISSED'}")


if __name__ == "__main__":
    main()
