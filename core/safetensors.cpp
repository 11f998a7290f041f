#include "core/safetensors.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

namespace halftone::serialize::safetensors {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian, and copied as they are");

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kLargestHeader = 100'000'000;  // the limit of the format's own implementation
constexpr const char* kMetadataKey = "__metadata__";
constexpr const char* kValuesKey = "halftone.values";

struct DtypeName {
  Dtype dtype;
  std::string_view name;
};
constexpr DtypeName kDtypeNames[] = {{kBool, "BOOL"},   {kUInt8, "U8"},   {kInt8, "I8"},     {kInt16, "I16"},
                                     {kInt32, "I32"},   {kInt64, "I64"},  {kFloat16, "F16"}, {kBFloat16, "BF16"},
                                     {kFloat32, "F32"}, {kFloat64, "F64"}};

std::string_view dtype_name(Dtype dtype) {
  return std::find_if(std::begin(kDtypeNames), std::end(kDtypeNames), [&](auto& row) { return row.dtype == dtype; })
      ->name;
}

// ------------------------------------------------------------------------------------------------ values
// JSON has no infinity and no NaN, so these become strings in an object of their own.

Json to_json(const Value& value) {
  if (const auto* real = std::get_if<double>(&value); real && !std::isfinite(*real)) {
    return Json{{"float", std::isnan(*real) ? "nan" : *real > 0 ? "inf" : "-inf"}};
  }
  return std::visit([](const auto& v) { return Json(v); }, value);
}

/// The text of {"float": text}, or nothing.
std::string special_float(const Json& json) {
  const auto at = json.is_object() ? json.find("float") : json.end();
  return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
}

Value to_value(const std::string& key, const Json& json) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_number_unsigned() && json.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max()) {
    fail("the value '", key, "' = ", json.dump(), " does not fit 64 bits");
  }
  if (json.is_number_integer()) return json.get<std::int64_t>();
  if (json.is_number_float()) return json.get<double>();
  if (json.is_string()) return json.get<std::string>();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::string text = special_float(json);
  if (text == "inf") return kInfinity;
  if (text == "-inf") return -kInfinity;
  if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
  fail("the value '", key, "' is of no known type: ", json.dump());
}

// ------------------------------------------------------------------------------------------------ writing

/// Wide elements first, so that every tensor is aligned for those who map the file into memory.
std::vector<const OrderedDict<std::string, Tensor>::Item*> in_file_order(const Content& content) {
  std::vector<const OrderedDict<std::string, Tensor>::Item*> order;
  for (const auto& item : content.tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->value().element_size() > b->value().element_size(); });
  return order;
}

Json metadata_json(const Content& content) {
  Json metadata = Json::object();
  for (const auto& [key, text] : content.metadata) {
    check<ValueError>(key != kValuesKey, "save: the metadata key '", kValuesKey, "' is reserved");
    metadata[key] = text;
  }
  if (!content.values.is_empty()) {
    Json values = Json::object();
    for (const auto& item : content.values) values[item.key()] = to_json(item.value());
    metadata[kValuesKey] = values.dump();
  }
  return metadata;
}

std::string header_text(const Content& content) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (const Json metadata = metadata_json(content); !metadata.empty()) header[kMetadataKey] = metadata;
  std::string text = header.dump();
  text.pop_back();  // the tensors follow one by one: ordered_json looks through all keys to insert one
  std::uint64_t at = 0;
  for (const auto* item : in_file_order(content)) {
    const Tensor& t = item->value();
    const Json entry{
        {"dtype", dtype_name(t.dtype())}, {"shape", t.sizes().vec()}, {"data_offsets", {at, at + t.nbytes()}}};
    text += (text.size() > 1 ? "," : "") + Json(item->key()).dump() + ":" + entry.dump();
    at += t.nbytes();
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

std::string checked_header_text(const Content& content) {
  try {
    return header_text(content);
  } catch (const Json::exception& e) {  // of dump()
    fail<ValueError>("save: a key or a string is not UTF-8: ", e.what());
  }
}

// ------------------------------------------------------------------------------------------------ reading

struct Entry {
  std::string key;
  Dtype dtype;
  Dims sizes;
  std::uint64_t begin;
  std::uint64_t end;
};

/// JSON lets a key come twice, and parsers keep one of the two; here both are suspect.
Json parse_without_duplicates(const std::string& text) {
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int, Json::parse_event_t event, Json& parsed) {
    if (event == Json::parse_event_t::object_start) open.emplace_back();
    if (event == Json::parse_event_t::object_end) open.pop_back();
    if (event == Json::parse_event_t::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      check(open.back().insert(key).second, "its header has the key '", key, "' twice");
    }
    return true;
  };
  try {
    return Json::parse(text, watch);
  } catch (const Json::exception& e) {
    fail("its header is not JSON: ", e.what());
  }
}

