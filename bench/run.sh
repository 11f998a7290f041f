#!/usr/bin/env bash
# Runs the benchmarks and their PyTorch twins alternately, and prints the medians, the ratios and the bars.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build}
programs=(dispatch train_step inference loader mnist_to_99 memory build_cost)
rounds=3
write_json=no
torch=yes

usage() {
  cat <<END
usage: ./ht bench [--rounds N] [--json] [--no-torch] [--gemm] [program ...]

  --rounds N   how often each program and its twin run in turn; the table has medians (3)
  --json       write the medians to bench/results/<date>-<processor>.json
  --no-torch   do not run PyTorch's twins
  --gemm       print the rates of matrix products and convolutions instead; what follows goes to Google Benchmark
  program      some of: ${programs[*]}
END
}

fail() {
  echo "bench: $1" >&2
  exit 2
}

chosen=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --rounds) rounds=${2:-} && shift ;;
    --json) write_json=yes ;;
    --no-torch) torch=no ;;
    --gemm) shift && exec "$build/bench/gemm" "$@" ;;
    -h | --help) usage && exit ;;
    -*) fail "there is no option $1; see --help" ;;
    *)
      [[ " ${programs[*]} " == *" $1 "* ]] || fail "there is no program $1; see --help"
      chosen+=("$1")
      ;;
  esac
  shift
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number of at least 1"
[[ ${#chosen[@]} -gt 0 ]] || chosen=("${programs[@]}")
if [[ $torch == yes ]] && ! python3 -c 'import torch' 2>/dev/null; then torch=no; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ours=$scratch/halftone.jsonl
theirs=$scratch/pytorch.jsonl
touch "$ours" "$theirs"

run_ours() {
  if [[ $1 == build_cost ]]; then "$root/bench/build_cost.sh"; else "$build/bench/$1"; fi
}

run_theirs() {
  if [[ $1 == build_cost ]]; then
    "$root/bench/build_cost.sh" --torch
  elif [[ -f $root/bench/twins/$1.py ]]; then
    python3 "$root/bench/twins/$1.py"
  fi
}

processor=$(awk -F ': ' '/model name/ { print $2; exit }' /proc/cpuinfo)
machine="$processor, $(nproc) processors, $(date +%F)"
for program in "${chosen[@]}"; do
  times=$rounds
  if [[ $program == build_cost ]]; then times=1; fi
  for ((round = 1; round <= times; ++round)); do
    echo "[bench] $program, round $round of $times" >&2
    run_ours "$program" >>"$ours" || fail "$program failed"
    if [[ $torch == yes ]]; then
      run_theirs "$program" >>"$theirs" || echo "[bench] PyTorch's twin of $program failed; going on without it" >&2
    fi
  done
done

arguments=(--ours "$ours" --machine "$machine")
if [[ $torch == yes ]]; then arguments+=(--torch "$theirs"); fi
if [[ $write_json == yes ]]; then
  mkdir -p "$root/bench/results"
  name=$(date +%F)-$(tr -cs 'A-Za-z0-9' '-' <<<"$processor" | sed 's/-*$//').json
  arguments+=(--json "$root/bench/results/$name")
fi
"$build/bench/table" "${arguments[@]}"
