"""The benchmarks on Kafka run, in a tiny size: what nobody runs for months would otherwise not be found broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.broker, pytest.mark.slow]

BENCH = Path(__file__).parents[2] / "bench"
HANG_S = 180


def rows_of(name: str, broker: str, *options: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCH / f"{name}.py"), "--bootstrap", broker, "--json", "--scale", "0.02", *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_the_benchmark_of_the_adapter_counts_every_node_that_it_tells_of(broker: str) -> None:
    options = ("--case", "chain-5", "--guarantee", "exactly_once", "--workers", "1", "--in_flight", "20")

    (row,) = rows_of("kafka", broker, *options)

    assert (row["case"], row["guarantee"], row["workers"]) == ("chain-5", "exactly_once", 1)
    assert row["nodes_per_s"] > 0
    assert row["bare_per_s"] > 0
    assert row["records_per_node"] > 2
    assert row["idle_p50_ms"] <= row["idle_p99_ms"]


def test_the_benchmark_of_restoring_reads_what_a_plain_consumer_reads(broker: str) -> None:
    full, interrupted, warm = rows_of("restore", broker, "--records", "1000000")

    assert full["records"] >= 20_000
    assert full["ratio"] > 0
    assert interrupted["records"] <= full["records"]
    assert 0 < warm["records"] < full["records"]


def test_the_benchmark_of_a_take_over_sees_all_partitions_work_again(broker: str) -> None:
    cold, warm = rows_of("kafka", broker, "--case", "take-over", "--waiting", "50000", "--session_timeout_ms", "2000")

    assert (cold["standby"], warm["standby"]) == (0, 1)
    assert 0 < cold["first_event_s"] <= cold["all_working_s"]
