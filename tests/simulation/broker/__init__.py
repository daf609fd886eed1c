"""A model of Kafka for a world with virtual time: the brokers' side (``server``), and librdkafka's side of the wire."""
