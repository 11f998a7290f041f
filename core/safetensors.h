// The safetensors format: eight bytes that hold the length of a JSON header, the header, and the tensors' bytes. The
// header maps a name to its dtype, shape and place, and "__metadata__" to strings. Small values of an archive are one
// of those strings: a JSON object under "halftone.values".
#pragma once

#include <functional>
#include <iosfwd>

#include "core/serialize.h"

namespace halftone::serialize::safetensors {

/// Takes all of the bytes, or throws.
using Sink = std::function<void(const void* data, std::size_t size)>;

void write(const Content& content, const Sink& sink);

/// Whether the archive must take all of the bytes there are.
enum class Extent { whole, prefix };

/// Reads an archive of at most `size` bytes. `origin` is the name that errors give it.
Content read(std::istream& in, std::uint64_t size, Extent extent, const std::string& origin);
Content read_file(const std::string& path);

}  // namespace halftone::serialize::safetensors
