#include "core/serialize.h"

#include <algorithm>
#include <istream>
#include <ostream>
#include <streambuf>

#include "core/atomic_file.h"
#include "core/safetensors.h"

namespace halftone::serialize {

namespace {

std::string_view type_name(const Value& value) {
  constexpr std::string_view kNames[] = {"a bool", "an integer", "a floating number", "a string"};
  return kNames[value.index()];
}

void check_key(const std::string& key) {
  check<ValueError>(!key.empty(), "an archive's key must not be empty");
  check<ValueError>(key != "__metadata__", "an archive's key must not be '__metadata__'");
}

/// "a, b, c, ..."
std::string first_few(const std::vector<std::string>& keys) {
  std::string list;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (i == 8) return list + ", ...";
    list += (i ? ", " : "") + keys[i];
  }
  return list.empty() ? "none" : list;
}

/// A block of the caller's memory as a stream.
class MemoryBuffer : public std::streambuf {
 public:
  MemoryBuffer(const char* data, std::size_t size) {
    char* begin = const_cast<char*>(data);  // streambuf has one type of pointer; nothing here writes
    setg(begin, begin, begin + size);
  }
};

/// How many bytes follow where the stream stands.
std::uint64_t bytes_left(std::istream& in) {
  const auto here = in.tellg();
  in.seekg(0, std::ios::end);
  const auto end = in.tellg();
  in.seekg(here);
  check(in.good() && here >= 0 && end >= here, "load: the stream is in a failed state, or cannot tell its length");
  return static_cast<std::uint64_t>(end - here);
}

}  // namespace

void OutputArchive::write(const std::string& key, const Tensor& tensor, bool) {
  check_key(key);
  check<ValueError>(tensor.defined(), "an archive cannot hold the undefined tensor '", key, "'");
  content_.tensors.insert(key, tensor.detach());
}

void OutputArchive::write(const std::string& key, const OutputArchive& nested) {
  check_key(key);
  const std::string prefix = key + '.';
  for (const auto& item : nested.content_.tensors) content_.tensors.insert(prefix + item.key(), item.value());
  for (const auto& item : nested.content_.values) content_.values.insert(prefix + item.key(), item.value());
  content_.metadata.insert(nested.content_.metadata.begin(), nested.content_.metadata.end());
}

void OutputArchive::write_value(const std::string& key, Value value) {
  check_key(key);
  content_.values.insert(key, std::move(value));
}

void OutputArchive::save_to(const std::string& path) const {
  AtomicFile file(path);
  safetensors::write(content_, [&](const void* data, std::size_t size) { file.write(data, size); });
  file.commit();
}

void OutputArchive::save_to(std::ostream& out) const {
  safetensors::write(content_, [&](const void* data, std::size_t size) {
    out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size));
    check(out.good(), "save: writing ", size, " bytes to the stream failed");
  });
  out.flush();
  check(out.good(), "save: flushing the stream failed");
}

void OutputArchive::save_to(const Writer& writer) const {
  safetensors::write(content_, [&](const void* data, std::size_t size) {
    const std::size_t taken = writer(data, size);
    check(taken == size, "save: the writer took ", taken, " of ", size, " bytes");
  });
}

InputArchive::InputArchive() : content_(std::make_shared<Content>()) {}

void InputArchive::adopt(Content content, optional<Device> device) {
  if (device) {
    for (auto& item : content.tensors) item.value() = item.value().to(TensorOptions(*device));
  }
  content_ = std::make_shared<const Content>(std::move(content));
  prefix_.clear();
}

void InputArchive::load_from(const std::string& path, optional<Device> device) {
  adopt(safetensors::read_file(path), device);
}

void InputArchive::load_from(std::istream& in, optional<Device> device) {
  const std::uint64_t size = bytes_left(in);
  adopt(safetensors::read(in, size, safetensors::Extent::prefix, "the stream"), device);
}

void InputArchive::load_from(const char* data, std::size_t size, optional<Device> device) {
  MemoryBuffer buffer(data, size);
  std::istream in(&buffer);
  adopt(safetensors::read(in, size, safetensors::Extent::whole, "the buffer"), device);
}

void InputArchive::load_from(const Reader& reader, const std::function<std::size_t()>& size, optional<Device> device) {
  std::string bytes(size(), '\0');
  const std::size_t count = reader(0, bytes.data(), bytes.size());
  check(count == bytes.size(), "load: the reader gave ", count, " of ", bytes.size(), " bytes");
  load_from(bytes.data(), bytes.size(), device);
}

void InputArchive::read(const std::string& key, Tensor& tensor, bool) {
  const Tensor* found = content_->tensors.find(full(key));
  check(found != nullptr, "No such serialized tensor '", full(key), "' in ", content_->origin,
        "; there are: ", first_few(content_->tensors.keys()));
  if (!tensor.defined()) {
    tensor = *found;
    return;
  }
  check<ValueError>(tensor.sizes() == found->sizes(), "size mismatch for '", full(key), "': ", content_->origin,
                    " has ", found->sizes(), ", but ", tensor.sizes(), " is wanted");
  const Tensor live = tensor.detach();  // a write past autograd: a loaded leaf stays a leaf
  if (undo_) undo_->emplace_back(live, live.clone());
  live.copy_(*found);
}

