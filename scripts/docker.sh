#!/usr/bin/env bash
# Makes sure that a Docker daemon answers: installs Debian's or Ubuntu's docker.io when there is none, and starts it.
#
#   scripts/docker.sh         install and start what is missing; safe to repeat
#   scripts/docker.sh stop    end the daemon that an earlier call started here, and no other
#   scripts/docker.sh restart [OPTION...]
#                             end that daemon and start it again, with these options of dockerd; it is for tests of what
#                             a restart does to those who run containers. A daemon of systemd is restarted as it is.
#
# A docker client alone is not enough, so it is `dockerd` that is looked for.
set -eu

socket=/var/run/docker.sock
daemon_pid_file=/var/run/docker.pid
# Written when this script started the daemon itself: its pid and start time, so that a reused pid is not taken for it.
mine=/var/run/teal-dockerd
log=/var/log/teal-dockerd.log
wait_seconds=60

say() { printf 'docker.sh: %s\n' "$*"; }
fail() { printf 'docker.sh: %s\n' "$*" >&2; exit 1; }

need_root() {
    [ "$(id -u)" -eq 0 ] || fail "$1 needs root: run it with sudo"
}

# Through the socket that Docker uses by default, whatever DOCKER_HOST or a context says. Not through the docker
# client, which may be missing.
answers() {
    [ -S "$socket" ] || return 1
    if command -v curl >/dev/null 2>&1; then
        curl --silent --fail --max-time 5 --output /dev/null --unix-socket "$socket" http://docker/_ping
    else
        DOCKER_HOST="unix://$socket" timeout 5 docker version >/dev/null 2>&1
    fi
}

# One that was killed stays a zombie until its parent looks: that is no daemon.
is_dockerd() {
    grep -q '^Name:[[:space:]]*dockerd$' "/proc/$1/status" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"
}

# Field 22 of /proc/PID/stat; the name in field 2 may hold spaces.
started_at() {
    sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20
}

systemd_runs() {
    [ "$(cat /proc/1/comm 2>/dev/null)" = systemd ]
}

install_engine() {
    command -v dockerd >/dev/null 2>&1 && return 0
    need_root "installing docker.io"
    command -v apt-get >/dev/null 2>&1 || fail "there is no dockerd and no apt-get: install Docker Engine 20.10 or newer by hand"
    say "no dockerd here: installing docker.io with apt-get"
    apt-get update -qq || fail "apt-get update failed"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io iptables >/dev/null || fail "apt-get install docker.io failed"
    hash -r
    command -v dockerd >/dev/null 2>&1 || fail "docker.io is installed, and there is still no dockerd in PATH"
    say "installed $(dockerd --version)"
}

# A daemon that was killed leaves its pid file, and the next one refuses to start while that pid is alive as anything.
remove_stale_pid_file() {
    [ -e "$daemon_pid_file" ] || return 0
    pid=$(tr -cd '0-9' <"$daemon_pid_file")
    if [ -n "$pid" ] && is_dockerd "$pid"; then
        return 0
    fi
    say "removing $daemon_pid_file, left by a daemon that is gone"
    rm -f "$daemon_pid_file"
}

wait_until_it_answers() {
    deadline=$(($(date +%s) + wait_seconds))
    until answers; do
        if [ -n "${1:-}" ] && ! kill -0 "$1" 2>/dev/null; then
            rm -f "$mine"
            tail -n 20 "$log" >&2 || true
            fail "dockerd ended at once; its log is $log"
        fi
        [ "$(date +%s)" -lt "$deadline" ] || fail "the daemon does not answer at $socket after $wait_seconds s${1:+; its log is $log}"
        sleep 0.2
    done
}

# Arguments are dockerd's.
start() {
    if answers; then
        say "a Docker daemon answers at $socket already"
        return 0
    fi
    install_engine
    need_root "starting the Docker daemon"
    if systemd_runs; then
        say "starting docker.service"
        systemctl start docker
        wait_until_it_answers
        say "docker.service runs; end it with systemctl stop docker"
        return 0
    fi
    remove_stale_pid_file
    if [ -e "$daemon_pid_file" ]; then
        say "dockerd runs as pid $(cat "$daemon_pid_file") and does not answer yet: waiting for it"
        wait_until_it_answers
        return 0
    fi
    # In a session of its own: it outlives this shell and its terminal.
    setsid dockerd "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    # Here setsid becomes dockerd in the same process: a script has no job control, so it need not fork.
    wait_until_it_answers "$pid"
    if [ -r "$daemon_pid_file" ]; then
        pid=$(tr -cd '0-9' <"$daemon_pid_file")
    fi
    printf '%s %s\n' "$pid" "$(started_at "$pid")" >"$mine"
    say "started dockerd as pid $pid, log in $log; end it with $0 stop"
}

stop() {
    if [ ! -r "$mine" ]; then
        say "this script has started no daemon here"
        return 0
    fi
    read -r pid born <"$mine"
    if ! is_dockerd "$pid" || [ "$(started_at "$pid")" != "$born" ]; then
        say "the daemon that was started here (pid $pid) is gone already"
        rm -f "$mine"
        return 0
    fi
    need_root "stopping the Docker daemon"
    kill -TERM "$pid"
    deadline=$(($(date +%s) + wait_seconds))
    while is_dockerd "$pid"; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "dockerd (pid $pid) has not ended after $wait_seconds s; its log is $log"
        sleep 0.2
    done
    rm -f "$mine"
    say "stopped dockerd (pid $pid)"
}

restart() {
    if systemd_runs && [ ! -r "$mine" ]; then
        [ $# -eq 0 ] || fail "docker.service is systemd's: its options are set in /etc/docker/daemon.json"
        need_root "restarting the Docker daemon"
        systemctl restart docker
        wait_until_it_answers
        return 0
    fi
    [ -r "$mine" ] || fail "the daemon that runs here was not started by this script: it is left alone"
    stop
    start "$@"
}

case "${1:-start}" in
start) start ;;
stop) stop ;;
restart) shift && restart "$@" ;;
*) fail "usage: $0 [start|stop|restart [OPTION...]]" ;;
esac
