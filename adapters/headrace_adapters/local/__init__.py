"""One machine, one key-value store: what the adapters ``memory`` and ``embedded`` share. See ``README.md`` beside this."""

__all__: list[str] = []
