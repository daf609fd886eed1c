"""Whose data a folder holds."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from headrace.errors import DefinitionError, StoreError, StoreLocked
from headrace_adapters.devbroker.folder import CLUSTER, LOCK, DataFolder


def test_a_folder_keeps_the_id_of_its_cluster(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "a" / "b", nodes=3)
    first.release()
    again = DataFolder(tmp_path / "a" / "b", nodes=3)
    other = DataFolder(tmp_path / "c", nodes=3)

    assert again.cluster_id == first.cluster_id != other.cluster_id
    assert re.fullmatch(r"[\w][\w-]{21}", again.cluster_id)
    assert again.node(2) == tmp_path / "a" / "b" / "node-2"
    again.release()
    other.release()


def test_a_folder_is_one_process_s_at_a_time(tmp_path: Path) -> None:
    held = DataFolder(tmp_path, nodes=1)

    with pytest.raises(StoreLocked, match=rf"runs on .* already \(process {os.getpid()}\); .*another folder"):
        DataFolder(tmp_path, nodes=1)
    held.release()
    held.release()
    DataFolder(tmp_path, nodes=1).release()


def test_data_of_another_number_of_nodes_is_refused(tmp_path: Path) -> None:
    DataFolder(tmp_path, nodes=3).release()

    with pytest.raises(DefinitionError, match="of a broker of 3 nodes, not of 1; start it with as many"):
        DataFolder(tmp_path, nodes=1)
    DataFolder(tmp_path, nodes=3).release()


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()

    with pytest.raises(StoreError, match="holds other files"):
        DataFolder(tmp_path, nodes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_what_was_begun_and_not_finished_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    (tmp_path / f"{CLUSTER}.new").write_text('{"clus', encoding="utf-8")

    DataFolder(tmp_path, nodes=1).release()

    assert json.loads((tmp_path / CLUSTER).read_bytes())["nodes"] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"clusterId": "x"}', '{"clusterId": "x", "nodes": "many"}'])
def test_a_description_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / CLUSTER).write_text(content, encoding="utf-8")

    with pytest.raises(StoreError, match=rf"{CLUSTER} cannot be read; remove"):
        DataFolder(tmp_path, nodes=1)


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"file cannot hold a broker's data"):
        DataFolder(tmp_path / "file", nodes=1)
