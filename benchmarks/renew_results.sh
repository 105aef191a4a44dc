#!/usr/bin/env bash
# Renews the figures of decode steps, in parts of at most five minutes of a quiet machine each. Run it in a clone, in the
# development set-up.
#   benchmarks/renew_results.sh [--earlier CHECKOUT] PART…
# Parts: steps-384, steps-1024 (decode_step: each renews its sizes of the joint result), parts, peers, residency, streams,
# earlier. CHECKOUT is a worktree of an earlier version, which speaks the same requests in turns with this one.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:$PWD/export:$PWD/runtime:$PWD/calibration"
results=benchmarks/results
kept=build/results
mkdir -p $kept
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rounds=${ROUNDS:-6}

steps() {
  python -m benchmarks.decode_step --hidden "$1" --picked "${@:2}" --rounds "$rounds" --json "$kept/steps-$1.json"
  python -m benchmarks.decode_step --join $(ls $kept/steps-*.json | sort -V) --json $results/decode_step.json \
    --markdown $results/decode_step.md
}

earlier() {
  # Each side runs its own code on the bundle that its own exporter wrote of the earlier version's checkpoint.
  local tree
  tree=$(realpath "$1")
  (cd "$tree" && PYTHONPATH="$tree:$tree/export:$tree/runtime:$tree/calibration" \
    python -c "import sys; from unimoe_export.exporter import export_bundle; export_bundle(*sys.argv[1:])" \
    checkpoints/demo "$work/earlier")
  python -m unimoe.cli export "$tree/checkpoints/demo" "$work/same"
  python -m benchmarks.decoding_speed --rounds 8 --markdown $results/decoding_speed.md \
    "earlier=$work/earlier,threads=1,tree=$tree" "now=$work/same,threads=1" \
    "earlier 2=$work/earlier,threads=2,tree=$tree" "now 2=$work/same,threads=2"
}

checkout=
if [ "${1:-}" = --earlier ]; then
  checkout=$2
  shift 2
fi
[ $# -gt 0 ] || { echo "give parts: steps-384 steps-1024 parts peers residency streams earlier" >&2; exit 2; }
for part in "$@"; do
  case $part in
    steps-384) steps 384 0 1 2 4 8 ;;
    steps-1024) steps 1024 0 2 4 8 ;;
    parts) python -m benchmarks.step_parts --markdown $results/step_parts.md ;;
    peers) python -m benchmarks.quantized_single_graph --hidden 384 1024 --markdown $results/quantized_single_graph.md ;;
    residency | streams)
      [ -d "$work/now" ] || python -m unimoe.cli export checkpoints/demo "$work/now"
      if [ "$part" = streams ]; then
        python -m benchmarks.concurrency "now=$work/now" --markdown $results/concurrency.md
      else
        python -m benchmarks.expert_residency "$work/now" --rounds 3 --steps 60 --markdown $results/expert_residency.md
        python -m benchmarks.stamp $results/expert_residency.md
      fi ;;
    earlier)
      [ -n "$checkout" ] || { echo "earlier: give its worktree: --earlier CHECKOUT" >&2; exit 2; }
      earlier "$checkout" ;;
    *) echo "there is no part $part" >&2; exit 2 ;;
  esac
done
