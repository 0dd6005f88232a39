"""What each service may do in Redis, as rules of an ACL: work on the streams that it writes or reads, no more."""

from shared.messaging.topology import GROUPS, REVOCATIONS, producer_of, stream_name

PROBE_KEY = "trucban.probe"
BELL = "trucban.rows."
"""Beginning of the channels on which a process tells the others of new rows."""
_COMMANDS = (
    *("ping", "select", "multi", "exec", "discard", "evalsha", "script|load", "script|exists"),
    *("xadd", "xack", "xclaim", "xgroup", "xinfo", "xlen", "xpending", "xrange", "xreadgroup", "xrevrange", "xtrim"),
    *("del", "exists", "set", "hget", "hset", "hgetall", "zadd", "zrem", "zremrangebyscore"),
    *("publish", "subscribe", "unsubscribe"),
)


def rules_of(service: str) -> str:
    """To stand after the user's name and password. Understood by Redis 6.2 and newer."""
    used = [
        base for base, groups in GROUPS.items() if service in groups or producer_of(stream_name(base, 0)) == service
    ]
    keys = [PROBE_KEY, *(f"{base}.*" for base in (*used, REVOCATIONS))]
    parts = ["resetkeys", *(f"~{key}" for key in keys), "resetchannels", f"&{BELL}{service}.*"]
    return " ".join([*parts, "-@all", *(f"+{command}" for command in _COMMANDS)])
