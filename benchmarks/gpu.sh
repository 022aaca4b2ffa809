#!/bin/bash
# All figures of one GPU in one call, below 8 minutes, without a network; prints one table. Not yet run on a GPU.
#   benchmarks/gpu.sh [seconds a case]
set -euo pipefail
cd "$(dirname "$0")/.."
exec timeout 480 "${PYTHON:-.venv/bin/python}" benchmarks/gpu_step.py --seconds "${1:-8}"
