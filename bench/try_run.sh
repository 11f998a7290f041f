#!/usr/bin/env bash
# Tries run.sh on programs that fail in every way there is, since the real ones fail where nobody can look again: what was
# measured has to be in the results, and what was not has to be named there. try_run.sh <the program table>
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
table=$(readlink -f "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/bench"
ln -s "$table" "$scratch/bench/table"

# program <name> <value> <what it does then>
program() {
  cat >"$scratch/bench/$1" <<END
#!/usr/bin/env bash
if [[ \$1 == --software ]]; then echo cuDNN=9.1.2 && exit; fi
echo '{"name": "$1/first", "value": $2, "unit": "us", "dtype": "float32", "threads": 1}'
$3
END
  chmod +x "$scratch/bench/$1"
}
program gpu_train 101 "echo '{\"name\": \"gpu_train/second\", \"failed\": \"device lost\"}'; exit 3"
program gpu_products 102 "printf '{\"name\": \"gpu_products/half a li'; sleep 100"
program gpu_kernels 103 "kill -SEGV \$\$"
program gpu_dispatch 104 ''

run() { HT_BUILD_DIR=$scratch "$root/bench/run.sh" --gpu --no-torch --json --results "$scratch/results" --seconds 1 "$@"; }
expect() {
  local text
  for text in "${@:2}"; do
    grep -qF "$text" "$1" || { echo "there is no '$text' in $1:" && cat "$1" && exit 1; }
  done
}

status=0
run --rounds 1 --limit 2 --out "$scratch/out" >"$scratch/log" 2>&1 || status=$?
[[ $status -eq 1 ]] || { echo "the exit status is $status" && cat "$scratch/log" && exit 1; }
json=$(echo "$scratch"/results/*.json)
expect "$json" '"value": 101.0' '"value": 102.0' '"value": 103.0' '"value": 104.0' '"cuDNN": "9.1.2"' 'device lost' \
  'stopped after 2 s' 'ended with status'
cmp "$json" "$scratch/out/$(basename "$json")"
expect "$(echo "$scratch"/out/*.md)" 'gpu_train/second' 'device lost' 'gpu_dispatch/first'
expect "$(echo "$scratch"/out/*-halftone.jsonl)" 'half a li' 'gpu_dispatch/first'

# Who is killed leaves a table of what came before.
rm -r "$scratch/results"
timeout 5 env HT_BUILD_DIR="$scratch" "$root/bench/run.sh" --gpu --no-torch --json --results "$scratch/results" --rounds 1 \
  --seconds 1 >"$scratch/log" 2>&1 || true
expect "$(echo "$scratch"/results/*.json)" '"value": 101.0'

# A budget that is too small for anything leaves a table that says so.
rm -r "$scratch/results"
run --rounds 1 --budget 1 >"$scratch/log" 2>&1 && { echo "skipping everything is no success" && exit 1; }
expect "$(echo "$scratch"/results/*.md)" 'the time was used up'
echo "run.sh loses nothing"