void InputArchive::read(const std::string& key, InputArchive& nested) {
  InputArchive part = this->nested(key);
  check(!part.keys().empty(), "No such serialized submodule: '", full(key), "' in ", content_->origin,
        "; there are: ", first_few(keys()));
  nested = std::move(part);
}

bool InputArchive::try_read(const std::string& key, Tensor& tensor, bool is_buffer) {
  if (!content_->tensors.contains(full(key))) return false;
  read(key, tensor, is_buffer);
  return true;
}

template <class Kept> Value InputArchive::value_as(const std::string& key) const {
  const Value* value = content_->values.find(full(key));
  check(value != nullptr, "No such serialized value '", full(key), "' in ", content_->origin,
        "; there are: ", first_few(content_->values.keys()));
  if (const auto* integer = std::get_if<std::int64_t>(value); integer && std::is_same_v<Kept, double>) {
    return static_cast<double>(*integer);
  }
  check<TypeError>(std::holds_alternative<Kept>(*value), "the value '", full(key), "' in ", content_->origin, " is ",
                   type_name(*value), ", not ", type_name(Kept{}));
  return *value;
}
template Value InputArchive::value_as<bool>(const std::string&) const;
template Value InputArchive::value_as<std::int64_t>(const std::string&) const;
template Value InputArchive::value_as<double>(const std::string&) const;
template Value InputArchive::value_as<std::string>(const std::string&) const;

bool InputArchive::contains(const std::string& key) const {
  const auto names = keys();
  if (std::find(names.begin(), names.end(), key) != names.end()) return true;
  return content_->tensors.contains(full(key)) || content_->values.contains(full(key)) || !nested(key).keys().empty();
}

std::vector<std::string> InputArchive::keys() const {
  OrderedDict<std::string, bool> names;
  const auto add = [&](const std::string& key) {
    if (!key.starts_with(prefix_)) return;
    std::string name = key.substr(prefix_.size(), key.find('.', prefix_.size()) - prefix_.size());
    if (!names.contains(name)) names.insert(std::move(name), true);
  };
  for (const auto& item : content_->tensors) add(item.key());
  for (const auto& item : content_->values) add(item.key());
  return names.keys();
}

template <class Items> std::vector<std::string> InputArchive::keys_below(const Items& items) const {
  std::vector<std::string> all;
  for (const auto& item : items) {
    if (item.key().starts_with(prefix_)) all.push_back(item.key().substr(prefix_.size()));
  }
  return all;
}

std::vector<std::string> InputArchive::tensor_keys() const { return keys_below(content_->tensors); }
std::vector<std::string> InputArchive::value_keys() const { return keys_below(content_->values); }

InputArchive InputArchive::nested(const std::string& key) const {
  InputArchive part = *this;
  part.prefix_ = full(key) + '.';
  return part;
}

void InputArchive::put_back() {
  for (auto entry = undo_->rbegin(); entry != undo_->rend(); ++entry) entry->first.copy_(entry->second);
  undo_.reset();
}

OutputArchive& operator<<(OutputArchive& archive, const Tensor& tensor) {
  archive.write("0", tensor);
  return archive;
}

OutputArchive& operator<<(OutputArchive& archive, const std::vector<Tensor>& tensors) {
  for (std::size_t i = 0; i < tensors.size(); ++i) archive.write(std::to_string(i), tensors[i]);
  return archive;
}

OutputArchive& operator<<(OutputArchive& archive, const OrderedDict<std::string, Tensor>& tensors) {
  for (const auto& item : tensors) archive.write(item.key(), item.value());
  return archive;
}

OutputArchive& operator<<(OutputArchive& archive, const StateDict& state) {
  for (const auto& [key, tensor] : state.tensors) archive.write(key, tensor);
  for (const auto& [key, text] : state.values) archive.write(key, text);
  return archive;
}

InputArchive& operator>>(InputArchive& archive, Tensor& tensor) {
  Tensor loaded;
  archive.read("0", loaded);
  tensor = loaded;
  return archive;
}

InputArchive& operator>>(InputArchive& archive, std::vector<Tensor>& tensors) {
  const std::size_t count = archive.tensor_keys().size();
  std::vector<Tensor> loaded(count);
  for (std::size_t i = 0; i < count; ++i) archive.read(std::to_string(i), loaded[i]);
  tensors = std::move(loaded);
  return archive;
}

InputArchive& operator>>(InputArchive& archive, OrderedDict<std::string, Tensor>& tensors) {
  OrderedDict<std::string, Tensor> loaded(tensors.key_description());
  for (const std::string& key : archive.tensor_keys()) {
    Tensor tensor;
    archive.read(key, tensor);
    loaded.insert(key, tensor);
  }
  tensors = std::move(loaded);
  return archive;
}

InputArchive& operator>>(InputArchive& archive, StateDict& state) {
  StateDict loaded;
  for (const std::string& key : archive.tensor_keys()) archive.read(key, loaded.tensors[key]);
  for (const std::string& key : archive.value_keys()) archive.read(key, loaded.values[key]);
  state = std::move(loaded);
  return archive;
}

}  // namespace halftone::serialize
