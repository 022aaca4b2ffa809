#!/usr/bin/env bash
# The metrics tests use a real Prometheus and Pushgateway: Debian's, installed where they are missing and may be.
set -euo pipefail
command -v prometheus >/dev/null && command -v promtool >/dev/null && command -v prometheus-pushgateway >/dev/null && exit 0
packages=(prometheus prometheus-pushgateway)
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
    echo "prometheus, promtool and prometheus-pushgateway are needed: install the packages ${packages[*]}" >&2
    exit 1
fi
