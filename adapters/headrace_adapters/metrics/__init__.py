"""What a worker counts, for Prometheus. See ``README.md`` beside this."""

from headrace_adapters.metrics.worker import WorkerMetrics

__all__ = ["WorkerMetrics"]
