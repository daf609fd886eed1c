"""Settings of local adapters, as they come from a command line, the environment or a file."""

from __future__ import annotations

__all__ = ["local_settings"]

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from headrace.errors import DefinitionError
from headrace.limits import Limits
from headrace_adapters.local.worker import Settings

_OTHERS = frozenset(("sync", "url"))


def local_settings(values: Mapping[str, Any]) -> Settings:
    """The settings by name, those of ``Limits`` among them; raises :class:`DefinitionError` for a name it does not know."""
    own = {field.name for field in fields(Settings)} - {"limits"}
    bounds = {field.name for field in fields(Limits)}
    unknown = sorted(set(values) - own - bounds - _OTHERS)
    if unknown:
        known = ", ".join(sorted(own | bounds | _OTHERS))
        raise DefinitionError(f"unknown settings {', '.join(unknown)}: use some of {known}")
    try:
        limits = Limits(**{name: value for name, value in values.items() if name in bounds})
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"a setting cannot be: {error}") from None
    return Settings(**{name: value for name, value in values.items() if name in own}, limits=limits)
