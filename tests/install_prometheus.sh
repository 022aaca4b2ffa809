#!/usr/bin/env bash
# The metrics test scrapes with a real Prometheus: Debian's, installed where it is missing and may be.
set -euo pipefail
command -v prometheus >/dev/null && command -v promtool >/dev/null && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null
else
    echo "prometheus and promtool are needed for the metrics test: install the package 'prometheus'" >&2
    exit 1
fi
