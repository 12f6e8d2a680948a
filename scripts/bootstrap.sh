#!/usr/bin/env bash
# Makes .venv with everything that the demo, the tests and the linters need; does nothing
# where it is there and pyproject.toml hasn't changed since. Packages come from wherever
# this machine's pip is configured to look.
#
#   PYTHON=/path/to/python3.12 scripts/bootstrap.sh     to choose the interpreter
#   scripts/bootstrap.sh --describe                     to be told of it in any case
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp="$venv/.stamp"
wanted="$(cksum <pyproject.toml)"

die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

may_install() {
    [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null
}

install_packages() {
    printf 'setup: installing %s\n' "$*"
    DEBIAN_FRONTEND=noninteractive apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$name" >/dev/null && new_enough "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# Debian's own doesn't say how it was built.
describe() {
    "$1" - <<'EOF'
import sys, sysconfig

if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""):
    built = "built with PGO"
elif sys.base_prefix == "/usr":
    built = "the distribution's build"
else:
    built = "built without PGO: requests cost about 12% more; make setup PYTHON=... chooses another"
name = f"{sys.implementation.name} {sys.version.split()[0]}"
print(f"setup: {name} ({sys.base_prefix}), {built}")
EOF
}

build_of() {
    "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null
}

# Another interpreter than the one that .venv has: begin anew.
if [ -n "${PYTHON:-}" ] && chosen="$(find_python)" &&
    [ "$(build_of "$chosen")" != "$(build_of "$venv/bin/python")" ]; then
    rm -f "$stamp" "$venv/bin/python"
fi

if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] &&
    new_enough "$venv/bin/python"; then
    [ "${1:-}" != --describe ] || describe "$venv/bin/python"
    exit 0
fi

python="$(find_python)" || {
    if [ -z "${PYTHON:-}" ] && may_install && ! command -v python3 >/dev/null; then
        install_packages python3 python3-venv
    fi
    python="$(find_python)" ||
        die "Python 3.11 or newer is needed, and ${PYTHON:-python3} is" \
            "$("${PYTHON:-python3}" --version 2>&1 | head -n 1 || true). Install one" \
            "(Debian 12, Ubuntu 24.04 and later have it), or name it: make setup PYTHON=/path"
}

if ! new_enough "$venv/bin/python"; then
    # Debian keeps ensurepip, which makes the venv's pip, in a package of its own.
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        may_install || die "this Python can't make virtual environments; as root:" \
            "apt-get install python3-venv (or your system's package of that kind)"
        install_packages \
            "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
    fi
    "$python" -m venv --clear "$venv"
fi

describe "$venv/bin/python"
rm -f "$stamp"
printf 'setup: installing the launcher, the demo and the tools\n'
"$venv/bin/python" -m pip install --quiet --quiet --no-input --disable-pip-version-check \
    --editable '.[demo,dev]'
printf '%s\n' "$wanted" >"$stamp"
