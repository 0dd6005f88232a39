"""Redis Streams as the broker: the one room that knows Redis and FastStream."""
