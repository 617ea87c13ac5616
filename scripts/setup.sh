#!/usr/bin/env bash
# Installs what demo, tests and benches need (Debian, Ubuntu), and makes sure that a Docker daemon answers. Safe to repeat.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
say() { printf 'setup.sh: %s\n' "$*"; }

command -v cargo >/dev/null 2>&1 || { say "no cargo here: install a Rust toolchain, 1.90 or newer (https://rustup.rs)" >&2; exit 1; }

# Program, and the package that has it: a C compiler for SQLite, the docker client, python3 to read a journal beside the
# agent, nginx to be compared with, a registry to pull from, and what a rootless Docker needs.
missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need cc gcc
need docker docker.io
need python3 python3
if [ "${1:-}" != demo ]; then
    need nginx nginx-light
    need docker-registry docker-registry
    need taskset util-linux
    # A rootless Engine beside the one of this host.
    need rootlesskit rootlesskit
    need slirp4netns slirp4netns
    need newuidmap uidmap
fi
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"

if [ -n "$missing" ]; then
    [ "$(id -u)" -eq 0 ] || { say "missing:$missing. Run this as root, or install them" >&2; exit 1; }
    command -v apt-get >/dev/null 2>&1 || { say "missing:$missing, and there is no apt-get: install them by hand" >&2; exit 1; }
    say "installing$missing"
    apt-get update -qq
    # Services of these packages are not wanted: tests start their own.
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.teal
    chmod +x /usr/sbin/policy-rc.d.teal
    [ -e /usr/sbin/policy-rc.d ] || { mv /usr/sbin/policy-rc.d.teal /usr/sbin/policy-rc.d; ours=1; }
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null || { say "apt-get install failed" >&2; exit 1; }
    if [ "${ours:-}" = 1 ]; then rm -f /usr/sbin/policy-rc.d; else rm -f /usr/sbin/policy-rc.d.teal; fi
fi
exec "$here/docker.sh"
