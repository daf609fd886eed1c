from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from headrace import events as e
from headrace.batch import Batch, Rejection, RunChange
from headrace.events import Event
from headrace.execution import NO_ITEM
from headrace.state import RunState
from headrace_adapters.metrics import WorkerMetrics


def values(metrics: WorkerMetrics) -> dict[str, float]:
    """Every figure as it is read, by its name and labels."""
    text, content_type = metrics.text()
    assert content_type.startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def batch(**runs: list[Event]) -> Batch:
    made = Batch()
    for run_id, events in runs.items():
        made.runs[run_id] = RunChange(RunState(run_id), 1)
        made.runs[run_id].events = [(5, events[:2]), (6, events[2:])]
    return made


def test_before_anything_has_happened_everything_is_there_and_nothing_counted() -> None:
    found = values(WorkerMetrics(process=False))

    assert found["headrace_runs_ended_total{status=failed}"] == 0
    assert found["headrace_nodes_finished_total{outcome=completed}"] == 0
    assert found["headrace_transactions_aborted_total"] == 0
    assert all(name.startswith("headrace_") for name in found)


def test_what_became_of_runs_and_nodes_is_counted_from_batches() -> None:
    metrics = WorkerMetrics(process=False)
    started, done = e.RunStarted("f", "1", b"null", {}, None, 5), e.NodeCompleted("n", NO_ITEM, b"1", None)
    metrics.batch_committed(batch(a=[started, done, done, e.RunCompleted(b"1")], b=[done]))
    metrics.batch_committed(batch(c=[e.NodeRetrying("n", NO_ITEM, 1, "X", "", 1, None)]))
    rejecting = Batch()
    rejecting.rejections.append(Rejection("r", "Cancel", "no", 1))
    metrics.batch_committed(rejecting)
    found = values(metrics)

    assert found["headrace_nodes_finished_total{outcome=completed}"] == 3
    assert found["headrace_runs_started_total"] == 1
    assert found["headrace_runs_ended_total{status=completed}"] == 1
    assert found["headrace_node_retries_total"] == 1
    assert found["headrace_commands_rejected_total"] == 1


def test_commits_are_timed_and_measured() -> None:
    metrics = WorkerMetrics(process=False)
    metrics.committed(12, 3, 0.004)
    metrics.committed(900, 40, 0.2)
    found = values(metrics)

    assert found["headrace_commit_seconds_count"] == 2
    assert found["headrace_commit_seconds_bucket{le=0.005}"] == 1
    assert found["headrace_commit_records_sum"] == 912
    assert found["headrace_jobs_taken_total"] == 43


def test_what_is_watched_is_asked_when_somebody_looks() -> None:
    metrics, number = WorkerMetrics(process=False), 1
    metrics.watch(executing=lambda: number, backlog=lambda: 10 * number, partitions=lambda: 4)
    before = values(metrics)
    number = 2

    assert before["headrace_executions_in_progress"] == 1
    assert values(metrics)["headrace_backlog"] == 20
    assert values(metrics)["headrace_partitions_owned"] == 4


def test_what_happens_rarely_is_counted_by_its_name() -> None:
    metrics = WorkerMetrics(process=False)
    for what in ("moved", "moved", "dead_letter", "undone", "in_doubt", "fenced"):
        metrics.counted(what)
    found = values(metrics)

    names = ("records_moved", "dead_letters", "transactions_aborted", "transactions_in_doubt", "fencings")
    assert [found[f"headrace_{name}_total"] for name in names] == [2, 1, 1, 1, 1]


def test_a_partition_is_seen_while_it_is_restored_or_kept_warm_and_then_no_more() -> None:
    metrics = WorkerMetrics(process=False)
    metrics.restoring(3, 500, 1_500)
    metrics.warm(3, 7)
    metrics.restoring(4, 1, 0)
    found = values(metrics)
    assert found["headrace_restore_records{partition=3}"] == 500
    assert found["headrace_restore_remaining{partition=3}"] == 1_500
    assert found["headrace_standby_lag{partition=3}"] == 7

    metrics.left(3)
    metrics.left(9)
    metrics.warm(3, None)
    metrics.warm(9, None)
    assert [name for name in values(metrics) if "partition=3" in name] == []
    assert "headrace_restore_remaining{partition=4}" in values(metrics)


def test_two_workers_of_one_process_count_apart_and_the_process_is_seen() -> None:
    one, other = WorkerMetrics(), WorkerMetrics()
    one.counted("moved")

    assert values(other)["headrace_records_moved_total"] == 0
    assert values(one)["process_resident_memory_bytes"] > 0
