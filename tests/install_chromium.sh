#!/usr/bin/env bash
# The report's tests look at its page in a real browser: Debian's, installed where it is missing and may be; else those
# tests are skipped, with the reason.
set -euo pipefail
for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit 0
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    for name in chromium-headless-shell chromium; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$name" >/dev/null 2>&1 && exit 0
    done
fi
echo "no browser: the report's page is not looked at; install the package 'chromium'" >&2
