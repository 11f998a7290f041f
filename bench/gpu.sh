#!/usr/bin/env bash
# Proves halftone on a machine with a GPU, without any network: builds for that GPU, runs all tests on it, sanitizes if
# asked, and measures beside PyTorch. `./ht gpu` comes here.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build-gpu}
kit=$root/gpu-kit/kit.tar.xz
tests=yes bench=yes sanitize=no dry_run=no out='' seconds=240 bench_options=()
# Enough for each family of kernels; the sanitizers run them some ten to fifty times slower.
memcheck_files=(test_ops test_rows test_lists test_pool test_indexing_kernels test_random test_convolution)
racecheck_files=(test_rows test_lists test_pool)

usage() {
  cat <<END
usage: ./ht gpu [--no-tests] [--no-bench] [--no-torch] [--sanitize] [--seconds N] [--out DIR]
       ./ht gpu --dry-run | --pack

  --no-tests   do not build and run the tests
  --no-bench   do not build and run the benchmarks
  --no-torch   do not run PyTorch's twins of the benchmarks
  --sanitize   run some test files under compute-sanitizer too
  --seconds N  how long the benchmarks measure, about ($seconds)
  --out DIR    copy the results and the logs there
  --dry-run    what needs no GPU: configure, and compile one kernel
  --pack       on a machine with the packages: collect them in gpu-kit/ for one without; travels with this folder

HT_BUILD_DIR names another build folder than build-gpu.
END
}

say() { echo "[gpu] $*" >&2; }
fail() {
  say "failed: $1"
  say "next:   $2"
  exit 1
}

failures=()
# step <what> <command...>: what fails is told at the end, and the rest goes on.
step() {
  local what=$1 start=$SECONDS
  shift
  say "$what"
  if "$@"; then say "$what: $((SECONDS - start)) s"; else failures+=("$what") && say "$what FAILED after $((SECONDS - start)) s"; fi
}

