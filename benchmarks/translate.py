"""How many stream chunks a second one core translates, for every pair of dialects a user can meet.

Run alone: `python benchmarks/translate.py`. The promise is 100,000 text chunks a second a core, so it is processor time
that is counted. Each chunk is fed by itself, as a server sends it; the last column feeds 16 KiB at a time, as a fast
server's bytes arrive.
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
ROUNDS = 5
PROMISE = 100_000
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


def rate(source: Route, target: Route, pieces: list[bytes]) -> float:
    """Chunks a second, the best of some rounds: the machine is shared."""
    best = 0.0
    for _ in range(ROUNDS):
        translator = StreamTranslator(source, target, identity=IDENTITY)
        feed = translator.feed
        begun = time.process_time()
        size = sum(len(feed(piece)) for piece in pieces)
        best = max(best, CHUNKS / (time.process_time() - begun))
        assert size > CHUNKS
        assert translator.failure is None
    return best


def main() -> None:
    """Measure and print the table."""
    texts = [f" word{number % 97}" for number in range(CHUNKS)]
    print(f"{'from':<20}{'to':<20}{'chunks/s one by one':>22}{'chunks/s 16 KiB reads':>24}")
    slowest = float("inf")
    for source in DIALECTS:
        chunks = [chunk(source, text) for text in texts]
        whole = b"".join(chunks)
        reads = [whole[start : start + 16384] for start in range(0, len(whole), 16384)]
        for target in DIALECTS:
            if source is target:
                continue
            single, batched = rate(source, target, chunks), rate(source, target, reads)
            slowest = min(slowest, single, batched)
            print(f"{source.name:<20}{target.name:<20}{single:>22,.0f}{batched:>24,.0f}")
    print(f"slowest {slowest:,.0f}, promised {PROMISE:,}: {'kept' if slowest >= PROMISE else 'MISSED'}")


if __name__ == "__main__":
    main()
