"""What the files in ``docker`` say: read as text and as data, and what they set taken for what a worker makes of it."""

from __future__ import annotations

__all__ = ["FOLDER", "ROOT", "Instruction", "documents", "final_stage", "instructions", "settings_from", "variables"]

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from headrace_adapters.kafka.settings import KafkaSettings, kafka_settings
from headrace_adapters.settings import PREFIX, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker"

# Where the adapter says nothing about it, any address will do.
SOME_URL = "kafka://localhost:9092"


class Instruction(NamedTuple):
    """One of a Dockerfile; its *rest* is one line."""

    name: str
    rest: str


def instructions(path: Path) -> list[Instruction]:
    """Those of a Dockerfile, in their order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def final_stage(path: Path) -> dict[str, list[str]]:
    """The instructions of the stage that becomes the image, by name."""
    found: dict[str, list[str]] = {}
    for name, rest in instructions(path):
        if name == "FROM":
            found = {}
        found.setdefault(name, []).append(rest)
    return found


def documents(path: Path) -> list[dict[str, Any]]:
    """Those of a YAML file; what is twice in one mapping is an error."""
    return list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=_Strict))


def variables(path: Path) -> dict[str, str]:
    """What a file of variables sets."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def settings_from(given: Mapping[str, str], patch: pytest.MonkeyPatch) -> tuple[Settings, KafkaSettings]:
    """What a worker makes of these variables; fails for one that no setting has."""
    ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
    unknown = {name for name in ours if name.removeprefix(PREFIX).lower() not in Settings.model_fields}
    assert unknown == set()
    with patch.context() as patched:
        for name, value in {f"{PREFIX}URL": SOME_URL, **ours}.items():
            patched.setenv(name, value)
        settings = load_settings()
        return settings, kafka_settings(settings.app or "app", settings.url, settings.for_adapter())


class _Strict(yaml.SafeLoader):
    """PyYAML takes the last of two equal keys, which hides the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys} in {node.start_mark}"
        return super().construct_mapping(node, deep)
