#!/bin/sh
# Builds one of the sample programs as a static binary, and an image that holds nothing else.
#
#   build-image.sh PROGRAM TAG [VERSION]     RECIPE names a file in PROGRAM/ other than `Dockerfile`,
#                                            STAGE a stage of it other than `plain`
#
# VERSION is what the program calls itself (X-Version); it defaults to the tag's part after the colon.
set -eu

program=${1:?usage: build-image.sh PROGRAM TAG [VERSION]}
tag=${2:?usage: build-image.sh PROGRAM TAG [VERSION]}
version=${3:-${tag##*:}}
target=x86_64-unknown-linux-gnu
root=$(cd "$(dirname "$0")/.." && pwd)

cd "$root"
RUSTFLAGS="-C target-feature=+crt-static" ${CARGO:-cargo} build --quiet --release --target "$target" -p "$program"
binary=${CARGO_TARGET_DIR:-$root/target}/$target/release/$program

# A context of two files: the daemon is sent no more than it needs.
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT INT TERM
cp "$binary" "$root/examples/$program/${RECIPE:-Dockerfile}" "$context"

before=$(docker images --quiet --no-trunc "$tag")
# The classic builder is in every engine; BuildKit needs a plugin that old ones lack.
DOCKER_BUILDKIT=0 docker build --quiet --force-rm --file "$context/${RECIPE:-Dockerfile}" --target "${STAGE:-plain}" --build-arg "VERSION=$version" --tag "$tag" "$context" 2>"$context/log" ||
    { cat "$context/log" >&2; exit 1; }

# The image that had the tag goes, unless another tag or a container still needs it.
if [ -n "$before" ] && docker images --quiet --no-trunc --filter dangling=true | grep -qxF "$before"; then
    docker rmi "$before" >/dev/null 2>&1 || true
fi
