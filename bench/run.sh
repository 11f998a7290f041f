#!/usr/bin/env bash
# Runs the benchmarks and their PyTorch twins in turn, and prints the medians, the ratios and the bars. What was measured
# is in a file at once, and the table is written anew after every program: whoever stops this loses nothing.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build}
programs=(dispatch train_step inference loader mnist_to_99 memory parallel_step build_cost)
gpu_programs=(gpu_train gpu_products gpu_kernels gpu_dispatch)
rounds=
seconds=100
budget=
limit=
gpu=no
smoke=no
write_json=no
torch=yes
out=''
results=$root/bench/results

usage() {
  cat <<END
usage: ./ht bench [--rounds N] [--json] [--out DIR] [--results DIR] [--no-torch] [--gemm]
                  [--gpu] [--seconds N] [--budget N] [--limit N] [--smoke] [program ...]

  --rounds N   how often each program and its twin run (3; 2 with --gpu); the table has medians
  --json       keep the medians as bench/results/<date>-<time>-<processor>.json, and the tables beside it as Markdown
  --out DIR    keep them there too, and there the lines of each run as they come; else those are in the build folder
  --no-torch   do not run PyTorch's twins
  --gemm       print the rates of matrix products and convolutions instead; what follows goes to Google Benchmark
  --gpu        run the GPU's programs: ${gpu_programs[*]}
  --results DIR  keep them in D instead of bench/results
  --seconds N  how long the GPU's programs and their twins measure, all together, about ($seconds)
  --budget N   stop after so many seconds: a program that would not end in time is stopped or not begun, and the table
               says so
  --limit N    stop each program after so many seconds (with --gpu: its share of the measuring time and 100 more)
  --smoke      the GPU's programs at tiny sizes, once: shows that this script works, measures nothing
  program      some of: ${programs[*]}
END
}

fail() {
  echo "bench: $1" >&2
  exit 2
}
say() { echo "[bench] $*" >&2; }

