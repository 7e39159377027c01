"""What a host accepts in a conversation: a default per codec, and overrides per host."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["OPENAI_DEFAULT", "Accepts", "CallIds"]

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_OPTIONAL_MEMBERS = frozenset({"user", "safety_identifier", "prompt_cache_key", "service_tier"})


class CallIds(Struct, frozen=True, kw_only=True):
    """The ids of tool calls that a host accepts; others are replaced, equal ids by equal ones.

    Attributes:
        alphabet: `any`; `word`: letters, digits, `-` and `_`; `alphanumeric`: letters and digits.
        longest: maximum number of characters.
        exact: whether an id must have exactly `longest` characters, as Mistral's.
        spares_kimi: whether ids such as `functions.read:0` are kept: they are part of the prompt of Kimi's models.
    """

    alphabet: Literal["any", "word", "alphanumeric"] = "any"
    longest: int = 256
    exact: bool = False
    spares_kimi: bool = False


class Accepts(Struct, frozen=True, kw_only=True):
    """What a host accepts.

    Attributes:
        later_system: a system message after the first turn is `kept`, `folded` into the first one, or `wrapped` into
            the user's next turn, which keeps the prompt's prefix unchanged.
        image_types: media types of images; None for any.
        image_addresses: whether the host fetches images by URL.
        file_types: media types of files; text files are always sent as text.
        file_addresses: whether the host fetches files by URL.
        result_images: whether a tool result may contain images.
        result_files: whether a tool result may contain files.
        call_ids: the accepted ids of tool calls.
        paired: whether each call must be followed by its result, and each result must have a call.
        cache_marks: whether parts may have `cache_control`.
        thoughts: how earlier reasoning is sent in OpenAI's dialect: not at all, as the host sent it, or in the member
            of that name.
        members: accepted optional members of an OpenAI request.
    """

    later_system: Literal["kept", "folded", "wrapped"] = "kept"
    image_types: frozenset[str] | None = _IMAGE_TYPES
    image_addresses: bool = True
    file_types: frozenset[str] = frozenset()
    file_addresses: bool = False
    result_images: bool = True
    result_files: bool = False
    call_ids: CallIds = CallIds()
    paired: bool = True
    cache_marks: bool = False
    thoughts: Literal["none", "as_given", "reasoning_content", "reasoning"] = "as_given"
    members: frozenset[str] = _OPTIONAL_MEMBERS


OPENAI_DEFAULT = Accepts(later_system="wrapped", result_images=False, call_ids=CallIds(longest=40, spares_kimi=True))
"""What all OpenAI-compatible hosts accept: many templates reject later system messages, few servers accept files."""
