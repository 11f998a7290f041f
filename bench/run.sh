#!/usr/bin/env bash
# Runs the benchmarks and their PyTorch twins alternately, and prints the medians, the ratios and the bars.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build}
programs=(dispatch train_step inference loader mnist_to_99 memory build_cost)
gpu_programs=(gpu_kernels gpu_train gpu_products gpu_dispatch)
rounds=3
seconds=
gpu=no
write_json=no
torch=yes

usage() {
  cat <<END
usage: ./ht bench [--rounds N] [--json] [--no-torch] [--gemm] [--gpu] [--seconds N] [program ...]

  --rounds N   how often each program and its twin run in turn; the table has medians (3)
  --json       write the medians to bench/results/<date>-<processor>.json, and the tables beside it as Markdown
  --no-torch   do not run PyTorch's twins
  --gemm       print the rates of matrix products and convolutions instead; what follows goes to Google Benchmark
  --gpu        run the GPU's programs: ${gpu_programs[*]}
  --seconds N  how long the GPU's programs and their twins measure, all together, about (240)
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
    --gpu) gpu=yes && programs=("${gpu_programs[@]}") ;;
    --seconds) seconds=${2:-} && shift ;;
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
[[ ${seconds:=240} =~ ^[1-9][0-9]*$ ]] || fail "--seconds needs a whole number of at least 1"
[[ ${#chosen[@]} -gt 0 ]] || chosen=("${programs[@]}")
if [[ $torch == yes ]] && ! python3 -c 'import torch' 2>/dev/null; then torch=no; fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
ours=$scratch/halftone.jsonl
theirs=$scratch/pytorch.jsonl
touch "$ours" "$theirs"

arguments=()
if [[ $gpu == yes ]]; then
  shares=$((${#chosen[@]} * rounds))
  if [[ $torch == yes ]]; then shares=$((shares * 2)); fi
  arguments=(--seconds "$(((seconds + shares - 1) / shares))")
fi

run_ours() {
  if [[ $1 == build_cost ]]; then "$root/bench/build_cost.sh"; else "$build/bench/$1" "${arguments[@]}"; fi
}

run_theirs() {
  if [[ $1 == build_cost ]]; then
    "$root/bench/build_cost.sh" --torch
  elif [[ -f $root/bench/twins/$1.py ]]; then
    python3 "$root/bench/twins/$1.py" "${arguments[@]}"
  fi
}

processor=$(awk -F ': ' '/model name/ { print $2; exit }' /proc/cpuinfo)
machine="$processor, $(nproc) processors, $(date +%F)"
if [[ $gpu == yes ]]; then
  read -r processor < <(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null || true) || processor="no GPU"
  machine="$processor, $machine"
fi
failed=0
for program in "${chosen[@]}"; do
  times=$rounds
  if [[ $program == build_cost ]]; then times=1; fi
  for ((round = 1; round <= times; ++round)); do
    echo "[bench] $program, round $round of $times" >&2
    # A GPU's program has told which of its cases failed, and measured the others.
    run_ours "$program" >>"$ours" || { [[ $gpu == yes ]] && failed=1; } || fail "$program failed"
    if [[ $torch == yes ]]; then
      run_theirs "$program" >>"$theirs" || echo "[bench] PyTorch's twin of $program failed; going on without it" >&2
    fi
  done
done

table=(--ours "$ours" --machine "$machine")
if [[ $torch == yes ]]; then table+=(--torch "$theirs"); fi
if [[ $write_json == yes ]]; then
  mkdir -p "$root/bench/results"
  name=$root/bench/results/$(date +%F)-$(tr -cs 'A-Za-z0-9' '-' <<<"$processor" | sed 's/-*$//')
  table+=(--json "$name.json" --markdown "$name.md")
fi
"$build/bench/table" "${table[@]}"
exit "$failed"