Dtype parse_dtype(const std::string& key, const Json& entry) {
  const auto at = entry.find("dtype");
  check(at != entry.end() && at->is_string(), "the tensor '", key, "' has no dtype");
  for (const DtypeName& row : kDtypeNames) {
    if (*at == row.name) return row.dtype;
  }
  fail("the tensor '", key, "' has the dtype ", at->dump(), ", which halftone does not know");
}

std::uint64_t natural(const Json& number, const std::string& key, const char* what) {
  check(number.is_number_unsigned(), "the tensor '", key, "' has a ", what, " that is no list of natural numbers");
  return number.get<std::uint64_t>();
}

Dims parse_sizes(const std::string& key, const Json& entry) {
  const auto at = entry.find("shape");
  check(at != entry.end() && at->is_array(), "the tensor '", key, "' has no shape");
  check(at->size() <= kMaxDims, "the tensor '", key, "' has ", at->size(), " dimensions; at most ", kMaxDims,
        " are possible");
  Dims sizes;
  for (const Json& size : *at) {
    const std::uint64_t value = natural(size, key, "shape");
    check(value <= std::uint64_t{1} << 62, "the tensor '", key, "' has the size ", value);
    sizes.push_back(static_cast<std::int64_t>(value));
  }
  return sizes;
}

