#!/usr/bin/env bash
# Builds the images of examples/project that a registry would have: teal-postgres:15, teal-redis:7, teal-nginx:1.22, on one
# base of Debian 12 (teal-debian:12). Cold it takes two to three minutes, and downloads about 150 MB; what is there and up to
# date is left alone. Needs root, a Docker daemon (scripts/docker.sh) and a Debian mirror; no image registry.
set -eu

mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
here=$(cd "$(dirname "$0")" && pwd)
recipes=$here/../examples/project/images
# Not `teal.*`: labels of an image are labels of its containers.
stamp_label=build.stamp
# Two at once would do everything twice.
lock=/var/lock/teal-images

say() { printf 'images.sh: %s\n' "$*"; }
fail() { printf 'images.sh: %s\n' "$*" >&2; exit 1; }

stamp_of() { docker image inspect --format "{{index .Config.Labels \"$stamp_label\"}}" "$1" 2>/dev/null || true; }
digest() { cat "$@" | sha256sum | cut -c1-16; }

base_stamp=$(printf '%s\n' "bookworm minbase 1" | cat - "$recipes/trim.sh" | sha256sum | cut -c1-16)
recipe_stamp() { digest "$recipes/$1"/* | sed "s/\$/-$base_stamp/"; }

# Tag and recipe.
images='teal-postgres:15 postgres
teal-redis:7 redis
teal-nginx:1.22 nginx'

missing() {
    printf '%s\n' "$images" | while read -r tag recipe; do
        [ "$(stamp_of "$tag")" = "$(recipe_stamp "$recipe")" ] || printf '%s %s\n' "$tag" "$recipe"
    done
}

# The image that had the tag goes, unless another tag or a container still needs it.
remove_replaced() {
    if [ -n "$1" ] && docker images --quiet --no-trunc --filter dangling=true | grep -qxF "$1"; then
        docker rmi "$1" >/dev/null 2>&1 || true
    fi
}

build_base() {
    if ! command -v debootstrap >/dev/null 2>&1; then
        say "installing debootstrap"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring >/dev/null ||
            fail "apt-get install debootstrap failed"
    fi
    say "debootstrap of Debian 12 (about a minute)"
    debootstrap --variant=minbase bookworm "$work/root" "$mirror" >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" >&2; fail "debootstrap failed"; }
    cp "$recipes/trim.sh" "$work/root/usr/local/bin/trim"
    chmod 755 "$work/root/usr/local/bin/trim"
    chroot "$work/root" /usr/local/bin/trim
    before=$(docker images --quiet --no-trunc teal-debian:12)
    tar --numeric-owner --one-file-system -C "$work/root" -c . |
        docker import --change "LABEL $stamp_label=$base_stamp" --change 'CMD ["/bin/sh"]' \
            --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - teal-debian:12 >/dev/null
    remove_replaced "$before"
    rm -rf "$work/root"
}

build_image() {
    tag=$1 recipe=$2
    say "building $tag"
    before=$(docker images --quiet --no-trunc "$tag")
    # The host's network: a build needs the mirror, and nothing else of a network. The classic builder is in every engine.
    DOCKER_BUILDKIT=0 docker build --network host --force-rm --label "$stamp_label=$(recipe_stamp "$recipe")" \
        --tag "$tag" "$recipes/$recipe" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; fail "building $tag failed"; }
    remove_replaced "$before"
}

[ -n "$(missing)" ] || { say "all images are here and up to date"; exit 0; }
[ "$(id -u)" -eq 0 ] || fail "building images needs root: run it with sudo"
exec 9>"$lock"
flock 9
todo=$(missing)
[ -n "$todo" ] || { say "all images are here and up to date"; exit 0; }
say "building $(printf '%s\n' "$todo" | cut -d' ' -f1 | paste -sd' '): cold this takes less than four minutes"
began=$(date +%s)
work=$(mktemp -d)
# A debootstrap that was interrupted may leave its mounts.
trap 'umount -q "$work/root/proc" "$work/root/sys" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM
[ "$(stamp_of teal-debian:12)" = "$base_stamp" ] || build_base
printf '%s\n' "$todo" | while read -r tag recipe; do build_image "$tag" "$recipe" </dev/null; done
say "done in $(($(date +%s) - began)) s"
