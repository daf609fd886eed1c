"""The port: what it names, the clients of confluent-kafka have."""

from __future__ import annotations

import pytest
from confluent_kafka.admin import AdminClient

from headrace.errors import DefinitionError
from headrace_adapters.kafka import clients as port
from headrace_adapters.kafka.clients import ConfluentClients

# A client is made without anybody to talk to.
NOBODY = {"bootstrap.servers": "localhost:1", "log_level": 0}


def methods(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


def test_each_client_has_what_the_port_names() -> None:
    made = ConfluentClients()
    consumer = made.consumer({**NOBODY, "group.id": "g"})
    producer = made.producer(NOBODY)
    admin = made.admin(NOBODY)

    assert methods(port.Consumer) - set(dir(consumer)) == set()
    assert methods(port.Producer) - set(dir(producer)) == set()
    assert methods(port.Admin) - set(dir(admin)) == set()
    assert isinstance(admin, AdminClient)
    consumer.close()


@pytest.mark.parametrize("kind", ["consumer", "producer", "admin"])
def test_an_option_that_nobody_knows_is_the_fault_of_the_settings(kind: str) -> None:
    with pytest.raises(DefinitionError, match="does not take an option"):
        getattr(ConfluentClients(), kind)({**NOBODY, "group.id": "g", "colour": "red"})
