#!/bin/bash
# All figures of one GPU in one call of 8 minutes at most, without a network; prints one table. r3gan's rows come last, as
# they may not be in it any more.
#   benchmarks/gpu.sh [seconds a case]
set -euo pipefail
cd "$(dirname "$0")/.."
exec timeout 480 "${PYTHON:-.venv/bin/python}" benchmarks/gpu_step.py --seconds "${1:-2}"
