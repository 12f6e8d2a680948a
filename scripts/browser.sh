#!/usr/bin/env bash
# Sees to it that there is a Chromium, for the tests that look at the pages as people do. Does
# nothing where there is one. As root on Debian it installs Debian's; anywhere else it says what
# is missing and leaves the machine alone. Never fails: without a browser the tests say
# themselves which of them could not run.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit 0; fi
done
if [ "$(id -u)" != 0 ] || ! [ -e /etc/debian_version ] || ! command -v apt-get >/dev/null; then
    echo "browser: no Chromium here: install one to test the pages" >&2
    exit 0
fi
echo "browser: installing chromium" >&2
export DEBIAN_FRONTEND=noninteractive
# Its recommendations are a desktop's; without a font there would be no text to look at.
if ! { apt-get update -qq &&
    apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; }; then
    echo "browser: chromium could not be installed" >&2
fi