chosen=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --rounds) rounds=${2:-} && shift ;;
    --json) write_json=yes ;;
    --out) out=${2:-} && shift ;;
    --results) results=${2:-} && shift ;;
    --no-torch) torch=no ;;
    --gpu) gpu=yes && programs=("${gpu_programs[@]}") ;;
    --seconds) seconds=${2:-} && shift ;;
    --budget) budget=${2:-} && shift ;;
    --limit) limit=${2:-} && shift ;;
    --smoke) smoke=yes && rounds=1 ;;
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
if [[ -z $rounds && $gpu == yes ]]; then rounds=2; fi
[[ ${rounds:=3} =~ ^[1-9][0-9]*$ ]] || fail "--rounds needs a number of at least 1"
[[ $seconds =~ ^[1-9][0-9]*$ ]] || fail "--seconds needs a whole number of at least 1"
[[ ${budget:=1000000} =~ ^[1-9][0-9]*$ ]] || fail "--budget needs a whole number of at least 1"
[[ ${limit:-1} =~ ^[1-9][0-9]*$ ]] || fail "--limit needs a whole number of at least 1"
[[ ${#chosen[@]} -gt 0 ]] || chosen=("${programs[@]}")
if [[ $torch == yes ]] && ! python3 -c 'import torch' 2>/dev/null; then torch=no; fi

# One run a line: whose, program, round. A GPU's own figures come before the twins', in case the time runs out; a CPU's
# programs take turns with their twins, since what else runs on it changes.
plan() {
  local round program
  if [[ $gpu == yes ]]; then
    for ((round = 1; round <= rounds; ++round)); do
      for program in "${chosen[@]}"; do echo "ours $program $round"; done
      for program in "${chosen[@]}"; do echo "theirs $program $round"; done
    done
    return
  fi
  for program in "${chosen[@]}"; do
    for ((round = 1; round <= rounds; ++round)); do
      if [[ $round -gt 1 && $program =~ ^(build_cost|parallel_step)$ ]]; then continue; fi
      echo "ours $program $round"
      echo "theirs $program $round"
    done
  done
}
has_twin() { [[ $torch == yes && (-f $root/bench/twins/$1.py || $1 == build_cost) ]]; }
mapfile -t runs < <(plan | while read -r whose program round; do
  if [[ $whose == ours ]] || has_twin "$program"; then echo "$whose $program $round"; fi
done)

of_gpu() { nvidia-smi --query-gpu="$1" --format=csv,noheader 2>/dev/null | sed -n 1p; }
processor=$(awk -F ': ' '/model name/ { print $2; exit }' /proc/cpuinfo)
machine="$processor, $(nproc) processors, $(date '+%F %H:%M')"
if [[ $gpu == yes ]]; then
  processor=$(of_gpu name || true)
  machine="${processor:=no GPU}, $machine"
fi

# What was measured with, one a line: cuDNN=9.13.0.
versions() {
  local driver program
  if [[ $gpu == yes ]]; then
    driver=$(of_gpu driver_version || true)
    if [[ -n $driver ]]; then echo "driver=$driver"; fi
    for program in "${chosen[@]}"; do "$build/bench/$program" --software 2>/dev/null && break; done
  fi
  if [[ $torch == no ]]; then return; fi
  python3 - 2>/dev/null <<'END' || true
import torch
print("PyTorch=" + torch.__version__)
if torch.version.cuda:
    print("PyTorch's CUDA=" + torch.version.cuda)
    print(f"PyTorch's cuDNN={torch.backends.cudnn.version()}")
    print("PyTorch's NCCL=" + ".".join(map(str, torch.cuda.nccl.version())))
END
}
mapfile -t software < <(versions)

name=$(date +%F-%H%M%S)-$(tr -cs 'A-Za-z0-9' '-' <<<"$processor" | sed 's/-*$//')
lines=${out:-$build/lines}
mkdir -p "$lines"
ours=$lines/$name-halftone.jsonl
theirs=$lines/$name-pytorch.jsonl
touch "$ours" "$theirs"
table=("$build/bench/table" --ours "$ours" --machine "$machine" "${software[@]/#/--software=}")
if [[ $torch == yes ]]; then table+=(--torch "$theirs"); fi
if [[ $write_json == yes ]]; then
  mkdir -p "$results"
  table+=(--json "$results/$name.json" --markdown "$results/$name.md")
fi
write_table() {
  "${table[@]}" || return 1
  if [[ $write_json == yes && -n $out ]]; then cp "$results/$name".{json,md} "$out"; fi
}

share=$(((seconds + ${#runs[@]} - 1) / ${#runs[@]}))

# command_of <whose> <program> <round>: sets `command`.
command_of() {
  local program=$2
  if [[ $program == build_cost ]]; then
    command=("$root/bench/build_cost.sh")
    if [[ $1 == theirs ]]; then command+=(--torch); fi
    return
  fi
  command=("$build/bench/$program")
  if [[ $1 == theirs ]]; then command=(python3 "$root/bench/twins/$program.py"); fi
  if [[ $gpu == no ]]; then return; fi
  command+=(--seconds "$share")
  if [[ $smoke == yes ]]; then command+=(--smoke); fi
  if [[ $1 == ours && $3 -gt 1 ]]; then command+=(--unchecked); fi
}

# note <file> <program> <why>: a line by which the table names what is missing.
note() { printf '\n{"name": "%s", "failed": "%s"}\n' "$2" "$3" >>"$1"; }

# On a GPU a program measures for its share, and prepares and checks its cases for not much longer. A CPU's programs end
# by themselves.
if [[ -z $limit && $gpu == yes ]]; then limit=$((share + 100)); fi
failed=0
for run in "${runs[@]}"; do
  read -r whose program round <<<"$run"
  lines_of_run=$ours title=$program
  if [[ $whose == theirs ]]; then lines_of_run=$theirs title="PyTorch's twin of $program"; fi
  left=$((budget - SECONDS))
  seconds_of_run=$left
  if [[ -n $limit && $limit -lt $left ]]; then seconds_of_run=$limit; fi
  if [[ $left -lt $((share + 5)) ]]; then
    say "$title, round $round: skipped, $left s are left"
    note "$lines_of_run" "$program" "round $round skipped: the time was used up"
    if [[ $whose == ours && $round -eq 1 ]]; then failed=1; fi
    continue
  fi
  say "$title, round $round"
  command_of "$whose" "$program" "$round"
  status=0
  timeout -k 5 "$seconds_of_run" "${command[@]}" >>"$lines_of_run" || status=$?
  case $status in
    0) ;;
    124 | 137) note "$lines_of_run" "$program" "round $round stopped after $seconds_of_run s" ;;
    *) note "$lines_of_run" "$program" "round $round ended with status $status" ;;
  esac
  if [[ $status -ne 0 ]]; then
    say "$title: status $status; going on"
    if [[ $whose == ours ]]; then failed=1; fi
  fi
  write_table >/dev/null || say "the table could not be written; the lines are in $lines"
done

write_table || fail "the table could not be written; the lines are in $lines"
say "each run's lines: $lines/$name-*.jsonl"
exit "$failed"
