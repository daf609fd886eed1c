"""Durable workflows: flows are written in Python or JSON, and carried in memory, on one machine, or on Kafka.

What is here is the public API. Adapters are written against ``headrace.adapter`` and ``headrace_adapters.base``.
"""

from headrace.adapter import Answer, Client, RunResult
from headrace.app import App, Handle
from headrace.blueprint import Blueprint, from_json, to_json
from headrace.builder import Flow
from headrace.context import AsyncContext, Context
from headrace.draw import to_dot, to_mermaid
from headrace.errors import (
    BlueprintInvalid,
    Cancelled,
    CommandRefused,
    DefinitionError,
    ExpressionFailed,
    FatalError,
    HeadraceError,
    Problem,
    RecordRefused,
    RunEndedBadly,
    StartsFailed,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    ValueRefused,
)
from headrace.limits import Limits
from headrace.node import Node, Result
from headrace.registry import Registry
from headrace.sync import SyncClient, SyncHandle
from headrace.validation import validate

__all__ = [
    "Answer",
    "App",
    "AsyncContext",
    "Blueprint",
    "BlueprintInvalid",
    "Cancelled",
    "Client",
    "CommandRefused",
    "Context",
    "DefinitionError",
    "ExpressionFailed",
    "FatalError",
    "Flow",
    "Handle",
    "HeadraceError",
    "Limits",
    "Node",
    "Problem",
    "RecordRefused",
    "Registry",
    "Result",
    "RunEndedBadly",
    "RunResult",
    "StartsFailed",
    "StoreDamaged",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreTooNew",
    "SyncClient",
    "SyncHandle",
    "ValueRefused",
    "from_json",
    "to_dot",
    "to_json",
    "to_mermaid",
    "validate",
]
