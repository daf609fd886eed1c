"""What Kafka's errors mean for whoever runs this: what failed, at which servers, and what to do."""

from __future__ import annotations

__all__ = ["redacted", "request_error", "store_error", "timed_out"]

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException
from pydantic import SecretStr

from headrace.errors import StoreError
from headrace_adapters.kafka.connection import WatchedAdmin
from headrace_adapters.kafka.settings import KafkaSettings


class _Kind(NamedTuple):
    """*codes* are librdkafka's names; *what* and *to_do* are parts of a sentence."""

    what: str
    to_do: str
    codes: tuple[str, ...]


_UNREACHABLE = _Kind(
    "the servers are not reached",
    "see that they run, that this machine may connect to them, and that the addresses which the brokers advertise "
    "(advertised.listeners) mean something here",
    ("_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_NODE_UPDATE", "BROKER_NOT_AVAILABLE", "NETWORK_EXCEPTION"),
)
_TIMED_OUT = _Kind(
    "there was no answer in time",
    "see that the servers run and are reached from here, that 'security.protocol' is the one of this port, and that the "
    "brokers are not overloaded; then try again",
    ("_TIMED_OUT", "_TIMED_OUT_QUEUE", "_MSG_TIMED_OUT", "_WAIT_COORD", "REQUEST_TIMED_OUT", "COORDINATOR_NOT_AVAILABLE"),
)

_KINDS: tuple[_Kind, ...] = (
    _UNREACHABLE,
    _TIMED_OUT,
    _Kind(
        "no secure connection was made",
        "see that the servers speak TLS at this port, that 'ssl.ca.location' names the authority of their certificates, "
        "and that a certificate of this client is right where they ask for one",
        ("_SSL",),
    ),
    _Kind(
        "the servers refused the user",
        "check user and password, and that 'sasl.mechanism' and 'security.protocol' are those of the cluster",
        ("_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM", "ILLEGAL_SASL_STATE"),
    ),
    _Kind(
        "this user may not do that",
        "give it the rights: on topics that begin with '{app}.' Read, Write, Describe and DescribeConfigs (and Create, so "
        "that Headrace creates them), on groups that begin with '{group}' Read and Describe, and on transactional ids that "
        "begin with '{app}.' Write and Describe",
        (
            "TOPIC_AUTHORIZATION_FAILED",
            "GROUP_AUTHORIZATION_FAILED",
            "CLUSTER_AUTHORIZATION_FAILED",
            "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            "DELEGATION_TOKEN_AUTHORIZATION_FAILED",
        ),
    ),
    _Kind(
        "a topic is missing, or a partition of it",
        "'headrace topics check --app {app}' tells which, 'headrace topics create --app {app}' creates it; a topic that was "
        "deleted has taken its runs with it",
        ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID"),
    ),
    _Kind(
        "a partition has no leader at this moment",
        "see that all brokers run, and try again",
        ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH"),
    ),
    _Kind(
        "a record is too large",
        "'headrace topics check --app {app}' compares 'max.message.bytes' of the topics; set 'value_bytes_max' lower where "
        "the cluster takes no larger ones",
        ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_MSG_SIZE"),
    ),
    _Kind(
        "another process has taken this one's place",
        "nothing is lost, and the other one goes on with the work; give each worker a folder ('state') or a name "
        "('instance') of its own where this was not meant",
        ("_FENCED", "PRODUCER_FENCED", "INVALID_PRODUCER_EPOCH", "INVALID_PRODUCER_ID_MAPPING", "FENCED_INSTANCE_ID"),
    ),
    _Kind(
        "another worker has this name in the group",
        "stop that one, or give this one another 'instance'",
        ("UNRELEASED_INSTANCE_ID",),
    ),
    _Kind(
        "too few copies of the topic are in step",
        "bring the missing brokers back; nothing is written until as many copies as 'min.insync.replicas' says are there",
        ("NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND"),
    ),
    _Kind(
        "the cluster does not allow this session timeout",
        "set 'session_timeout_ms' within group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers",
        ("INVALID_SESSION_TIMEOUT",),
    ),
    _Kind(
        "the cluster does not allow this transaction timeout",
        "set 'transaction_timeout_ms' to at most transaction.max.timeout.ms of the brokers",
        ("INVALID_TRANSACTION_TIMEOUT",),
    ),
    _Kind(
        "the members of group '{group}' share out partitions in another way",
        "give all workers the same 'group_protocol', or another 'group' to this app, whose name no other program may use",
        ("INCONSISTENT_GROUP_PROTOCOL", "UNSUPPORTED_ASSIGNOR"),
    ),
    _Kind(
        "the cluster takes no more workers into group '{group}'",
        "raise group.max.size of the brokers, or start fewer workers",
        ("GROUP_MAX_SIZE_REACHED",),
    ),
    _Kind(
        "the cluster is too old, or has this feature turned off",
        "use Kafka 2.5 or newer, and 4.0 or newer for 'group_protocol' consumer",
        ("UNSUPPORTED_VERSION", "_UNSUPPORTED_FEATURE", "UNSUPPORTED_FOR_MESSAGE_FORMAT"),
    ),
    _Kind(
        "what was to be read is not there any more",
        "see 'headrace topics check --app {app}': a topic was truncated, or made anew, or its retention is too short",
        ("OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET", "OFFSET_NOT_AVAILABLE"),
    ),
    _Kind(
        "the cluster does not take a topic of this shape",
        "set 'replication' to at most the number of brokers, or create the topics by other means and run "
        "'headrace topics check --app {app}'",
        (
            "INVALID_REPLICATION_FACTOR",
            "INVALID_PARTITIONS",
            "INVALID_CONFIG",
            "POLICY_VIOLATION",
            "INVALID_REPLICA_ASSIGNMENT",
        ),
    ),
    _Kind(
        "a broker cannot use its disk",
        "look at that broker's log, and at the room on its disk",
        ("KAFKA_STORAGE_ERROR", "LOG_DIR_NOT_FOUND"),
    ),
    _Kind(
        "the producer's queue is full",
        "see that the brokers keep up; 'queue.buffering.max.kbytes' of librdkafka makes it larger",
        ("_QUEUE_FULL",),
    ),
)