/// Nothing when it does not fit 64 bits.
std::optional<std::uint64_t> bytes_of(const Dims& sizes, Dtype dtype) {
  auto bytes = static_cast<std::uint64_t>(element_size(dtype));
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  for (const std::int64_t size : sizes) {
    if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
}

Entry parse_entry(const std::string& key, const Json& json) {
  check(json.is_object(), "its header says of the tensor '", key, "' no dtype, shape and data_offsets");
  const auto offsets = json.find("data_offsets");
  check(offsets != json.end() && offsets->is_array() && offsets->size() == 2, "the tensor '", key,
        "' has no data_offsets [begin, end]");
  Entry entry{key, parse_dtype(key, json), parse_sizes(key, json), natural((*offsets)[0], key, "data_offsets"),
              natural((*offsets)[1], key, "data_offsets")};
  check(entry.begin <= entry.end, "the tensor '", key, "' ends at byte ", entry.end, ", before it begins at ",
        entry.begin);
  const auto bytes = bytes_of(entry.sizes, entry.dtype);
  check(bytes == entry.end - entry.begin, "the tensor '", key, "' of shape ", entry.sizes, " and dtype ", entry.dtype,
        " does not take the ", entry.end - entry.begin, " bytes it is given");
  return entry;
}

/// Tensors must lie one behind the other, without gaps.
void check_places(const std::vector<Entry>& entries, std::uint64_t data_size, Extent extent) {
  std::uint64_t at = 0;
  const Entry* before = nullptr;
  for (const Entry& entry : entries) {
    check(entry.begin >= at, "the tensors '", before ? before->key : "", "' and '", entry.key, "' overlap");
    check(entry.begin == at, "bytes ", at, " to ", entry.begin, ", before the tensor '", entry.key,
          "', belong to no tensor");
    at = entry.end;
    before = &entry;
  }
  check(at <= data_size, "it is cut off: its tensors take ", at, " bytes, but ", data_size, " are there");
  check(at == data_size || extent == Extent::prefix, data_size - at, " bytes follow after its last tensor");
}

std::vector<Entry> parse_entries(const Json& header) {
  std::vector<Entry> entries;
  for (const auto& [key, value] : header.items()) {
    if (key != kMetadataKey) entries.push_back(parse_entry(key, value));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  return entries;
}

void parse_metadata(const Json& header, Content& content) {
  const auto metadata = header.find(kMetadataKey);
  if (metadata == header.end()) return;
  check(metadata->is_object(), "its ", kMetadataKey, " is not an object");
  for (const auto& [key, text] : metadata->items()) {
    check(text.is_string(), "the metadata '", key, "' is not a string");
    if (key != kValuesKey) content.metadata[key] = text.get<std::string>();
  }
  const auto values = metadata->find(kValuesKey);
  if (values == metadata->end()) return;
  const Json json = parse_without_duplicates(values->get<std::string>());
  check(json.is_object(), "its ", kValuesKey, " are not an object");
  for (const auto& [key, value] : json.items()) content.values.insert(key, to_value(key, value));
}

void read_bytes(std::istream& in, void* data, std::uint64_t size) {
  in.read(static_cast<char*>(data), static_cast<std::streamsize>(size));
  check(!in.fail(), "it could not be read to its end");
}

Tensor read_tensor(std::istream& in, const Entry& entry) {
  Tensor t = empty(entry.sizes, TensorOptions(entry.dtype).device(kCPU));
  read_bytes(in, t.data_ptr(), t.nbytes());
  if (entry.dtype == kBool) {
    const auto* bytes = static_cast<const unsigned char*>(t.data_ptr());
    check(std::all_of(bytes, bytes + t.nbytes(), [](unsigned char b) { return b <= 1; }), "the bool tensor '",
          entry.key, "' has an element that is neither 0 nor 1");
  }
  return t;
}

std::string read_header(std::istream& in, std::uint64_t size) {
  check(size >= 8, "it has ", size, " bytes, too few for a safetensors file");
  std::uint64_t length = 0;
  read_bytes(in, &length, sizeof length);
  check(length <= kLargestHeader && length <= size - 8, "its header is said to take ", length, " bytes, but ", size - 8,
        " follow: it is cut off, or no safetensors file");
  std::string text(length, '\0');
  read_bytes(in, text.data(), length);
  return text;
}

Content read_checked(std::istream& in, std::uint64_t size, Extent extent) {
  const std::string text = read_header(in, size);
  const Json header = parse_without_duplicates(text);
  check(header.is_object(), "its header is not a JSON object");
  Content content;
  parse_metadata(header, content);
  const std::vector<Entry> entries = parse_entries(header);
  check_places(entries, size - 8 - text.size(), extent);
  for (const Entry& entry : entries) content.tensors.insert(entry.key, read_tensor(in, entry));
  return content;
}

}  // namespace

void write(const Content& content, const Sink& sink) {
  const std::string header = checked_header_text(content);
  const std::uint64_t length = header.size();
  sink(&length, sizeof length);
  sink(header.data(), header.size());
  for (const auto* item : in_file_order(content)) {
    const Tensor t = item->value().cpu().contiguous();
    if (t.nbytes() > 0) sink(t.data_ptr(), t.nbytes());
  }
}

Content read(std::istream& in, std::uint64_t size, Extent extent, const std::string& origin) {
  try {
    Content content = read_checked(in, size, extent);
    content.origin = origin;
    return content;
  } catch (const Error& e) {
    fail("load: ", origin, " cannot be read: ", e.what());
  }
}

Content read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const auto size = in.good() ? static_cast<std::int64_t>(in.tellg()) : -1;
  check(size >= 0 && size < std::numeric_limits<std::int64_t>::max(), "load: cannot open \"", path,
        "\": ", errno ? std::strerror(errno) : "it is not a file");
  in.seekg(0);
  return read(in, static_cast<std::uint64_t>(size), Extent::whole, '"' + path + '"');
}

}  // namespace halftone::serialize::safetensors
