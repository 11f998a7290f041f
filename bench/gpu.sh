#!/usr/bin/env bash
# Proves halftone on a machine with a GPU, without any network: builds for that GPU, runs all tests on it, measures beside
# PyTorch, and sanitizes if asked. `./ht gpu` comes here. What fails does not stop the rest, and no part runs on when the
# time is up, so that the others keep what they found.
set -euo pipefail

root=$(dirname "$(dirname "$(readlink -f "$0")")")
build=${HT_BUILD_DIR:-$root/build-gpu}
kit=$root/gpu-kit/kit.tar.gz
tests=yes bench=yes sanitize=no mode=gpu out='' seconds=100 budget='' bench_options=() twin=''
read -ra cmake_args <<<"${HT_CMAKE_ARGS:-}"
# Enough for each family of kernels; the sanitizers run them some ten to fifty times slower.
memcheck_files=(test_ops test_rows test_lists test_pool test_indexing_kernels test_random test_convolution)
racecheck_files=(test_rows test_lists test_pool)

usage() {
  cat <<END
usage: ./ht gpu [--no-tests] [--no-bench] [--no-torch] [--sanitize] [--seconds N] [--budget N] [--out DIR]
       ./ht gpu --dry-run | --simulate | --pack

  --no-tests   do not build and run the tests
  --no-bench   do not build and run the benchmarks
  --no-torch   do not run PyTorch's twins of the benchmarks
  --sanitize   run some test files under compute-sanitizer too, in the time that is left
  --seconds N  how long the benchmarks measure, about ($seconds)
  --budget N   how many seconds all of this may take (570); what does not fit is left out, and told
  --out DIR    write the results and one log of everything there too, as they come
  --dry-run    what needs no GPU: configure, and compile one kernel
  --simulate   every step on a simulated GPU, with few tests and tiny benchmarks: shows that this script works
  --pack       on a machine with the packages: collect them in gpu-kit/ for one without

HT_BUILD_DIR names another build folder than build-gpu, HT_CMAKE_ARGS gives CMake more options.
END
}

everything=/dev/null
say() { echo "[gpu] $*" | tee -a "$everything" >&2; }
fail() {
  say "failed: $1"
  say "next:   $2"
  exit 1
}
left() { echo $((budget - SECONDS)); }
at_most() { echo $(($1 < $2 ? $1 : $2)); }

failures=()
# step <what> <command...>: what fails is told at the end, and the rest goes on.
step() {
  local what=$1 start=$SECONDS
  shift
  if [[ $(left) -lt 10 ]]; then
    failures+=("$what: no time left") && say "$what: left out, $(left) s are left"
    return
  fi
  say "$what, $(left) s are left"
  if "$@"; then say "$what: $((SECONDS - start)) s"; else failures+=("$what") && say "$what FAILED after $((SECONDS - start)) s"; fi
}

# logged <name> <command...>: its output goes to a log of its own and to the log of everything.
logged() {
  local log=$logs/$1.log
  shift
  "$@" 2>&1 | tee -a "$everything" >"$log"
}

number() { [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail "$1 needs a whole number" "see ./ht gpu --help"; }
while [[ $# -gt 0 ]]; do
  case $1 in
    --no-tests) tests=no ;;
    --no-bench) bench=no ;;
    --no-torch) bench_options+=(--no-torch) ;;
    --sanitize) sanitize=yes ;;
    --dry-run) mode=dry-run ;;
    --simulate) mode=simulate ;;
    --pack) exec "$root/bench/gpu_kit.sh" "$kit" ;;
    --out) [[ -n ${2:-} ]] || fail "--out needs a folder" "see ./ht gpu --help"; out=$2 && shift ;;
    --seconds) number "$@" && seconds=$2 && shift ;;
    --budget) number "$@" && budget=$2 && shift ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && fail "there is no option $1" "use one of those above" ;;
  esac
  shift
done
# Without a GPU nothing is lost by a slow build.
if [[ -z $budget ]]; then budget=$([[ $mode == gpu ]] && echo 570 || echo 3600); fi
logs=$build/logs
mkdir -p "$logs"
if [[ -n $out ]]; then
  mkdir -p "$out" && out=$(readlink -f "$out")
  everything=$out/gpu.log
fi

# The architecture in CMake's words: 9.0 is 90-real.
architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | sed -n 1p) || true
  if [[ $capability =~ ^[0-9]+\.[0-9]+$ ]]; then
    echo "${capability/./}-real"
  elif [[ $mode == dry-run ]]; then
    echo 90-real
  else
    fail "nvidia-smi shows no GPU" "run this on a machine with an NVIDIA GPU and its driver; --dry-run and --simulate need none"
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
    tar -C "$build/kit" -xzf "$kit" || fail "$kit does not unpack" "make it again: ./ht gpu --pack"
  fi
  export CMAKE_PREFIX_PATH=$build/kit/usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}
  say "packages come from $kit"
}

