#!/usr/bin/env bash
# Renews the figures of decode steps on a quiet machine, in about 40 minutes. Run it in a clone, in the development set-up.
#   benchmarks/renew_results.sh [EARLIER_CHECKOUT]
# EARLIER_CHECKOUT is a worktree of an earlier version, which speaks the same requests in turns with this one.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/export:$PWD/runtime:$PWD/calibration"
results=benchmarks/results
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python -m benchmarks.decode_step --rounds 12 --json $results/decode_step.json --markdown $results/decode_step.md
python -m unimoe.cli export checkpoints/demo "$work/now"
python -m benchmarks.concurrency "now=$work/now" --markdown $results/concurrency.md
if [ $# -gt 0 ]; then
  # Each side runs its own code on the bundle that its own exporter wrote of the earlier version's checkpoint.
  earlier=$(realpath "$1")
  (cd "$earlier" && PYTHONPATH="$earlier:$earlier/export:$earlier/runtime:$earlier/calibration" \
    python -c "import sys; from unimoe_export.exporter import export_bundle; export_bundle(*sys.argv[1:])" \
    checkpoints/demo "$work/earlier")
  python -m unimoe.cli export "$earlier/checkpoints/demo" "$work/same"
  python -m benchmarks.decoding_speed --rounds 12 --markdown $results/decoding_speed.md \
    "earlier=$work/earlier,threads=1,tree=$earlier" "now=$work/same,threads=1" \
    "earlier 2=$work/earlier,threads=2,tree=$earlier" "now 2=$work/same,threads=2"
fi
