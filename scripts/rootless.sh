#!/usr/bin/env bash
# A rootless Docker Engine of its own, as a user of its own: for tests of an Engine whose containers this host cannot reach at
# their addresses.
#
#   scripts/rootless.sh start DIR   starts it with all its files in DIR (which must not exist), and prints its DOCKER_HOST
#   scripts/rootless.sh stop DIR    ends it, and removes DIR, the user, and what else an earlier start made
#
# It ends by itself after a quarter of an hour, so that a test that was killed leaves no daemon.
set -eu

user=teal-rootless
seconds=900
wait_seconds=60
tun=/dev/net/tun

say() { printf 'rootless.sh: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(id -u)" -eq 0 ] || fail "it makes a user, so it needs root"
[ $# -eq 2 ] || fail "usage: $0 start|stop DIR"
dir=$2

find_launcher() {
    for launcher in "$(command -v dockerd-rootless.sh || true)" /usr/share/docker.io/contrib/dockerd-rootless.sh; do
        if [ -x "$launcher" ]; then return 0; fi
    done
    fail "no dockerd-rootless.sh here: Debian has it in docker.io, Docker in docker-ce-rootless-extras"
}

# Field 22 of /proc/PID/stat: a pid that was used again is another process.
started_at() {
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
}

runs() {
    [ "$(started_at "$pid")" = "$born" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

start() {
    find_launcher
    for program in rootlesskit slirp4netns newuidmap; do
        command -v $program >/dev/null || fail "no $program here: scripts/setup.sh installs it"
    done
    [ -c $tun ] || fail "no $tun: its network needs the kernel module tun"
    mkdir -m 755 "$dir"
    if ! id $user >/dev/null 2>&1; then
        useradd --system --no-create-home --home-dir "$dir/home" --shell /bin/sh $user
        touch "$dir/made-user"
    fi
    grep -q "^$user:" /etc/subuid || usermod --add-subuids 1073741824-1073807359 --add-subgids 1073741824-1073807359 $user
    # Everybody may use it where udev has set it up.
    mode=$(stat -c %a $tun)
    if [ "$mode" != 666 ]; then
        echo "$mode" >"$dir/tun-mode"
        chmod 666 $tun
    fi
    install -d -m 700 -o $user -g $user "$dir/home" "$dir/run" "$dir/data"
    cd "$dir/home"
    setsid timeout --foreground $seconds setpriv --reuid=$user --regid=$user --init-groups env -i HOME="$dir/home" USER=$user \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin XDG_RUNTIME_DIR="$dir/run" \
        "$launcher" --data-root "$dir/data" >"$dir/log" 2>&1 </dev/null &
    pid=$!
    born=$(started_at $pid)
    echo "$pid $born" >"$dir/pid"
    export DOCKER_HOST="unix://$dir/run/docker.sock"
    deadline=$(($(date +%s) + wait_seconds))
    until timeout 5 docker version >/dev/null 2>&1; do
        if ! runs || [ "$(date +%s)" -ge "$deadline" ]; then
            tail -n 20 "$dir/log" >&2 || true
            fail "it does not answer; its log is above"
        fi
        sleep 0.2
    done
    echo "$DOCKER_HOST"
}

stop() {
    [ -d "$dir" ] || return 0
    if [ -r "$dir/pid" ]; then
        read -r pid born <"$dir/pid"
        if runs; then
            kill -TERM "$pid"
        fi
        deadline=$(($(date +%s) + wait_seconds))
        while runs; do
            [ "$(date +%s)" -lt "$deadline" ] || fail "it (pid $pid) has not ended after $wait_seconds s; its log is $dir/log"
            sleep 0.2
        done
    fi
    # Shims and proxies of containers may be a moment behind it.
    deadline=$(($(date +%s) + wait_seconds))
    until [ -z "$(of_user)" ]; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "processes of $user have not ended: $(of_user)"
        sleep 0.2
    done
    if [ -r "$dir/tun-mode" ]; then chmod "$(cat "$dir/tun-mode")" $tun; fi
    if [ -e "$dir/made-user" ]; then userdel $user 2>/dev/null || fail "the user $user cannot be removed"; fi
    rm -rf "$dir"
}

of_user() {
    id=$(id -u $user 2>/dev/null) || return 0
    for status in /proc/[0-9]*/status; do
        grep -q "^Uid:[[:space:]]*$id[[:space:]]" "$status" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "$status" 2>/dev/null || continue
        status=${status%/status}
        echo "${status#/proc/}"
    done
}

case "$1" in
start) start ;;
stop) stop ;;
*) fail "usage: $0 start|stop DIR" ;;
esac