# The folder in which Python's packages of NVIDIA's libraries have lib<name>.
folder_of_python() {
  python3 - "$1" <<'END' 2>/dev/null
import glob, site, sys
found = [p for s in site.getsitepackages() + sys.path for p in glob.glob(f"{s}/nvidia/*/lib/lib{sys.argv[1]}.so*")]
print(found[0].rpartition("/")[0])
END
}
is_installed() {
  [[ $(ldconfig -p 2>/dev/null) == *"lib$1.so "* ]] || compgen -G "$toolkit/lib*/lib$1.so" >/dev/null ||
    compgen -G "$toolkit/targets/*/lib/lib$1.so" >/dev/null
}

# Where the toolkit lacks a library, Python's packages of it will do: their files have no plain .so beside them. cuDNN
# loads its parts, and nvrtc for some of its kernels, from the folder it lies in.
use_library_of_python() {
  local name=$1 here=$build/python-libraries folder file
  if is_installed "$name"; then return; fi
  folder=$(folder_of_python "$name") || return 0
  say "lib$name comes from $folder"
  mkdir -p "$here/lib" "$here/include"
  for file in "$folder"/*.so*; do
    ln -sf "$file" "$here/lib/"
    if [[ $file == *"/lib$name.so."* ]]; then ln -sf "$file" "$here/lib/lib$name.so"; fi
  done
  ln -sfn "$(dirname "$folder")"/include/* "$here/include/"
  if folder=$(folder_of_python nvrtc); then ln -sf "$folder"/libnvrtc*.so* "$here/lib/"; fi
  export CMAKE_PREFIX_PATH=$here${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH} \
    CPLUS_INCLUDE_PATH=$here/include${CPLUS_INCLUDE_PATH:+:$CPLUS_INCLUDE_PATH}
}

# configure [option...]
configure() {
  local generator=() on_off_tests=OFF on_off_bench=OFF on_off_examples
  command -v cmake >/dev/null || fail "there is no cmake" "install CMake 3.22 or later"
  if [[ ! -f $build/CMakeCache.txt ]] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  if [[ $tests == yes || $sanitize == yes ]]; then on_off_tests=ON; fi
  if [[ $bench == yes ]]; then on_off_bench=ON; fi
  on_off_examples=$on_off_tests
  if [[ $mode == simulate ]]; then on_off_examples=OFF; fi
  say "configuring $build"
  logged configure cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release "${device_options[@]}" \
    -DHALFTONE_TESTS="$on_off_tests" -DHALFTONE_EXAMPLES="$on_off_examples" -DHALFTONE_BENCH="$on_off_bench" \
    -DHALFTONE_TEST_FILES="test_*.cpp" -DHALFTONE_BENCH_FILES="gpu_*.cpp;table.cpp" "${cmake_args[@]}" "$@" || {
    cat "$logs/configure.log" >&2
    fail "CMake could not configure" "if packages are missing here: run ./ht gpu --pack on a machine that has them, and copy \
the folder gpu-kit/ that it makes to this place; git ignores that folder, so no clone brings it"
  }
}

# compile [target...]: goes on past what does not compile, until two thirds of the time are gone.
compile() {
  local keep_going=(-k 0) limit status=0
  if [[ ! -f $build/build.ninja ]]; then keep_going=(-k); fi
  limit=$(at_most "$(left)" $((budget * 2 / 3)))
  logged build timeout -k 5 "$limit" cmake --build "$build" -j "$(nproc)" ${1:+--target "$@"} -- "${keep_going[@]}" || status=$?
  if [[ $status -eq 0 ]]; then return; fi
  if [[ $status -eq 124 || $status -eq 137 ]]; then say "the build was stopped after $limit s" && return 1; fi
  grep -m5 -A5 -E 'error:|FAILED:|Error [0-9]' "$logs/build.log" >&2 || tail -n 30 "$logs/build.log" >&2
  say "the build is not whole, see $logs/build.log"
  return 1
}

# All tests are one program. When some of its files do not compile, it is built from the others.
build_all() {
  local files=() file broken
  compile && return
  broken=$(grep -E 'FAILED: |Error [0-9]' "$logs/build.log" | grep -oE 'halftone_tests\.dir/test_[a-z0-9_]+\.cpp' |
    sed 's:.*/::' | sort -u) || return 1
  say "the tests are built without $(xargs <<<"$broken")"
  cp "$logs/build.log" "$logs/first-build.log"
  for file in "$root"/tests/test_*.cpp; do
    if ! grep -qx "$(basename "$file")" <<<"$broken"; then files+=("$(basename "$file")"); fi
  done
  configure -DHALFTONE_TEST_FILES="$(IFS=';' && echo "${files[*]}")"
  compile || true
  return 1
}

# The layers below, and one kernel.
compile_one_kernel() {
  compile halftone_core || return 1
  say "compiling kernels/cuda/copy.cu"
  if [[ -f $build/build.ninja ]]; then
    compile CMakeFiles/halftone_kernels.dir/kernels/cuda/copy.cu.o
  else
    logged build make -C "$build" kernels/cuda/copy.cu.o
  fi
}

