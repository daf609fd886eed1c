"""Nodes whose Java is a script: what is said when they do not start, and what is left."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from headrace.errors import DefinitionError, StoreError
from headrace_adapters.devbroker.cluster import Cluster, check_shape
from headrace_adapters.devbroker.folder import DataFolder
from headrace_adapters.devbroker.ports import HOST, free_ports, is_free
from headrace_adapters.devbroker.program import KafkaProgram

# The data folder is made; the broker itself does what the test says.
JAVA = """#!/bin/sh
case "$*" in
    *StorageTool*) mkdir -p data && touch data/meta.properties ;;
    *) {broker} ;;
esac
"""


def program_that(folder: Path, broker: str) -> KafkaProgram:
    java = folder / "java"
    java.write_text(JAVA.format(broker=broker), encoding="utf-8")
    java.chmod(0o755)
    return KafkaProgram(java=java, jars=folder)


def test_a_node_that_ends_while_it_starts_is_told_with_its_last_error(tmp_path: Path) -> None:
    failing = "echo 'x ERROR broker Data of another Kafka.'; echo 'bye'; exit 3"

    with Cluster(tmp_path / "data", program_that(tmp_path, failing)) as cluster:
        with pytest.raises(StoreError, match=r"node 1 .* ended with 3: x ERROR broker Data of another Kafka; .*start"):
            cluster.start()
        assert not cluster.nodes[0].is_running
        assert cluster.nodes[0].pid is None


def test_only_what_a_node_said_in_this_life_is_told(tmp_path: Path) -> None:
    once = "if [ -e again ]; then exit 4; fi; touch again; echo 'x ERROR an old story'; exit 3"

    with Cluster(tmp_path / "data", program_that(tmp_path, once)) as cluster:
        with pytest.raises(StoreError, match="ended with 3: x ERROR an old story"):
            cluster.start()
        with pytest.raises(StoreError, match="ended with 4: it gave no reason"):
            cluster.start()


def test_a_data_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    program = program_that(tmp_path, "true")
    program.java.write_text("#!/bin/sh\necho 'Exception: disk full'\nexit 1\n", encoding="utf-8")

    with (
        Cluster(tmp_path / "data", program) as cluster,
        pytest.raises(StoreError, match="could not be made: Exception: disk"),
    ):
        cluster.start()


def test_a_node_that_never_serves_is_waited_for_no_longer_than_that(tmp_path: Path) -> None:
    with Cluster(tmp_path / "data", program_that(tmp_path, "exec sleep 600")) as cluster:
        with pytest.raises(StoreError, match="not ready after 0 s"):
            cluster.start(timeout_s=0.1)
        assert cluster.nodes[0].is_running
    assert not cluster.nodes[0].is_running


def test_a_start_that_nobody_wants_any_more_ends(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "data", program_that(tmp_path, "exec sleep 600"), unwanted=lambda: True)

    with cluster, pytest.raises(StoreError, match="told to stop"):
        cluster.start()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with socket.create_server((HOST, port)):
        cluster = Cluster(tmp_path / "data", program_that(tmp_path, "exec sleep 600"), port=port)
        with cluster, pytest.raises(StoreError, match=f"port {port} of 127.0.0.1 is taken; .* another port"):
            cluster.start()


def test_nodes_follow_each_other_from_the_port_that_was_asked_for(tmp_path: Path) -> None:
    with Cluster(tmp_path / "data", program_that(tmp_path, "true"), nodes=3, port=9092) as cluster:
        assert cluster.bootstrap == "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
        assert [node.bootstrap for node in cluster.nodes] == cluster.bootstrap.split(",")


def test_a_node_that_was_not_started_can_be_told_anything(tmp_path: Path) -> None:
    with Cluster(tmp_path / "data", program_that(tmp_path, "true")) as cluster:
        (node,) = cluster.nodes
        node.pause()
        node.go_on()
        node.kill()
        node.stop()

        assert not node.is_paused
        assert not node.is_running


def test_a_paused_node_is_ended_too(tmp_path: Path) -> None:
    with Cluster(tmp_path / "data", program_that(tmp_path, "exec sleep 600")) as cluster:
        (node,) = cluster.nodes
        node.start(wait=False)
        node.pause()
        assert node.is_paused
        node.stop()
        assert not node.is_running

        node.start(wait=False)
        node.pause()
        node.kill()
        assert not node.is_running
        assert not node.is_paused


def test_a_closed_cluster_lets_its_folder_go(tmp_path: Path) -> None:
    Cluster(tmp_path / "data", program_that(tmp_path, "true")).close()

    DataFolder(tmp_path / "data", nodes=1).release()


@pytest.mark.parametrize(("nodes", "port"), [(0, None), (2, None), (5, 9092), (1, 0), (1, 65_536), (3, 65_534), (1, -1)])
def test_a_cluster_of_no_use_is_refused(nodes: int, port: int | None) -> None:
    with pytest.raises(DefinitionError, match="give"):
        check_shape(nodes, port)


def test_free_ports_are_free_and_given_once() -> None:
    ports = free_ports(5) + free_ports(5)

    assert len(set(ports)) == 10
    assert all(is_free(port) for port in ports)
