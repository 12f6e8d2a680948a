#!/usr/bin/env bash
# Docker Compose v2, wherever it is: `scripts/compose.sh config`, like `docker compose config`.
# Uses the plugin or program that is installed; else, on Debian, Debian's own package, unpacked
# into .cache/ and installed nowhere. Ends with 69 where there is none to be had.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cache=$root/.cache/compose
unpacked=$cache/usr/libexec/docker/cli-plugins/docker-compose

if docker compose version >/dev/null 2>&1; then
  exec docker compose "$@"
fi
if docker-compose version 2>/dev/null | grep -q ' v\?2\.'; then
  exec docker-compose "$@"
fi

# Bookworm has no Compose v2; trixie's package needs nothing that bookworm lacks. Its list is
# kept apart: this machine's own sources stay as they are.
fetch() {
  command -v apt-get dpkg-deb >/dev/null || return 1
  local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg work
  mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p; s/^deb \(\[.*\] \)\?\([^ ]*\).*/\2/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list \
    2>/dev/null | grep '/debian/\?$' | head -n 1)
  [ -n "$mirror" ] && [ -r "$key" ] || return 1
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" RETURN
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' \
    "$mirror" "$key" >"$work/trixie.sources"
  local options=(
    -qq -o "Dir::Etc::sourcelist=$work/trixie.sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
    -o APT::Sandbox::User=root -o Acquire::Retries=3
  )
  (cd "$work" && apt-get "${options[@]}" update && apt-get "${options[@]}" download docker-compose) || return 1
  # Into place in one step, so that two who fetch at once don't see half of it.
  mkdir -p "$(dirname "$cache")" "$work/root"
  dpkg-deb -x "$work"/docker-compose_*.deb "$work/root" || return 1
  mv "$work/root" "$cache.new.$$"
  mv -T "$cache.new.$$" "$cache" 2>/dev/null || rm -rf "$cache.new.$$"
}

if [ ! -x "$unpacked" ]; then
  fetch >&2 || { echo "compose.sh: no Docker Compose v2 here, and none to be had" >&2; exit 69; }
fi
exec "$unpacked" "$@"