# tests_of <log> <seconds> <ctest's options...>. Half of the processors: all share one GPU, and its memory.
tests_of() {
  local name=$1 limit=$2
  shift 2
  logged "$name" timeout -k 5 "$limit" ctest --test-dir "$build" -j "$(($(nproc) / 2 + 1))" --output-on-failure "$@" && {
    tail -n 4 "$logs/$name.log" >&2
    return
  }
  sed -n '/tests passed/,$p' "$logs/$name.log" >&2
  say "$name did not pass within $limit s, see $logs/$name.log"
  return 1
}

# Half of the time that is left at most: the benchmarks need the other.
tests_on_gpu() {
  if [[ ! -x $build/tests/halftone_tests ]]; then say "there is no test program" && return 1; fi
  if [[ $mode == simulate ]]; then
    tests_of tests-on-gpu 60 --tests-regex '^(test_device|test_parallel)_cuda$'
    return
  fi
  tests_of tests-on-gpu "$(at_most 200 "$(($(left) / 2))")" --tests-regex 'cuda|gpu'
}
# Last, since they can run anywhere.
tests_on_cpu() {
  local limit
  limit=$(($(left) - 5))
  if [[ $sanitize == yes ]]; then limit=$((limit / 2)); fi
  tests_of tests-on-cpu "$limit" --exclude-regex 'cuda|gpu'
}

# sanitize_with <tool> <test file...>
sanitize_with() {
  local tool=$1 status=0 file limit
  shift
  for file in "$@"; do
    limit=$(at_most 120 "$(($(left) - 5))")
    if [[ $limit -lt 10 ]]; then say "$tool: no time for $file" && status=1 && continue; fi
    HALFTONE_TEST_DEVICE=cuda logged "$tool-$file" timeout -k 5 "$limit" compute-sanitizer --tool "$tool" \
      --error-exitcode 9 "$build/tests/halftone_tests" --filenames-as-tags "[#$file]~[cpu]" && continue
    status=1
    grep -m3 -E '=========|FAILED' "$logs/$tool-$file.log" >&2 || true
    say "$tool: $file did not pass within $limit s, see $logs/$tool-$file.log"
  done
  return "$status"
}
sanitize_all() {
  command -v compute-sanitizer >/dev/null || { say "there is no compute-sanitizer on PATH" && return 1; }
  cd "$root"
  step "memcheck" sanitize_with memcheck "${memcheck_files[@]}"
  step "racecheck" sanitize_with racecheck "${racecheck_files[@]}"
}

# The twin of gpu_dispatch is compiled while the tests run: its minute would come out of the measurements.
prepare_twin() {
  if [[ " ${bench_options[*]} " == *" --no-torch "* || $mode != gpu ]]; then return; fi
  nice timeout "$(at_most 150 "$(left)")" python3 "$root/bench/twins/gpu_dispatch.py" --prepare >"$logs/twin.log" 2>&1 &
  twin=$!
}

run_bench() {
  local reserve=5
  if [[ $tests == yes ]]; then reserve=30; fi
  if [[ -n $twin ]]; then wait "$twin" || say "PyTorch's twin of gpu_dispatch was not compiled beforehand, see $logs/twin.log"; fi
  if [[ -n $out ]]; then bench_options+=(--out "$out"); fi
  HT_BUILD_DIR=$build "$root/bench/run.sh" --gpu --json --seconds "$seconds" --budget "$(($(left) - reserve))" \
    "${bench_options[@]}" 2>&1 | tee -a "$everything" "$logs/bench.log"
}

device_options=(-DHALFTONE_CUDA=SIM)
if [[ $mode == simulate ]]; then
  export HALFTONE_TEST_DEVICE=cuda:1
  bench_options+=(--smoke --results "$build/results" gpu_products gpu_kernels gpu_dispatch)
else
  nvcc=$(find_nvcc)
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  export PATH=$PATH:$toolkit/bin
  arch=$(architecture)
  device_options=(-DHALFTONE_CUDA=ON -DHALFTONE_NVCC="$nvcc" -DCMAKE_CUDA_ARCHITECTURES="$arch")
  use_kit
  use_library_of_python cudnn
  use_library_of_python cublasLt
  use_library_of_python nccl
fi
configure
if [[ $mode == dry-run ]]; then
  compile_one_kernel || fail "it does not compile" "see $logs/build.log"
  say "all that needs no GPU is well"
  exit
fi
step "build" build_all
if [[ $mode == gpu ]]; then
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv | tee -a "$everything" >&2 || true
fi
if [[ $bench == yes ]]; then prepare_twin; fi
if [[ $tests == yes ]]; then step "tests on the GPU" tests_on_gpu; fi
if [[ $bench == yes ]]; then step "benchmarks" run_bench; fi
if [[ $tests == yes && $mode == gpu ]]; then step "tests on the CPU" tests_on_cpu; fi
if [[ $sanitize == yes ]]; then step "compute-sanitizer" sanitize_all; fi

if [[ ${#failures[@]} -gt 0 ]]; then
  fail "$(printf '%s; ' "${failures[@]}")the rest is well" "see the logs in $logs"
fi
say "all is well, after $SECONDS s; logs in $logs"
