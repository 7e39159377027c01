"""One conversation between dialects: Ollama, OpenAI, Anthropic; requests, answers, streams and errors, purely.

    client --body--> read_* -> Conversation -> write_* --body--> host
    client <-bytes-- write  <- Reply, Events <- read   <-bytes-- host

What cannot be said in the other dialect is refused (`UntranslatableRequest`, 400). What is left behind without harm is
listed in `TranslatedRequest.dropped`.
"""

from __future__ import annotations

from ollama_router_core.translate.dialects import OPENAI_TRAITS, Dialect, TargetTraits, target_dialect
from ollama_router_core.translate.errors import StreamEventTooLarge, UntranslatableReply, UntranslatableRequest
from ollama_router_core.translate.incoming import (
    StreamTranslator,
    TranslatedError,
    stream_content_type,
    translate_error,
    translate_reply,
)
from ollama_router_core.translate.listings import (
    ExternalModel,
    loading_reply,
    openai_model,
    show_reply,
    tags_entry,
)
from ollama_router_core.translate.outgoing import ReplyOptions, TranslatedRequest, translate_request
from ollama_router_core.translate.problems import read_problem
from ollama_router_core.translate.replies import Stamp
from ollama_router_core.translate.timestamps import rfc3339

__all__ = [
    "OPENAI_TRAITS",
    "Dialect",
    "ExternalModel",
    "ReplyOptions",
    "Stamp",
    "StreamEventTooLarge",
    "StreamTranslator",
    "TargetTraits",
    "TranslatedError",
    "TranslatedRequest",
    "UntranslatableReply",
    "UntranslatableRequest",
    "loading_reply",
    "openai_model",
    "read_problem",
    "rfc3339",
    "show_reply",
    "stream_content_type",
    "tags_entry",
    "target_dialect",
    "translate_error",
    "translate_reply",
    "translate_request",
]
