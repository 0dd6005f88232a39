#!/bin/sh
# The users of Redis, with what each may do (shared/messaging/redis/access.py), then the server.
set -eu
umask 077
{
  echo "user default off"
  echo "user trucban on >$REDISCLI_AUTH ~* &* +@all"
  echo "user intake on >$INTAKE_PASSWORD resetkeys ~trucban.probe ~trucban.intake.* ~trucban.escalation.* ~trucban.revocations.escalation.* resetchannels &trucban.rows.intake.* -@all +ping +select +multi +exec +discard +evalsha +script|load +script|exists +xadd +xack +xclaim +xgroup +xinfo +xlen +xpending +xrange +xreadgroup +xrevrange +xtrim +del +exists +set +hget +hset +hgetall +zadd +zrem +zremrangebyscore +publish +subscribe +unsubscribe"
  echo "user escalation on >$ESCALATION_PASSWORD resetkeys ~trucban.probe ~trucban.intake.* ~trucban.escalation.* ~trucban.revocations.escalation.* resetchannels &trucban.rows.escalation.* -@all +ping +select +multi +exec +discard +evalsha +script|load +script|exists +xadd +xack +xclaim +xgroup +xinfo +xlen +xpending +xrange +xreadgroup +xrevrange +xtrim +del +exists +set +hget +hset +hgetall +zadd +zrem +zremrangebyscore +publish +subscribe +unsubscribe"
  echo "user ledger on >$LEDGER_PASSWORD resetkeys ~trucban.probe ~trucban.intake.* ~trucban.escalation.* ~trucban.revocations.escalation.* resetchannels &trucban.rows.ledger.* -@all +ping +select +multi +exec +discard +evalsha +script|load +script|exists +xadd +xack +xclaim +xgroup +xinfo +xlen +xpending +xrange +xreadgroup +xrevrange +xtrim +del +exists +set +hget +hset +hgetall +zadd +zrem +zremrangebyscore +publish +subscribe +unsubscribe"
} >/run/users/users.acl
chown redis /run/users /run/users/users.acl
exec docker-entrypoint.sh "$@"
