"""Translation of requests, replies, streams and errors between API dialects, without I/O.

    client --body--> read_request  -> Conversation -> fitted -> write_request --body--> host
    client <-bytes-- stream_writer <- Reply, Events <- stream_reader <-bytes-- host

A dialect is one package with one `Codec`, registered in `registry`. Content that a host does not accept is converted to
the nearest form (`fitting`); losses are listed in `TranslatedRequest.dropped`. A request that is invalid in its dialect
is rejected (`UntranslatableRequest`, 400).
"""

from __future__ import annotations

from ollama_router_core.translate.accepts import Accepts, CallIds
from ollama_router_core.translate.codec import ConversationRoute, EmbeddingRoute, HostTraits, Route
from ollama_router_core.translate.conversation import ReplyOptions, ThinkingLevel
from ollama_router_core.translate.errors import (
    HostFailed,
    StreamEventTooLarge,
    UntranslatableReply,
    UntranslatableRequest,
)
from ollama_router_core.translate.external_models import ExternalModel
from ollama_router_core.translate.host_errors import read_host_error
from ollama_router_core.translate.kept_thoughts import KeptThoughts, Recall, TurnThoughts
from ollama_router_core.translate.member_rules import MemberRule
from ollama_router_core.translate.message_rules import MessageRules
from ollama_router_core.translate.refused_members import REFUSING_STATUSES, refused_member
from ollama_router_core.translate.registry import CODECS, ROUTES, codec_of, family_of_domain, route_at
from ollama_router_core.translate.replies import QueuePlace, ReplyIdentity
from ollama_router_core.translate.reply_translation import (
    TranslatedError,
    error_body,
    error_tail,
    translate_error,
    translate_reply,
    written_error,
)
from ollama_router_core.translate.request_rules import RequestRules, ruled_changes, rules_of
from ollama_router_core.translate.request_translation import translate_request
from ollama_router_core.translate.stream_translation import StreamTranslator

__all__ = [
    "CODECS",
    "REFUSING_STATUSES",
    "ROUTES",
    "Accepts",
    "CallIds",
    "ConversationRoute",
    "EmbeddingRoute",
    "ExternalModel",
    "HostFailed",
    "HostTraits",
    "KeptThoughts",
    "MemberRule",
    "MessageRules",
    "QueuePlace",
    "Recall",
    "ReplyIdentity",
    "ReplyOptions",
    "RequestRules",
    "Route",
    "StreamEventTooLarge",
    "StreamTranslator",
    "ThinkingLevel",
    "TranslatedError",
    "TurnThoughts",
    "UntranslatableReply",
    "UntranslatableRequest",
    "codec_of",
    "error_body",
    "error_tail",
    "family_of_domain",
    "read_host_error",
    "refused_member",
    "route_at",
    "ruled_changes",
    "rules_of",
    "translate_error",
    "translate_reply",
    "translate_request",
    "written_error",
]
