#!/bin/sh
# The containers, as an operator starts them: up, the sample reports through the entry, one service killed while they
# come in, the ledger verified, down again. On any failure: the logs of the containers that failed, and exit 1.
#
# DOCKER_BUILD_FLAGS: for the image's build; by default the build uses this machine's own network.
# KEEP=1 leaves everything running, to look at.
set -eu
cd "$(dirname "$0")/../.."

if ! docker info >/dev/null 2>&1; then
  echo "no docker engine answers: start one (as root: dockerd &) or set DOCKER_HOST, then make compose-test again" >&2
  exit 1
elif docker compose version >/dev/null 2>&1; then
  compose="docker compose"
elif command -v docker-compose >/dev/null; then
  compose=docker-compose
else
  echo "docker has no compose: install docker-compose (or docker-compose-plugin), then make compose-test again" >&2
  exit 1
fi

umask 077
folder=$(mktemp -d)
project=trucban-test-$$
began=$(date +%s)
image=trucban:compose-test # one name for every run, so that the layers of the last build are found again
compose="$compose -p $project -f docker-compose.yml --env-file $folder/env"
unset POSTGRES_PASSWORD REDIS_PASSWORD INTAKE_PASSWORD ESCALATION_PASSWORD LEDGER_PASSWORD
unset COMPOSE_PROJECT_NAME COMPOSE_FILE COMPOSE_PROFILES # what the shell has set would win

say() { echo "compose-test: $* ($(($(date +%s) - began)) s)"; }

fail() {
  echo "compose-test: $*" >&2
  exit 1
}

# Logs of what is not well; of the three services when all look well.
explain() {
  bad=
  for id in $(docker ps -aq --filter "label=com.docker.compose.project=$project"); do
    state=$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}{{with .State.Health}} {{.Status}}{{end}}' "$id")
    echo "$(docker inspect -f '{{.Name}}' "$id"): $state"
    case $state in
      "running 0" | "running 0 healthy" | "exited 0") ;;
      *) bad="$bad $id" ;;
    esac
  done
  [ -n "$bad" ] || bad=$($compose ps -q intake escalation ledger)
  for id in $bad; do
    echo "--- the last lines of $(docker inspect -f '{{.Name}}' "$id")"
    docker logs --tail 20 "$id" 2>&1
  done
}

finish() {
  code=$?
  trap - EXIT INT TERM
  set +e
  [ "$code" = 0 ] || explain >&2
  if [ -n "${KEEP:-}" ]; then
    echo "compose-test: kept; to end it: $compose --profile tools --profile sample down -v; rm -r $folder"
    exit "$code"
  fi
  if ! $compose --profile tools --profile sample down -v --remove-orphans --timeout 10 >"$folder/down.log" 2>&1; then
    cat "$folder/down.log" >&2
    code=1
  fi
  rm -rf "$folder"
  [ "$code" = 0 ] && say passed || say FAILED >&2
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

: >"$folder/env"
if $compose config >"$folder/refusal" 2>&1; then fail "compose starts without passwords"; fi
grep -q "PASSWORD is not set: " "$folder/refusal" || fail "unclear refusal: $(cat "$folder/refusal")"

password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
cat >"$folder/env" <<EOF
POSTGRES_PASSWORD=$(password)
REDIS_PASSWORD=$(password)
INTAKE_PASSWORD=$(password)
ESCALATION_PASSWORD=$(password)
LEDGER_PASSWORD=$(password)
TRUCBAN_IMAGE=$image
TRUCBAN_PORT=0
EOF

# shellcheck disable=SC2086 # flags, split on purpose
docker build ${DOCKER_BUILD_FLAGS---network host} -t "$image" . >"$folder/build.log" 2>&1 ||
  { cat "$folder/build.log" >&2 && fail "the image cannot be built"; }
say "image built"

$compose up -d >"$folder/up.log" 2>&1 || { cat "$folder/up.log" >&2 && fail "the containers do not come up"; }
say "containers healthy"

$compose run --rm -T --no-deps sample
address=$($compose port proxy 8080)
ledger=$($compose ps -q ledger)
key=$(docker exec "$ledger" trucban ledger key)
token() { $compose run --rm -T --no-deps trucban token issue --role "$1" --subject compose-test --days 0.1; }
AUDITOR_TOKEN=$(token auditor)
ADMIN_TOKEN=$(token admin)
DESK_TOKEN=$(token desk)
export AUDITOR_TOKEN ADMIN_TOKEN DESK_TOKEN
say "wards and directory imported"

"${PYTHON:-python3}" tests/compose/night.py --url "http://$address" --container "$($compose ps -q escalation)"
say "sample reports routed"

# Through the entry and from the auditor's side: what verifies has nothing but the address, the key and a token.
$compose run --rm -T --no-deps -e TRUCBAN_TOKEN="$AUDITOR_TOKEN" trucban ledger verify http://proxy:8080 --key "$key"
