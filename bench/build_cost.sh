#!/usr/bin/env bash
# What users pay before anything runs: seconds to compile the umbrella header and a small trainer, and the library's size.
# Prints the lines of a benchmark, or with --torch those of its twin.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build}
compiler=${CXX:-g++}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

emit() { echo "{\"name\": \"build/$1\", \"value\": $2, \"unit\": \"$3\", \"dtype\": \"none\", \"threads\": 1}"; }

seconds_of_cpu() { # prints the user and system time of a command
  local TIMEFORMAT='%U %S'
  { time "$@" >/dev/null 2>"$scratch/errors" || { cat "$scratch/errors" >&2; exit 1; }; } 2>&1 | awk '{ print $1 + $2 }'
}

median_compile() { # source, flags
  local source=$1
  shift
  for _ in 1 2 3; do seconds_of_cpu "$compiler" -std=c++20 -O2 -c "$source" -o "$scratch/out.o" "$@"; done | sort -n | sed -n 2p
}

megabytes() { awk '{ printf "%.2f", $1 / 1e6 }'; }

size_of_everything() { # of one program that has all of the library in it, used or not
  local others=(-lz -pthread)
  if grep -qs '^oneDNN_LIBRARY:.*=/' "$build/CMakeCache.txt"; then others+=(-ldnnl); fi
  echo 'int main() {}' >"$scratch/main.cpp"
  "$compiler" "$scratch/main.cpp" -o "$scratch/everything" -Wl,--whole-archive "$build"/libhalftone_*.a \
    -Wl,--no-whole-archive "${others[@]}"
  strip "$scratch/everything"
  stat -c %s "$scratch/everything"
}

if [[ ${1:-} == --torch ]]; then
  mapfile -t flags < <(python3 -c '
from torch.utils.cpp_extension import include_paths
print("-DBENCH_TORCH")
for path in include_paths(): print("-isystem" + path)')
  size=$(python3 -c 'import os, torch; print(os.path.getsize(os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")))')
else
  flags=("-I$root")
  size=$(size_of_everything)
fi

emit include_everything "$(median_compile "$root/bench/snippets/include_everything.cpp" "${flags[@]}")" s
emit trainer "$(median_compile "$root/bench/snippets/trainer.cpp" "${flags[@]}")" s
emit library_size "$(megabytes <<<"$size")" MB
