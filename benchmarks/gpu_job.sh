#!/bin/bash
# A whole job in one process, from images to bits: recorded and launched singly, twice alike, and in two halves.
#   benchmarks/gpu_job.sh SOURCE [kimg] [batch]   SOURCE: what `prepare` takes; on a GPU where there is one
# Prints how long each command took, its last lines, and whether the weights of the ends are the same bits.
set -euo pipefail
cd "$(dirname "$0")/.."
source=$1 kimg=${2:-400} batch=${3:-256} python=${PYTHON:-.venv/bin/python}
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT
half=$("$python" -c "print($kimg / 2)")

timed() {
    local started=$SECONDS
    "$python" -m "$@" >"$folder/said" 2>&1 || { cat "$folder/said"; exit 1; }
    echo "== $((SECONDS - started)) s: ${*:1:6} …"
}

job() {
    timed gan_distributed.train --data "$folder/data" --output "$folder/runs" --workers 0 --profile \
        --config benchmarks/gpu_job.yaml --set training.batch_size="$batch" --set data.num_lanes="$((batch < 64 ? batch : 64))" \
        --set training.tick_kimg="$("$python" -c "print($kimg / 8)")" --set checkpoint.every_kimg="$half" "$@"
    grep 'images/s\|^[a-z_]* *[0-9.]*%' "$folder/said" | tail -n 11
}

timed gan_distributed prepare "$source" "$folder/data" --resolution 64
job --run-id whole --set training.total_kimg="$kimg"
job --run-id singly --set training.total_kimg="$kimg" --set training.cuda_graphs=false
job --run-id again --set training.total_kimg="$kimg"
job --run-id halves --set training.total_kimg="$half"
job --run-id halves --set training.total_kimg="$kimg"
"$python" - "$folder/runs" <<'END'
import sys
from pathlib import Path

from safetensors.numpy import load_file

runs = Path(sys.argv[1])
# Without what the files say of themselves.
whole, *others = (
    {name: one.tobytes() for name, one in load_file(max((runs / run).glob("checkpoints/*/generator.safetensors"))).items()}
    for run in ("whole", "singly", "again", "halves")
)
for run, end in zip(("singly", "again", "halves"), others, strict=True):
    print(f"{run}: {'the same bits' if end == whole else 'other bits'}")
END
