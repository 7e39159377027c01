"""What a host takes of a conversation: a value that a codec has a default of, and that can be told for each host."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["OPENAI_DEFAULT", "Accepts", "CallIds"]

_IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_OPTIONAL_MEMBERS = frozenset({"user", "safety_identifier", "prompt_cache_key", "service_tier"})


class CallIds(Struct, frozen=True, kw_only=True):
    """Which ids of tool calls a host takes; any other is replaced, the same by the same.

    Attributes:
        alphabet: `any`; `word`: letters, digits, `-` and `_`; `alphanumeric`: letters and digits.
        longest: characters.
        exact: whether an id must be as long as `longest`, as Mistral's are.
        spares_kimi: whether an id such as `functions.read:0` is left alone whatever its length: it is a part of the
            prompt of Kimi's models.
    """

    alphabet: Literal["any", "word", "alphanumeric"] = "any"
    longest: int = 256
    exact: bool = False
    spares_kimi: bool = False


class Accepts(Struct, frozen=True, kw_only=True):
    """What a host takes.

    Attributes:
        later_system: a system message after the first turn is `kept`, `folded` into the first one, or `wrapped` into
            the user's next turn, which leaves the beginning of the prompt as it was.
        image_types: media types of images; None for any.
        image_addresses: whether it fetches images.
        file_types: media types of files; texts are given as texts anyway.
        file_addresses: whether it fetches files.
        result_images: whether the result of a tool may hold images.
        result_files: whether the result of a tool may hold files.
        call_ids: the ids it takes.
        paired: whether each call must have its result right behind it, and each result its call.
        cache_marks: whether parts may be marked with `cache_control`.
        thoughts: how earlier thoughts are spelled in OpenAI's dialect: not at all, as the host itself gave them, or in
            the field of that name.
        members: optional members of an OpenAI request.
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
"""What all look-alikes of OpenAI take: templates refuse a later system message, and few servers take files."""