while [[ $# -gt 0 ]]; do
  case $1 in
    --no-tests) tests=no ;;
    --no-bench) bench=no ;;
    --no-torch) bench_options+=(--no-torch) ;;
    --sanitize) sanitize=yes ;;
    --dry-run) dry_run=yes ;;
    --pack) exec "$root/bench/gpu_kit.sh" "$kit" ;;
    --out) [[ -n ${2:-} ]] || fail "--out needs a folder" "see ./ht gpu --help"; out=$2 && shift ;;
    --seconds) [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "--seconds needs a whole number" "see ./ht gpu --help"; seconds=$2 && shift ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && fail "there is no option $1" "use one of those above" ;;
  esac
  shift
done
if [[ -n $out ]]; then mkdir -p "$out" && out=$(readlink -f "$out"); fi
mkdir -p "$build"
logs=${out:-$build}

# The architecture in CMake's words: 9.0 is 90-real.
architecture() {
  local capability
  if capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n1) && [[ $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
    echo "${capability/./}-real"
  elif [[ $dry_run == yes ]]; then
    echo 90-real
  else
    fail "nvidia-smi shows no GPU" "run this on a machine with an NVIDIA GPU and its driver; ./ht gpu --dry-run needs none"
  fi
}

find_nvcc() {
  command -v nvcc || { [[ -x /usr/local/cuda/bin/nvcc ]] && echo /usr/local/cuda/bin/nvcc; } ||
    fail "there is no nvcc on PATH, nor in /usr/local/cuda/bin" "install the CUDA toolkit, 12.8 or later"
}

# Exported and not passed to CMake: the test of an installed halftone configures a project of its own.
use_kit() {
  if [[ ! -f $kit ]]; then return; fi
  if [[ ! -d $build/kit/usr || $kit -nt $build/kit ]]; then
    rm -rf "$build/kit" && mkdir -p "$build/kit"
    tar -C "$build/kit" -xf "$kit" || fail "$kit does not unpack" "make it again: ./ht gpu --pack"
  fi
  export CMAKE_PREFIX_PATH=$build/kit/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
  say "packages come from $kit"
}

# Where the toolkit lacks a library, Python's packages of it will do: their files have no plain .so beside them.
use_library_of_python() {
  local name=$1 folder file
  if ldconfig -p 2>/dev/null | grep -q "lib$name\.so " || compgen -G "$toolkit/lib*/lib$name.so" >/dev/null ||
    compgen -G "$toolkit/targets/*/lib/lib$name.so" >/dev/null; then return; fi
  folder=$(python3 - "$name" <<'END' 2>/dev/null
import glob, site, sys
folders = [p for s in site.getsitepackages() + sys.path for p in glob.glob(f"{s}/nvidia/*/lib/lib{sys.argv[1]}.so*")]
print(folders[0].rpartition("/")[0])
END
  ) || return 0
  say "lib$name comes from $folder"
  mkdir -p "$build/python-libraries/lib"
  for file in "$folder"/*.so*; do
    ln -sf "$file" "$build/python-libraries/lib/"
    if [[ $file == *"/lib$name.so."* ]]; then ln -sf "$file" "$build/python-libraries/lib/lib$name.so"; fi
  done
  export CMAKE_PREFIX_PATH=$build/python-libraries${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
  folder=$(dirname "$folder")/include
  export CPLUS_INCLUDE_PATH=$folder${CPLUS_INCLUDE_PATH:+:$CPLUS_INCLUDE_PATH}
}

configure() {
  local generator=() on_off_tests=OFF on_off_bench=OFF
  command -v cmake >/dev/null || fail "there is no cmake" "install CMake 3.22 or later"
  if [[ ! -f $build/CMakeCache.txt ]] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  if [[ $tests == yes || $sanitize == yes ]]; then on_off_tests=ON; fi
  if [[ $bench == yes ]]; then on_off_bench=ON; fi
  say "configuring $build for $arch"
  cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release -DHALFTONE_CUDA=ON -DHALFTONE_NVCC="$nvcc" \
    -DCMAKE_CUDA_ARCHITECTURES="$arch" -DHALFTONE_TESTS="$on_off_tests" -DHALFTONE_BENCH="$on_off_bench" \
    -DHALFTONE_EXAMPLES="$on_off_tests" >"$logs/configure.log" 2>&1 || {
    cat "$logs/configure.log" >&2
    fail "CMake could not configure" "if packages are missing here, run ./ht gpu --pack where they are, and bring gpu-kit/ along"
  }
}

compile() {
  say "building, log in $logs/build.log"
  local start=$SECONDS
  cmake --build "$build" -j "$(nproc)" ${1:+--target "$@"} >"$logs/build.log" 2>&1 || {
    grep -m5 -A5 -E 'error|FAILED' "$logs/build.log" >&2 || tail -n 30 "$logs/build.log" >&2
    fail "the build stopped" "see $logs/build.log"
  }
  say "built in $((SECONDS - start)) s"
}

# The layers below, and one kernel.
compile_one_kernel() {
  compile halftone_core
  say "compiling kernels/cuda/copy.cu"
  if [[ -f $build/build.ninja ]]; then
    compile CMakeFiles/halftone_kernels.dir/kernels/cuda/copy.cu.o
  else
    make -C "$build" kernels/cuda/copy.cu.o >"$logs/build.log" 2>&1 || fail "it does not compile" "see $logs/build.log"
  fi
}

# A quarter of the processors: the tests of all files share one GPU, and its memory.
run_tests() {
  local jobs=$(($(nproc) / 4 + 1))
  ctest --test-dir "$build" -j "$jobs" --timeout 180 --output-on-failure >"$logs/tests.log" 2>&1 && { tail -n 4 "$logs/tests.log" && return; }
  sed -n '/tests passed/,$p' "$logs/tests.log"
  return 1
}

# sanitize_with <tool> <seconds> <test file...>
sanitize_with() {
  local tool=$1 limit=$2 status=0 file
  shift 2
  for file in "$@"; do
    HALFTONE_TEST_DEVICE=cuda timeout "$limit" compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$build/tests/halftone_tests" --filenames-as-tags "[#$file]~[cpu]" >"$logs/$tool-$file.log" 2>&1 && continue
    status=1
    grep -m3 -E '=========|FAILED' "$logs/$tool-$file.log" || true
    say "$tool: $file did not pass within $limit s, see $logs/$tool-$file.log"
  done
  return "$status"
}
sanitize_all() {
  command -v compute-sanitizer >/dev/null || { say "there is no compute-sanitizer on PATH" && return 1; }
  cd "$root"
  step "memcheck" sanitize_with memcheck 120 "${memcheck_files[@]}"
  step "racecheck" sanitize_with racecheck 120 "${racecheck_files[@]}"
}

run_bench() {
  HT_BUILD_DIR=$build "$root/bench/run.sh" --gpu --json --rounds 2 --seconds "$seconds" "${bench_options[@]}" 2>&1 |
    tee "$logs/bench.log"
}
copy_results() {
  find "$root/bench/results" -newer "$build/started" \( -name '*.json' -o -name '*.md' \) -exec cp {} "$out" \;
}

nvcc=$(find_nvcc)
toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
export PATH=$PATH:$toolkit/bin
arch=$(architecture)
touch "$build/started"
use_kit
use_library_of_python cudnn
use_library_of_python cublasLt
configure
if [[ $dry_run == yes ]]; then
  compile_one_kernel
  say "all that needs no GPU is well"
  exit
fi
compile
nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv | tee "$logs/gpu.txt" >&2
if [[ $tests == yes ]]; then step "tests" run_tests; fi
if [[ $sanitize == yes ]]; then step "compute-sanitizer" sanitize_all; fi
if [[ $bench == yes ]]; then step "benchmarks" run_bench; fi
if [[ -n $out ]]; then copy_results; fi

if [[ ${#failures[@]} -gt 0 ]]; then
  fail "$(printf '%s; ' "${failures[@]}")the rest is well" "see the logs in $logs"
fi
say "all is well, after $SECONDS s; logs in $logs"
