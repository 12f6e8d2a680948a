#!/usr/bin/env bash
# Sees to it that a Docker Engine answers, for the tests that need one. Does nothing where
# one does. As root on Debian it installs docker.io where that is missing (the tests use its
# command line too) and starts the engine; anywhere else it says what is missing and leaves
# the machine alone. Never fails: without an engine the tests say themselves which of them
# could not run.
set -euo pipefail

socket="${DOCKER_HOST:-unix:///var/run/docker.sock}"
log="${TMPDIR:-/tmp}/launcher-dockerd.log"
ready_within=60 # seconds

say() {
    printf 'engine: %s\n' "$*" >&2
}

answers() {
    local python=python3
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
    "$python" - "$socket" 2>/dev/null <<'PYTHON'
import http.client
import socket
import sys

where = sys.argv[1]
if not where.startswith("unix://"):
    sys.exit(0)  # somebody else's machine: the tests will see
link = http.client.HTTPConnection("localhost", timeout=5)
link.sock = socket.socket(socket.AF_UNIX)
link.sock.settimeout(5)
link.sock.connect(where.removeprefix("unix://"))
link.request("GET", "/_ping")
sys.exit(link.getresponse().status != 200)
PYTHON
}

# wait_until_ready [PID]: false once the time is over, or as soon as that process is gone.
wait_until_ready() {
    local until=$((SECONDS + ready_within))
    while ! answers; do
        if [ "$SECONDS" -ge "$until" ]; then return 1; fi
        if [ -n "${1:-}" ] && ! kill -0 "$1" 2>/dev/null; then return 1; fi
        sleep 0.2
    done
}

install_engine() {
    say "installing docker.io"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq
    local packages=(docker.io iptables)
    # Since Debian 13 the command line is a package of its own.
    if apt-cache show docker-cli >/dev/null 2>&1; then packages+=(docker-cli); fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${packages[@]}" >/dev/null
}

# A kernel without nf_tables (many sandboxes) has only the older interface, which Debian
# ships as iptables-legacy. The engine alone is given it; the machine's choice stays.
engine_path() {
    if ! iptables -t nat -L -n >/dev/null 2>&1 && iptables-legacy -t nat -L -n >/dev/null 2>&1; then
        local shim
        shim="$(mktemp -d "${TMPDIR:-/tmp}/launcher-iptables.XXXXXX")"
        ln -s "$(command -v iptables-legacy)" "$shim/iptables"
        ln -s "$(command -v ip6tables-legacy)" "$shim/ip6tables"
        printf '%s:' "$shim"
    fi
    printf '%s' "$PATH"
}

# start_engine OPTION...: in the background, in a session of its own, so that it outlives
# this script and a Ctrl-C on the tests.
start_engine() {
    say "starting dockerd $* (log: $log)"
    PATH="$(engine_path)" setsid dockerd "$@" >>"$log" 2>&1 </dev/null &
    local pid=$!
    wait_until_ready "$pid" && return
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    return 1
}

cd "$(dirname "$0")/.."
if answers; then exit 0; fi

if [ -n "${DOCKER_HOST:-}" ]; then
    say "nothing answers at DOCKER_HOST ($DOCKER_HOST)"
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! [ -e /etc/debian_version ]; then
    say "no Docker Engine answers at $socket: start one, or see to it that you may use it"
    exit 0
fi
export PATH="$PATH:/usr/sbin:/sbin"
if ! command -v dockerd >/dev/null && ! install_engine; then
    say "docker.io could not be installed"
    exit 0
fi
if [ -d /run/systemd/system ]; then
    systemctl start docker || true
    if wait_until_ready; then exit 0; fi
    say "systemctl start docker did not help: journalctl -u docker"
    exit 0
fi
# Its package may have started it, or whoever set up the machine a moment ago.
if grep -qsx dockerd /proc/[0-9]*/comm && wait_until_ready; then exit 0; fi
# A pid file of an engine that is gone keeps the next one from starting.
if [ -e /var/run/docker.pid ] && ! kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null; then
    rm -f /var/run/docker.pid
fi
if start_engine || start_engine --iptables=false --ip6tables=false ||
    start_engine --iptables=false --ip6tables=false --bridge=none; then
    say "ready"
else
    say "dockerd does not start here:"
    tail -n 15 "$log" >&2 || true
fi
