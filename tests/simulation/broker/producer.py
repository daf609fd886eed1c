"""A producer as ``confluent_kafka.Producer`` is one: what the product calls of it, and the same errors."""

from __future__ import annotations

__all__ = ["SimulatedProducer"]

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace_topics.partitioning import murmur2
from tests.simulation.broker.client_context import Context, failure, microseconds
from tests.simulation.broker.refused import Refused
from tests.simulation.broker.sender import OnDelivery, Sender
from tests.simulation.broker.transaction_manager import TransactionManager
from tests.simulation.broker.transaction_state import TransactionState

PRODUCER_ID_AGAIN_US = 500_000


class SimulatedProducer:
    """Made by ``SimulatedClients``: plain, idempotent or transactional, as its configuration says."""

    def __init__(self, context: Context, configuration: Mapping[str, Any]) -> None:
        config = dict(configuration)
        self._context = context
        transactional_id = config.get("transactional.id")
        self._sender = Sender(context, config, transactional_id)
        self._bytes_max = int(config.get("message.max.bytes", 1_000_000))
        self._gapless = _is_true(config.get("enable.gapless.guarantee", False))
        self._partitions: dict[str, int] = {}
        self._fatal: KafkaError | None = None
        self._line = context.line()
        self._asking_id = False
        self._manager: TransactionManager | None = None
        if transactional_id is not None:
            self._manager = TransactionManager(context, config, self._sender, self._flush, self._failed)
        elif _is_true(config.get("enable.idempotence", False)):
            self._sender.on_failure = self._batch_failed
            self._sender.on_time_out = self._timed_out
        else:
            self._sender.ids = (-1, -1)

    def _enter(self) -> None:
        self._context.enter()
        if self._manager is not None:
            self._manager.standing.quiet = False

    # Records.

    def produce(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        partition: int = -1,
        on_delivery: OnDelivery | None = None,
        callback: OnDelivery | None = None,
        **others: Any,
    ) -> None:
        """One more record, which leaves in the background."""
        if not self._context.process.alive:
            self._context.process.check_alive()
        if self._fatal is not None:
            raise _refusal(KafkaError._FATAL)
        manager = self._manager
        if manager is not None:
            manager.standing.quiet = False
            if manager.standing.state != TransactionState.IN_TRANSACTION:
                raise _refusal(KafkaError._STATE)
        if isinstance(value, str):
            value = value.encode()
        if isinstance(key, str):
            key = key.encode()
        if len(value or b"") + len(key or b"") > self._bytes_max:
            raise _refusal(KafkaError.MSG_SIZE_TOO_LARGE)
        place = topic, self._partition(topic, partition, key)
        self._sender.put(place, key, value, on_delivery or callback)
        if manager is not None:
            manager.takes(place)
        elif self._sender.ids is None:
            self._ask_id()

    def _partition(self, topic: str, partition: int, key: bytes | None) -> int:
        count = self._partitions.get(topic)
        if count is None:
            try:
                count = self._partitions[topic] = self._context.server.partitions_of(topic)
            except Refused:
                # Nobody knows the topic: the record waits for somebody who does.
                return max(partition, 0)
        if partition >= count:
            raise _refusal(KafkaError._UNKNOWN_PARTITION)
        if partition >= 0:
            return partition
        if key is None:
            return int(self._context.kernel.draw.random() * count)
        return (murmur2(key) & 0x7FFF_FFFF) % count

    def poll(self, timeout: float | None = -1) -> int:
        """Report what became of records, once there is something to be reported."""
        self._enter()
        until_us = self._context.until(timeout)
        while True:
            served = self._sender.serve()
            if served or not self._context.wait(self._sender.changed, until_us):
                return served

    def flush(self, timeout: float | None = -1) -> int:
        """Wait until all is reported; gives how many records are not."""
        self._enter()
        self._flush(self._context.until(timeout))
        return self._sender.outstanding

    def _flush(self, until_us: int) -> bool:
        sender = self._sender
        sender.serve()
        if not sender.outstanding:
            return True
        sender.flushing(True)
        try:
            while sender.outstanding:
                if not self._context.wait(sender.changed, until_us):
                    return False
                sender.serve()
        finally:
            sender.flushing(False)
        return True

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Give up records; those that are under way may be written all the same."""
        self._enter()
        self._sender.purge(under_way=in_flight)
        if self._manager is not None:
            self._manager.standing.quiet = True

    def __len__(self) -> int:
        return self._sender.outstanding

    # What goes wrong, where there are no transactions.

    def _failed(self, error: KafkaError) -> None:
        self._fatal = error
        self._sender.report_failure(error)

    def _batch_failed(self, code: int, is_first: bool) -> None:
        if code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER and is_first:
            self._fail_for_ever(code)
        elif code != KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER and self._gapless:
            self._fail_for_ever(KafkaError._GAPLESS_GUARANTEE)
        else:
            self._sender.drain(self._begin_epoch)

    def _timed_out(self) -> None:
        if self._gapless:
            self._fail_for_ever(KafkaError._GAPLESS_GUARANTEE)
        else:
            self._sender.drain(self._begin_epoch)

    def _fail_for_ever(self, code: int) -> None:
        if self._fatal is None:
            self._failed(KafkaError(code, KafkaError(code).str(), fatal=True))
            self._sender.purge(under_way=False)

    def _begin_epoch(self) -> None:
        assert self._sender.ids is not None
        producer_id, epoch = self._sender.ids
        self._sender.begin_epoch((producer_id, epoch + 1))

    def _ask_id(self) -> None:
        if self._asking_id:
            return
        self._asking_id = True

        def answer(result: Any) -> None:
            self._asking_id = False
            if type(result) is not Refused:
                self._sender.begin_epoch(result)
            else:
                self._context.later(PRODUCER_ID_AGAIN_US, self._ask_id)

        self._line.request("init producer id", None, lambda: self._context.server.init_producer_id(None, 0), answer)

    # Transactions.

    @property
    def _transactions(self) -> TransactionManager:
        self._enter()
        if self._manager is None:
            raise failure(KafkaError._NOT_CONFIGURED, "The Transactional API requires transactional.id to be configured")
        return self._manager

    def init_transactions(self, timeout: float | None = -1) -> None:
        """Take over the transactional id; what is open under it ends."""
        self._transactions.init(microseconds(timeout))

    def begin_transaction(self) -> None:
        """Records from now on are of a transaction."""
        self._transactions.begin()

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Any, timeout: float | None = -1
    ) -> None:
        """These offsets are of the transaction."""
        self._transactions.send_offsets(positions, group_metadata, microseconds(timeout))

    def commit_transaction(self, timeout: float | None = -1) -> None:
        """Have all of it happen."""
        self._transactions.commit(microseconds(timeout))

    def abort_transaction(self, timeout: float | None = -1) -> None:
        """Have nothing of it happen."""
        self._transactions.abort(microseconds(timeout))


def _refusal(code: int) -> KafkaException:
    return failure(code, f"Unable to produce message: {KafkaError(code).str()}")


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"
