"""``compose.yaml``: read as data, and by Compose itself where it is installed; no engine is needed for that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from headrace.durations import parse_duration_ms
from headrace_adapters.devbroker import KAFKA_VERSION
from tests.docker.described import FOLDER, documents, settings_from, variables

OURS = ["topics", "worker", "cli"]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    (composed,) = documents(FOLDER / "compose.yaml")
    return composed["services"]


def test_the_services_are_kafka_its_topics_and_the_workers(services: dict[str, Any]) -> None:
    assert set(services) == {"kafka", *OURS}
    assert services["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert services["worker"]["deploy"]["replicas"] == 3
    assert services["topics"]["command"] == ["topics", "create"]
    assert services["cli"]["profiles"] == ["cli"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_can_write_nothing_but_state_and_temporary_files(services: dict[str, Any], name: str) -> None:
    service = services[name]

    assert service["read_only"] is True
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    writable = [mount for mount in service["volumes"] if not mount.get("read_only")]
    # Without a source it is a volume of the container's own, so workers do not share one.
    assert writable == [{"type": "volume", "target": "/var/lib/headrace"}]


def test_no_service_has_capabilities_or_can_get_some(services: dict[str, Any]) -> None:
    assert {name: service.get("cap_drop") for name, service in services.items()} == {name: ["ALL"] for name in services}
    assert all(service["security_opt"] == ["no-new-privileges:true"] for service in services.values())
    assert not any("privileged" in service or "user" in service for service in services.values())


def test_only_kafka_is_published_and_only_to_this_machine(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["kafka"]
    assert all(port.startswith("127.0.0.1:") for port in services["kafka"]["ports"])
    # A service with this is one container: two cannot have one name.
    assert not any("container_name" in service or "hostname" in service for service in services.values())


def test_workers_start_when_their_topics_are_there(services: dict[str, Any]) -> None:
    assert services["kafka"]["healthcheck"]["test"][0] == "CMD"
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert services["worker"]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert "restart" not in services["topics"]


def test_the_settings_are_those_of_a_worker(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(services[name]["env_file"] == ["worker.env"] for name in OURS)

    settings, on_kafka = settings_from(variables(FOLDER / "worker.env"), monkeypatch)

    host, _, port = on_kafka.servers.partition(":")
    assert host == "kafka"
    assert f"INTERNAL://kafka:{port}," in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.grace + 10_000 <= parse_duration_ms(services["worker"]["stop_grace_period"])


def test_the_settings_that_are_commented_out_are_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (FOLDER / "worker.env").read_text(encoding="utf-8")
    offered = dict(re.findall(r"^#(HEADRACE_\w+)=(.*)$", text, re.MULTILINE))

    assert offered
    settings_from({name: value or "something" for name, value in offered.items()}, monkeypatch)


def test_compose_itself_reads_the_file() -> None:
    docker = shutil.which("docker")
    command = [docker or "docker", "compose"]
    if docker is None or subprocess.run([*command, "version"], check=False, capture_output=True, timeout=60).returncode:
        pytest.skip("there is no Compose 2 here (docker compose), which would check the file too")

    ran = subprocess.run(
        [*command, "-f", str(FOLDER / "compose.yaml"), "--profile", "cli", "config", "--quiet"],
        check=False,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=60,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
