#!/usr/bin/env bash
# Trains a package on a rented GPU machine in ten minutes: token model, codec, decoder (docs/how-to/train.md).
#   here:   unimoe train pack recipes/voice.toml package      (at most 60 MB)
#           pip download --no-deps -d wheels soundfile cffi   (for that machine's Python, where it lacks them)
#   there:  recipes/rented-gpu.sh package result [minutes]  (in a copy of this repository)
#   here:   unimoe train unpack recipes/voice.toml result checkpoint
set -euo pipefail
if (($# < 2 || $# > 3)); then
    echo "usage: $0 PACKAGE RESULT [MINUTES]" >&2
    exit 2
fi
package=$(realpath "$1") result=$(realpath -m "$2") minutes=${3:-9} # before the folder changes
cd "$(dirname "$0")/.."
if compgen -G "wheels/*.whl" >/dev/null; then
    python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/site wheels/*.whl
    export PYTHONPATH=/tmp/site
fi
export PYTHONPATH="${PYTHONPATH:-}:$PWD:$PWD/runtime:$PWD/export:$PWD/calibration" PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null || echo "no NVIDIA GPU: the CPU trains"
work=$(mktemp -d)
if ! python3 -m unimoe.cli train timed "$package" "$result" --work "$work" --minutes "$minutes"; then
    echo "$0: the stages that finished are in $work" >&2
    exit 1
fi
rm -rf "$work"
