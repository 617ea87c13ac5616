#!/usr/bin/env bash
# Shows on this machine what Teal does: a sample app is deployed, and deployed again, while clients keep sending.
# Everything happens in a temporary directory and on loopback; it is all taken away at the end.
#
#   PORT=N make demo     on another port than 18080
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
bin=$CARGO_TARGET_DIR/release
port=${PORT:-18080}

# Before anything is built: a port that another process has ends the demo.
case $port in *[!0-9]* | '') echo "demo: PORT is a port of this machine, such as 18081, and not \`$port\`" >&2; exit 2 ;; esac
if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "demo: 127.0.0.1:$port is in use by another process. Choose another port: PORT=18081 make demo" >&2
    exit 1
fi

title() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

began=$(date +%s)
# A daemon that was there before stays.
! scripts/docker.sh answers || KEEP_DOCKER=yes
title "What is missing is installed, and Docker is started"
scripts/setup.sh demo

title "Building teal and the load generator (release), and the image of the sample app"
cargo build --release --locked -p teal -p teal-e2e
sample=teal-demo-sample
examples/sample-app/build-image.sh "$sample:v1" v1

place=$(mktemp -d)
export TEAL_STATE_DIR=$place/state TEAL_RUN_DIR=$place/run
export PATH=$bin:$PATH
load=
clean() {
    status=$?
    trap - EXIT INT TERM
    title "Cleaning up"
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    if [ -S "$TEAL_RUN_DIR/agent.sock" ]; then
        # Where nothing was deployed there is nothing to remove.
        if teal -p demo status >/dev/null 2>&1; then teal -p demo remove --yes || true; fi
        teal down --proxy || true
    fi
    docker rmi --force "$sample:v1" >/dev/null 2>&1 || true
    # Only a daemon that was started here; one that cannot be stopped is said, and fails the demo.
    [ -n "${KEEP_DOCKER:-}" ] || "$root/scripts/docker.sh" stop || status=1
    rm -rf "$place"
    exit "$status"
}
trap clean EXIT INT TERM

mkdir "$place/demo"
cat >"$place/demo/compose.yaml" <<COMPOSE
services:
  web:
    image: $sample:v1
    environment:
      VERSION: \${VERSION}
      HEALTH: \${HEALTH:-ok}
      SIGTERM: drain
    ports: ["127.0.0.1:$port:8080"]
    deploy:
      replicas: 2
    x-teal:
      health: { path: /health, deadline: 5s }
# Each deployment ends with its flip here: without this it is watched for five minutes, and can be rolled back at once for ten more.
x-teal: { bake: 0, retain: 0 }
COMPOSE
cd "$place/demo"

title "The project: an ordinary compose file"
cat compose.yaml

title "Starting Teal, and deploying v1"
run teal up --detach
export VERSION=v1
run teal deploy

title "32 clients with keep-alive connections begin to send, GET and POST, and go on until the end"
teal-load --url "http://127.0.0.1:$port/" --connections 32 --post-share 0.2 --rate 50 >"$place/load.log" 2>&1 &
load=$!
sleep 3

title "Deploying v2 under this load"
export VERSION=v2
run teal deploy

title "Deploying v3, which never gets healthy: it must not take v2 down"
export VERSION=v3
set +e
HEALTH=never run teal deploy
code=$?
set -e
printf '\nexit code %s\n' "$code"
[ "$code" -ne 0 ] || { echo "demo: a release that is never healthy was deployed" >&2; exit 1; }

title "v2 still serves"
run teal status
answer=$(python3 -c "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:$port/').read().decode().strip())")
echo "$answer"
case $answer in *v2*) ;; *) echo "demo: this is not v2" >&2; exit 1 ;; esac

title "What the clients saw"
sleep 1
kill -TERM "$load"
set +e
wait "$load"
failed=$?
set -e
load=
tail -n 12 "$place/load.log"
[ "$failed" -eq 0 ] || { echo "demo: requests failed" >&2; exit 1; }

title "The receipts"
export VERSION=v2
run teal history
run teal show 2
run teal show 3
printf '\nNo request failed. The demo took %s s.\n' "$(($(date +%s) - began))"
