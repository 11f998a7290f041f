// Files in the IDX format of MNIST, gzipped or not.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace halftone::data {

/// The bytes of a file, unpacked if it is gzipped. Throws Error naming the file when it cannot be read or is damaged.
std::vector<std::uint8_t> read_bytes(const std::string& path);

/// The uint8 tensor in the bytes of an IDX file: labels [N] or images [N, H, W], as `dims` demands 1 or 3. `name` is
/// the file's, for errors.
Tensor parse_idx(std::span<const std::uint8_t> bytes, std::int64_t dims, const std::string& name);

}  // namespace halftone::data
