#!/usr/bin/env bash
# Compiles the CUDA kernels for one architecture and writes what each of them takes of a multiprocessor: registers, what
# did not fit into them (spills), stack and shared memory. Fails when a kernel that must be fast spills.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
arch=90
out=
# Kernels whose name begins so run at the speed of memory, which a spill is part of. Pointwise kernels for operands of
# mixed dtypes (Memory) are not among them, nor long rows of double: they may spill a register.
hot='dense_elements<[a-z]+, TypedMemory|strided_elements|transpose|compute_rows<TeamShape<float|layer_norm_grads|fold_|channel_|scan_|drop_|'
hot+='max_of_windows|take_maxima|gather_|average|divide_list|unscale_list|update_list'

usage() {
  cat <<END
usage: bench/registers.sh [--arch N] [--out FILE] [file.cu ...]

  --arch N     compute capability without its dot (90)
  --out FILE   where the table goes (bench/results/registers-sm<N>.md)
  file.cu      what to compile (kernels/cuda/*.cu)
END
}

files=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --arch) arch=${2:?--arch needs a number} && shift ;;
    --out) out=${2:?--out needs a file} && shift ;;
    -h | --help) usage && exit ;;
    -*) echo "registers: there is no option $1; see --help" >&2 && exit 2 ;;
    *) files+=("$(readlink -f "$1")") ;;
  esac
  shift
done
cd "$root"
out=${out:-bench/results/registers-sm$arch.md}
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[[ -x $nvcc ]] || { echo "registers: there is no nvcc on PATH, nor in /usr/local/cuda/bin" >&2 && exit 2; }
[[ ${#files[@]} -gt 0 ]] || mapfile -t files < <(printf '%s\n' "$root"/kernels/cuda/*.cu)

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# ptxas tells of each kernel in three lines: its name, its stack and spills, its registers and memories.
compile() {
  local log
  log=$scratch/$(basename "$1" .cu).log
  "$nvcc" -std=c++20 -arch="sm_$arch" --expt-relaxed-constexpr -O3 -DNDEBUG -I"$root" -cubin -Xptxas -v \
    -o "${log%.log}.cubin" "$1" 2>"$log" || { cat "$log" >&2 && return 1; }
}
export -f compile
export nvcc arch root scratch
# shellcheck disable=SC2016  # $1 is for the inner shell
printf '%s\0' "${files[@]}" | xargs -0 -n1 -P "$(nproc)" bash -c 'compile "$1"' compile ||
  { echo "registers: a file does not compile" >&2 && exit 1; }

# One line a kernel: file, registers, spill stores and loads, stack, shared memory, constants, mangled name; by tabs.
read_log() {
  awk -v file="$(basename "$1" .log).cu" '
    function before(word) { return match($0, "[0-9]+ bytes " word) ? substr($0, RSTART) + 0 : 0 }
    /Function properties for/ { name = $NF; gsub(/\047/, "", name) }
    /bytes stack frame/ { stack = before("stack"); stores = before("spill stores"); loads = before("spill loads") }
    /Compiling entry function/ { entry = $0; sub(/^[^\047]*\047/, "", entry); sub(/\047.*/, "", entry) }
    /Used [0-9]+ registers/ {
      match($0, /Used [0-9]+/)
      print file "\t" substr($0, RSTART + 5, RLENGTH - 5) "\t" stores "\t" loads "\t" stack "\t" before("smem") "\t" \
        (entry != "" ? entry : name)
      entry = name = ""
    }' "$1"
}
for log in "$scratch"/*.log; do read_log "$log"; done |
  c++filt -p |
  sed -E 's/halftone::(cuda::|fn::)?//g; s/\(anonymous namespace\)(::)?//g; s/^([^\t]*\t)(.*\t)void /\1\2/; s/std::integral_constant/constant/g' |
  sort -t $'\t' -k1,1 -k3,3nr -k2,2nr -k7,7 >"$scratch/kernels.tsv"
[[ -s $scratch/kernels.tsv ]] || { echo "registers: ptxas told of no kernel" >&2 && exit 1; }

mkdir -p "$(dirname "$out")"
{
  echo "# Kernels for sm_$arch"
  echo
  echo "By $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/CUDA \1/p'); made by \`bench/registers.sh\`. Spills are bytes stored and loaded a thread."
  echo
  echo "| file | kernels | most registers | kernels that spill |"
  echo "|---|--:|--:|--:|"
  awk -F '\t' '{ n[$1]++; if ($2 > most[$1]) most[$1] = $2 + 0; spill[$1] += $3 + $4 > 0 }
    END { for (f in n) print "| " f " | " n[f] " | " most[f] " | " spill[f] " |" }' "$scratch/kernels.tsv" | sort
  awk -F '\t' '
    $1 != file { file = $1; print "\n## " file "\n\n| kernel | registers | spills | stack | shared |\n|---|--:|--:|--:|--:|" }
    {
      name = length($7) > 110 ? substr($7, 1, 107) "..." : $7
      print "| `" name "` | " $2 " | " ($3 + $4 ? $3 " + " $4 : "") " | " ($5 ? $5 : "") " | " ($6 ? $6 : "") " |"
    }' "$scratch/kernels.tsv"
} >"$out"
sed -n '/^| file/,/^$/p' "$out"
echo "written: $out"

if awk -F '\t' -v hot="^($hot)" '$7 ~ hot && $3 + $4 > 0 { print "registers: spills: " $1 ": " $7; found = 1 } END { exit !found }' \
  "$scratch/kernels.tsv" >&2; then
  exit 1
fi
