"""The operator's model policy: contexts, keep-alives, aliases, fallbacks and local-only models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from ollama_router_core.api.keep_alive import keep_alive_seconds
from ollama_router_core.api.model_names import CanonicalName, canonical_name, is_cloud_name
from ollama_router_core.api.name_patterns import matches_pattern
from ollama_router_core.api.requests import ParsedRequest
from ollama_router_core.api.strict_json import JsonObject, parse_object
from ollama_router_core.config.settings import Config, ModelRule, ModelSettings
from ollama_router_core.routing.noise import without_noise
from ollama_router_core.translate import ConversationRoute, route_at

__all__ = ["AppliedPolicy", "apply_policy", "fallback_for", "leaks", "resolve_alias", "rule_for", "stays_local"]


class AppliedPolicy(Struct, frozen=True, kw_only=True):
    """A request as it will be sent, and the changes as text for the log row; `dropped` names noise."""

    request: ParsedRequest
    changes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def apply_policy(request: ParsedRequest, settings: ModelSettings) -> AppliedPolicy:
    """Apply aliases, then the first rule for the resolved model.

    Bounds on contexts and keep-alives apply only to Ollama's own dialect. A rule's `num_ctx` applies to conversations
    in every dialect: an Ollama server gets them in its own.
    """
    text = request.route.model_text
    if text is None or not (settings.aliases or settings.rules):
        return AppliedPolicy(request=request)
    resolved = resolve_alias(text, settings)
    rule = rule_for(canonical_name(resolved), settings)
    if rule is None and resolved == text:
        return AppliedPolicy(request=request)
    changes: list[str] = []
    dropped: tuple[str, ...] = ()
    if resolved != text:
        request = request.with_model(resolved)
        changes.append(f"model {text} is an alias of {resolved}")
    if rule is not None and request.document is not None:
        if request.endpoint.native:
            request = _with_context(request, rule, changes)
            request = _with_keep_alive(request, rule, changes)
        elif rule.num_ctx is not None and isinstance(route_at(request.endpoint.path), ConversationRoute):
            request = replace(request, route=replace(request.route, num_ctx=rule.num_ctx))
            changes.append(f"num_ctx none became {rule.num_ctx}")
    if rule is not None and rule.strip_noise:
        request, dropped = without_noise(request)
        changes += [f"{name} left out" for name in dropped]
    return AppliedPolicy(request=request, changes=tuple(changes), dropped=dropped)


def resolve_alias(text: str, settings: ModelSettings) -> str:
    """Resolve a name to its model; follow aliases of aliases, and return the name itself for a cycle."""
    aliases = {canonical_name(name): target for name, target in settings.aliases.items()}
    seen = {canonical_name(text)}
    resolved = text
    while (target := aliases.get(canonical_name(resolved))) is not None:
        if canonical_name(target) in seen:
            return text
        seen.add(canonical_name(target))
        resolved = target
    return resolved


def fallback_for(model: CanonicalName, settings: ModelSettings) -> str | None:
    """Return the fallback of a model, None without one.

    The caller makes a new decision under the fallback's name, with its own checks of grants and capabilities. A
    fallback has no fallback of its own.
    """
    return next((target for name, target in settings.fallbacks.items() if canonical_name(name) == model), None)


def stays_local(model: CanonicalName, settings: ModelSettings) -> bool:
    """Whether a model must not leave the operator's own servers."""
    return _matches(model, settings.local_only)


def leaks(config: Config) -> tuple[str, ...]:
    """List settings that send a local-only model outside, one text each; empty for a valid config."""
    settings = config.models
    found = [
        f"{name} must stay local, but its {kind} leads to {target}, which is external"
        for kind, table in _redirections(settings)
        for name, target in table.items()
        if _matches(canonical_name(name), settings.local_only) and _leads_outside(target, config, depth=0)
    ]
    return tuple(sorted(found))


def _redirections(settings: ModelSettings) -> tuple[tuple[str, Mapping[str, str]], ...]:
    return (
        ("assignment", settings.explicit_assignments),
        ("alias", settings.aliases),
        ("fallback", settings.fallbacks),
    )


def _leads_outside(target: str, config: Config, depth: int) -> bool:
    """Whether a name leads to an external host or Ollama's cloud, directly or through other names."""
    if target in config.external_hosts and target not in config.servers:
        return True
    if depth > len(config.models.aliases) + len(config.models.fallbacks) + 1:
        return False
    name = canonical_name(target)
    if is_cloud_name(target):
        return True
    return any(
        canonical_name(source) == name and _leads_outside(further, config, depth + 1)
        for _, table in _redirections(config.models)
        for source, further in table.items()
    )


def _matches(model: CanonicalName, patterns: Iterable[str]) -> bool:
    return any(matches_pattern(model, pattern) for pattern in patterns)


def rule_for(model: CanonicalName, settings: ModelSettings) -> ModelRule | None:
    """Find the first rule for a model, None without one."""
    return next((rule for rule in settings.rules if matches_pattern(model, rule.pattern)), None)


def _with_context(request: ParsedRequest, rule: ModelRule, changes: list[str]) -> ParsedRequest:
    requested = request.route.num_ctx
    wanted = _context(requested, rule)
    if wanted == requested or wanted is None or request.document is None:
        return request
    changes.append(f"num_ctx {'none' if requested is None else requested} became {wanted}")
    options = _options(request.document).replace({"num_ctx": json.dumps(wanted)})
    edited = request.edited({"options": options})
    return replace(edited, route=replace(edited.route, num_ctx=wanted))


def _context(requested: int | None, rule: ModelRule) -> int | None:
    if rule.num_ctx is not None:
        return rule.num_ctx
    if requested is None:
        return None
    return max(rule.min_num_ctx or requested, min(requested, rule.max_num_ctx or requested))


def _options(document: JsonObject) -> JsonObject:
    if document.get("options") is None:
        return parse_object(b"{}")
    return document.part("options")


def _with_keep_alive(request: ParsedRequest, rule: ModelRule, changes: list[str]) -> ParsedRequest:
    most = rule.max_keep_alive
    requested = None if request.document is None else request.document.get("keep_alive")
    seconds = keep_alive_seconds(requested)
    if most is None or seconds is None or 0 <= seconds <= most:
        return request
    changes.append(f"keep_alive {requested} became {most:g} s")
    return request.edited({"keep_alive": json.dumps(f"{most:g}s")})
