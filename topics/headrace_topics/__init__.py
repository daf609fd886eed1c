"""What is on the wire, and nothing else: the layout of topics, the formats of records and their codec.

A record is bytes, a function each way makes it and reads it, and what cannot be read is refused with the field and what
was expected (:class:`headrace.errors.RecordRefused`). No record is decoded to be validated only, and none is encoded twice.
"""

from __future__ import annotations

__all__ = [
    "EVENT_NAMES",
    "TOPICS",
    "DeadLetter",
    "RedrivenMark",
    "TopicSpec",
    "context_key",
    "coordination_key",
    "decode_command",
    "decode_dead_letter",
    "decode_dead_letters_record",
    "decode_events",
    "decode_head",
    "decode_part",
    "decode_result",
    "encode_command",
    "encode_dead_letter",
    "encode_events",
    "encode_marker",
    "encode_part",
    "encode_redriven",
    "encode_rejection",
    "encode_result",
    "partition_of",
    "run_parts",
    "run_prefix",
    "split_key",
]

from headrace_topics.dead_letters import (
    DeadLetter,
    RedrivenMark,
    decode_dead_letter,
    decode_dead_letters_record,
    encode_dead_letter,
    encode_redriven,
)
from headrace_topics.events_record import EVENT_NAMES, decode_events, encode_events, encode_rejection
from headrace_topics.jobs_record import decode_command, encode_command
from headrace_topics.names import TOPICS, TopicSpec, context_key, coordination_key, run_prefix, split_key
from headrace_topics.partitioning import partition_of
from headrace_topics.results_record import decode_result, encode_result
from headrace_topics.state_records import decode_head, decode_part, encode_marker, encode_part, run_parts
