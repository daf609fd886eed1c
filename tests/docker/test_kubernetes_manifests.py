"""The manifests: what they say to each other fits, and what they say to a worker it understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace_adapters.settings import load_settings
from tests.docker.described import FOLDER, documents, final_stage, settings_from

WORKLOADS = {"Deployment": "deployment.yaml", "StatefulSet": "statefulset.yaml", "Job": "topics.yaml"}
WORKERS = ["Deployment", "StatefulSet"]
SECRET = "something-secret"


@pytest.fixture(scope="module")
def manifests() -> dict[str, list[dict[str, Any]]]:
    return {path.name: documents(path) for path in sorted((FOLDER / "kubernetes").glob("*.yaml"))}


def of_kind(manifests: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    (found,) = [one for every in manifests.values() for one in every if one["kind"] == kind]
    return found


def pod_of(manifests: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    return of_kind(manifests, kind)["spec"]["template"]["spec"]


def container_of(manifests: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, Any]:
    (container,) = pod_of(manifests, kind)["containers"]
    return container


def environment(manifests: dict[str, list[dict[str, Any]]], kind: str) -> dict[str, str]:
    """What a container gets: the shared settings, and its own, which go before them."""
    found = dict(of_kind(manifests, "ConfigMap")["data"])
    for item in container_of(manifests, kind)["env"]:
        came_from = item.get("valueFrom", {})
        if "secretKeyRef" in came_from:
            value = SECRET
        elif "fieldRef" in came_from:
            value = {"status.podIP": "10.1.2.3", "metadata.name": "parcels-worker-0"}[came_from["fieldRef"]["fieldPath"]]
        else:
            value = item["value"].replace("$(POD_IP)", found.get("POD_IP", ""))
        found[item["name"]] = value
    return found


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


def test_every_manifest_has_a_kind_and_a_name(manifests: dict[str, list[dict[str, Any]]]) -> None:
    assert set(WORKLOADS.values()) <= set(manifests)
    for every in manifests.values():
        for one in every:
            assert {"apiVersion", "kind", "metadata"} <= one.keys()
            assert one["metadata"]["name"].startswith("parcels")


def test_no_manifest_holds_a_secret(manifests: dict[str, list[dict[str, Any]]]) -> None:
    assert [one for every in manifests.values() for one in every if one["kind"] == "Secret"] == []
    for kind in WORKLOADS:
        named = {item["name"]: item for item in container_of(manifests, kind)["env"]}
        for name in {"HEADRACE_USERNAME", "HEADRACE_PASSWORD", "HEADRACE_HTTP_TOKEN"} & named.keys():
            assert set(named[name]) == {"name", "valueFrom"}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_are_as_restricted_as_can_be(manifests: dict[str, list[dict[str, Any]]], kind: str) -> None:
    pod, container = pod_of(manifests, kind), container_of(manifests, kind)
    user = int(final_stage(FOLDER / "Dockerfile")["USER"][0].partition(":")[0])

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["runAsGroup"] == user
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # A Service that is called headrace would set variables that are settings.
    assert pod["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("kind", WORKLOADS)
def test_what_is_mounted_is_there(manifests: dict[str, list[dict[str, Any]]], kind: str) -> None:
    workload = of_kind(manifests, kind)
    volumes = {volume["name"] for volume in workload["spec"]["template"]["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
    mounts = {mount["name"]: mount["mountPath"] for mount in container_of(manifests, kind)["volumeMounts"]}

    assert set(mounts) == volumes
    assert mounts["tmp"] == "/tmp"
    if kind in WORKERS:
        assert [mounts["state"]] == final_stage(FOLDER / "Dockerfile")["VOLUME"]
        assert pod_of(manifests, kind)["securityContext"]["fsGroup"] == 10001


@pytest.mark.parametrize("kind", WORKLOADS)
def test_the_settings_of_each_pod_are_those_of_a_worker(
    manifests: dict[str, list[dict[str, Any]]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, on_kafka = settings_from(environment(manifests, kind), monkeypatch)

    assert settings.app == "parcels"
    assert on_kafka.username == SECRET
    assert on_kafka.librdkafka["security.protocol"] == "SASL_SSL"
    location = on_kafka.librdkafka["ssl.ca.location"]
    (mount,) = [it for it in container_of(manifests, kind)["volumeMounts"] if it["name"] == "kafka-ca"]
    assert location == f"{mount['mountPath']}/ca.crt"
    if kind in WORKERS:
        assert on_kafka.http_advertise == "http://10.1.2.3:8080"
        assert settings.grace + 20_000 <= pod_of(manifests, kind)["terminationGracePeriodSeconds"] * 1_000
    assert on_kafka.instance == ("parcels-worker-0" if kind == "StatefulSet" else None)


@pytest.mark.parametrize("kind", WORKERS)
def test_probes_ask_what_a_worker_answers(manifests: dict[str, list[dict[str, Any]]], kind: str) -> None:
    container = container_of(manifests, kind)
    asked = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}

    assert {name: probe["path"] for name, probe in asked.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {ports[probe["port"]] for probe in asked.values()} == {int(final_stage(FOLDER / "Dockerfile")["EXPOSE"][0])}


def test_selectors_find_the_workers_and_only_them(manifests: dict[str, list[dict[str, Any]]]) -> None:
    labels = of_kind(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [
        *(of_kind(manifests, kind)["spec"]["selector"]["matchLabels"] for kind in [*WORKERS, "PodDisruptionBudget"]),
        of_kind(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        of_kind(manifests, "Service")["spec"]["selector"],
    ]

    assert of_kind(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"] == labels
    assert all(selector.items() <= labels.items() for selector in selectors)
    others = of_kind(manifests, "Job")["spec"]["template"]["metadata"]["labels"]
    assert not any(selector.items() <= others.items() for selector in selectors)


def test_workers_are_scaled_by_the_lag_of_their_group(
    manifests: dict[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scaled = of_kind(manifests, "ScaledObject")["spec"]
    (trigger,) = scaled["triggers"]
    settings, on_kafka = settings_from(environment(manifests, "Deployment"), monkeypatch)

    assert scaled["scaleTargetRef"]["name"] == of_kind(manifests, "Deployment")["metadata"]["name"]
    assert "replicas" not in of_kind(manifests, "Deployment")["spec"]
    assert trigger["metadata"]["consumerGroup"] == on_kafka.group
    assert trigger["metadata"]["topic"] == f"{settings.app}.jobs"
    assert trigger["metadata"]["bootstrapServers"] == on_kafka.servers
    assert scaled["maxReplicaCount"] == on_kafka.partitions
    # At rest each partition lags by one, and sleeping runs do not lag at all.
    assert int(trigger["metadata"]["lagThreshold"]) > 10 * on_kafka.partitions
    assert scaled["minReplicaCount"] >= 1
    assert all(isinstance(value, str) for value in trigger["metadata"].values())


def test_secrets_that_are_used_are_those_that_the_page_makes(manifests: dict[str, list[dict[str, Any]]]) -> None:
    page = (FOLDER / "kubernetes.md").read_text(encoding="utf-8")
    used = set()
    for kind in WORKLOADS:
        used |= {
            item["valueFrom"]["secretKeyRef"]["name"]
            for item in container_of(manifests, kind)["env"]
            if "secretKeyRef" in item.get("valueFrom", {})
        }
        used |= {it["secret"]["secretName"] for it in pod_of(manifests, kind)["volumes"] if "secret" in it}
    used |= {it["name"] for it in of_kind(manifests, "TriggerAuthentication")["spec"]["secretTargetRef"]}

    assert sorted(name for name in used if f"secret generic {name} " not in page) == []
    assert not any("secret" in text.lower() for text in strings(of_kind(manifests, "ConfigMap")["data"]))


def test_the_grace_of_the_manifests_is_longer_than_the_default(manifests: dict[str, list[dict[str, Any]]]) -> None:
    assert pod_of(manifests, "Deployment")["terminationGracePeriodSeconds"] * 1_000 > load_settings().grace
