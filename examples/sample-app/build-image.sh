#!/bin/sh
# Builds the sample app as a static binary, and an image that holds nothing else.
#
#   build-image.sh TAG [VERSION]     HEALTHCHECK=1 gives the image a HEALTHCHECK
#
# VERSION is what the app calls itself (X-Version); it defaults to the tag's part after the colon.
set -eu

tag=${1:?usage: build-image.sh TAG [VERSION]}
version=${2:-${tag##*:}}
target=x86_64-unknown-linux-gnu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

cd "$root"
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --target "$target" -p sample-app
binary=${CARGO_TARGET_DIR:-$root/target}/$target/release/sample-app

# A context of two files: the daemon is sent no more than it needs.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT INT TERM
cp "$binary" "$here/Dockerfile" "$context"

stage=plain
[ "${HEALTHCHECK:-0}" = 1 ] && stage=checked
before=$(docker images --quiet --no-trunc "$tag")
# The classic builder is in every engine; BuildKit needs a plugin that old ones lack.
DOCKER_BUILDKIT=0 docker build --quiet --force-rm --target "$stage" --build-arg "VERSION=$version" --tag "$tag" "$context" 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }

# The image that had the tag goes, unless another tag or a container still needs it.
if [ -n "$before" ] && docker images --quiet --no-trunc --filter dangling=true | grep -qxF "$before"; then
    docker rmi "$before" >/dev/null 2>&1 || true
fi