def _by_code() -> Mapping[int, _Kind]:
    # A client of another version may lack a name; then nobody gets that code from it either.
    return {getattr(KafkaError, name): kind for kind in _KINDS for name in kind.codes if hasattr(KafkaError, name)}


_KIND_OF = _by_code()
_OTHER = _Kind("Kafka refused", "look for this code in the logs of the brokers; the work goes on where it was committed", ())


def store_error(
    doing: str, error: KafkaException | KafkaError, settings: KafkaSettings, last: KafkaError | None = None
) -> StoreError:
    """The error for an operator, when *doing* (``"creating topics"``) failed.

    *last* is what the client has told of its connections: where *error* is only that nothing came in time, it says why.
    """
    problem = _problem_of(error)
    if problem is None:
        return StoreError(f"{doing} failed at Kafka ({settings.servers}): {redacted(str(error), settings)}")
    if last is not None and timed_out(problem) and last.code() in _KIND_OF:
        problem = last
    kind = _kind_of(problem)
    what, to_do = (text.replace("{app}", settings.app).replace("{group}", settings.group) for text in kind[:2])
    said = redacted(problem.str(), settings)
    return StoreError(f"{doing} failed at Kafka ({settings.servers}): {what} ({problem.name()}: {said}): {to_do}")


def request_error(admin: object, settings: KafkaSettings, doing: str, error: KafkaException | TimeoutError) -> StoreError:
    """The same for a request of *admin*: one that is watched knows why nothing came in time."""
    problem = KafkaError(KafkaError._TIMED_OUT) if isinstance(error, TimeoutError) else error
    return store_error(doing, problem, settings, admin.trouble() if isinstance(admin, WatchedAdmin) else None)


def _kind_of(problem: KafkaError) -> _Kind:
    kind = _KIND_OF.get(problem.code(), _OTHER)
    if problem.code() == KafkaError._FATAL:
        # A consumer says only that it is fatal, and in its text why.
        said = problem.str()
        for code, meant in _KIND_OF.items():
            if KafkaError(code).str() in said:
                return meant
    return kind


def timed_out(error: KafkaException | KafkaError) -> bool:
    """Whether all that is known is that there was no answer in time."""
    problem = _problem_of(error)
    return problem is not None and _KIND_OF.get(problem.code()) in (_TIMED_OUT, _UNREACHABLE)


def redacted(text: str, settings: KafkaSettings) -> str:
    """*text* without any secret of the settings that should be in it."""
    for secret in (settings.password, settings.http_token, *settings.librdkafka.values()):
        if isinstance(secret, SecretStr) and secret.get_secret_value():
            text = text.replace(secret.get_secret_value(), "***")
    return text


def _problem_of(error: KafkaException | KafkaError) -> KafkaError | None:
    if isinstance(error, KafkaError):
        return error
    first = error.args[0] if error.args else None
    return first if isinstance(first, KafkaError) else None
