#!/usr/bin/env bash
# Packs what the build takes from Debian's packages into one archive, for a machine that has a compiler and CUDA but not
# these, and no network: gpu_kit.sh <archive>. Headers, CMake files and shared libraries, as the packages lay them out.
# Packed by gzip, which every machine has.
set -euo pipefail

archive=$1
packages=(libeigen3-dev zlib1g-dev libfmt-dev libfmt9 libcli11-dev nlohmann-json3-dev catch2 libbenchmark-dev libbenchmark1debian)
most=$((40 << 20))

fail() {
  echo "[gpu] failed: $1" >&2
  exit 1
}

command -v dpkg >/dev/null || fail "there is no dpkg here: pack on Debian or Ubuntu, with the packages installed"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Documents stay behind. Of zlib the archive libz.a alone goes along: its libz.so points out of the kit.
for package in "${packages[@]}"; do
  dpkg -L "$package" >"$scratch/files" 2>/dev/null || fail "$package is not installed: run ./ht packages, then pack again"
  grep -E '^/usr/(include|lib|share/(eigen3|cmake|nlohmann_json|Catch2|pkgconfig))/' "$scratch/files" |
    grep -v '/libz\.so$' |
    while read -r file; do if [[ ! -d $file || -L $file ]]; then echo "${file#/}"; fi; done >>"$scratch/list"
done
mkdir -p "$(dirname "$archive")"
sort -u "$scratch/list" | tar -C / --owner=0 --group=0 -T - -cf "$scratch/kit.tar"
gzip -9n <"$scratch/kit.tar" >"$archive.partial"
[[ $(stat -c %s "$archive.partial") -lt $most ]] || fail "the archive is larger than 40 MiB"
mv "$archive.partial" "$archive"
echo "[gpu] $archive: $(wc -l <"$scratch/list") files, $(($(stat -c %s "$archive") >> 10)) KiB" >&2
