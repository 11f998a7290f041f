// Saving and loading. An archive is a tree of tensors and small values under dotted keys; on disk it is a safetensors
// file, which the Python world reads and writes too. save() and load() take tensors, lists and dicts of them, and
// whatever has `save(OutputArchive&) const` and `load(InputArchive&)`, as modules have, or `state_dict()` and
// `load_state_dict()`, as optimizers and the gradient scaler have.
//
//   save(model, "model.safetensors");                    serialize::OutputArchive checkpoint;
//   load(model, "model.safetensors");                    checkpoint.write("model", model);
//                                                        checkpoint.write("optimizer", optimizer);
//                                                        checkpoint.write("epoch", 7);
//                                                        checkpoint.save_to("checkpoint.safetensors");
//
// A file is written beside its target and renamed when it is complete: the target is the old file or the new one. What
// is loaded is checked as a whole before anything changes; a load that fails leaves live tensors as they were.
#pragma once

#include <concepts>
#include <functional>
#include <iosfwd>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/ordered_dict.h"
#include "core/state_dict.h"
#include "core/tensor.h"

namespace halftone {
namespace serialize {

/// What an archive holds beside tensors.
using Value = std::variant<bool, std::int64_t, double, std::string>;
/// Text of the user's own in a file's header: where the model comes from, what it was trained on.
using Metadata = std::map<std::string, std::string>;
/// Takes bytes and returns how many it took.
using Writer = std::function<std::size_t(const void* data, std::size_t size)>;
/// Copies up to `size` bytes at a position and returns how many.
using Reader = std::function<std::size_t(std::uint64_t position, void* data, std::size_t size)>;

class OutputArchive;
class InputArchive;

template <class T>
concept Number = std::is_arithmetic_v<T>;
template <class T>
concept Saves = requires(const T& value, OutputArchive& archive) {
  value.save(archive);
};
template <class T>
concept Loads = requires(T& value, InputArchive& archive) {
  value.load(archive);
};
/// Optimizers and the gradient scaler know nothing of archives: they hand out their state and take it back.
template <class T>
concept HasState = requires(T& value, const StateDict& state) {
  { std::as_const(value).state_dict() } -> std::convertible_to<StateDict>;
  value.load_state_dict(state);
};
template <class T>
concept Stored = (Saves<T> && Loads<T>) || HasState<T>;
/// Module holders, shared and unique pointers.
template <class T>
concept PointsAtStored = requires(const T& value) {
  static_cast<bool>(value);
  requires Stored<std::remove_cvref_t<decltype(*value)>>;
};
template <class T>
concept Storable = Stored<T> || PointsAtStored<T>;

/// Everything in one file, by full keys.
struct Content {
  OrderedDict<std::string, Tensor> tensors{"Tensor"};
  OrderedDict<std::string, Value> values{"Value"};
  Metadata metadata;
  std::string origin = "the archive";  // how messages call it: the file's name, or "the stream"
};

class OutputArchive {
 public:
  /// Keys must be new. A tensor is kept by its handle: what it holds when the archive is saved goes into the file.
  void write(const std::string& key, const Tensor& tensor, bool is_buffer = false);
  void write(const std::string& key, const OutputArchive& nested);
  void write(const std::string& key, const std::string& text) { write_value(key, text); }
  void write(const std::string& key, const char* text) { write_value(key, std::string(text)); }
  template <Number T> void write(const std::string& key, T number) {
    if constexpr (std::is_same_v<T, bool>) {
      write_value(key, number);
    } else if constexpr (std::is_integral_v<T>) {
      write_value(key, static_cast<std::int64_t>(number));
    } else {
      write_value(key, static_cast<double>(number));
    }
  }
  /// A module, an optimizer and so on, under its own keys behind `key.`.
  template <Storable T> void write(const std::string& key, const T& value);

  Metadata& metadata() { return content_.metadata; }
  const Content& content() const { return content_; }

  /// Throws Error when the file cannot be written as a whole; an older file at `path` is then still there.
  void save_to(const std::string& path) const;
  void save_to(std::ostream& out) const;
  void save_to(const Writer& writer) const;

 private:
  void write_value(const std::string& key, Value value);

  Content content_;
};

/// A file's content, or the part of it whose keys begin with a prefix. Copies share it.
class InputArchive {
 public:
  InputArchive();

  /// Reads and checks the whole file, and throws Error with its name and what is wrong with it. Tensors that are read
  /// into undefined ones land on `device`.
  void load_from(const std::string& path, optional<Device> device = nullopt);
  /// Reads one archive from where the stream stands, and no further.
  void load_from(std::istream& in, optional<Device> device = nullopt);
  void load_from(const char* data, std::size_t size, optional<Device> device = nullopt);
  void load_from(const Reader& reader, const std::function<std::size_t()>& size, optional<Device> device = nullopt);

  /// Into a defined tensor the values are copied, converted to its dtype and device; its shape must be right. An
  /// undefined one becomes the tensor of the file. Throws with the full key when there is none.
  void read(const std::string& key, Tensor& tensor, bool is_buffer = false);
  /// The part behind `key.`; throws when that is empty.
  void read(const std::string& key, InputArchive& nested);
  void read(const std::string& key, std::string& text) { text = std::get<std::string>(value_as<std::string>(key)); }
  /// Throws when the value is of another type. An integer may be read as a floating number.
  template <Number T> void read(const std::string& key, T& number) {
    using Kept = std::conditional_t<std::is_same_v<T, bool>, bool,
                                    std::conditional_t<std::is_integral_v<T>, std::int64_t, double>>;
    const auto kept = std::get<Kept>(value_as<Kept>(key));
    if constexpr (std::is_integral_v<T>) {
      check<ValueError>(static_cast<Kept>(static_cast<T>(kept)) == kept, "the value '", full(key), "' = ", kept,
                        " is too large for where it is to go");
    }
    number = static_cast<T>(kept);
  }
  /// A module, an optimizer and so on. As load() does, leaves live tensors as they were when it throws.
  template <Storable T> void read(const std::string& key, T& value);

  /// Like read, but a missing key is false and changes nothing.
  template <class T> bool try_read(const std::string& key, T& value) {
    if (!contains(key)) return false;
    read(key, value);
    return true;
  }
  bool try_read(const std::string& key, Tensor& tensor, bool is_buffer);

  /// Is there a tensor, a value or a nested archive of this name?
  bool contains(const std::string& key) const;
  /// The names at this level: those of tensors and values, and the first parts of nested ones, in the file's order.
  std::vector<std::string> keys() const;
  /// The full keys of all tensors, or values, from this level down, without the prefix.
  std::vector<std::string> tensor_keys() const;
  std::vector<std::string> value_keys() const;
  /// The part behind `key.`, be it empty.
  InputArchive nested(const std::string& key) const;
  const Metadata& metadata() const { return content_->metadata; }
  const Content& content() const { return *content_; }

  /// Runs `reads()`. When that throws, the tensors that were read into get their old values back.
  template <class Reads> void all_or_nothing(Reads reads) {
    undo_ = std::make_shared<std::vector<std::pair<Tensor, Tensor>>>();
    try {
      reads();
    } catch (...) {
      put_back();
      throw;
    }
    undo_.reset();
  }

 private:
  void adopt(Content content, optional<Device> device);
  std::string full(const std::string& key) const { return prefix_ + key; }
  const Value& value_at(const std::string& key) const;
  template <class Items> std::vector<std::string> keys_below(const Items& items) const;
  template <class Kept> Value value_as(const std::string& key) const;
  void put_back();

  std::shared_ptr<const Content> content_;
  std::string prefix_;                                            // "" or ends with a dot
  std::shared_ptr<std::vector<std::pair<Tensor, Tensor>>> undo_;  // tensors read into, with what they held
};

OutputArchive& operator<<(OutputArchive& archive, const Tensor& tensor);
OutputArchive& operator<<(OutputArchive& archive, const std::vector<Tensor>& tensors);
OutputArchive& operator<<(OutputArchive& archive, const OrderedDict<std::string, Tensor>& tensors);
OutputArchive& operator<<(OutputArchive& archive, const StateDict& state);
template <Storable T> OutputArchive& operator<<(OutputArchive& archive, const T& value) {
  if constexpr (PointsAtStored<T>) {
    check(static_cast<bool>(value), "save: the pointer is null");
    return archive << *value;
  } else if constexpr (Saves<T>) {
    value.save(archive);
    return archive;
  } else {
    return archive << StateDict(value.state_dict());
  }
}

/// Rebinds the handle to the tensor that was saved.
InputArchive& operator>>(InputArchive& archive, Tensor& tensor);
/// Replaces the list, or the dict, by the one that was saved. A dict gets every tensor of the archive.
InputArchive& operator>>(InputArchive& archive, std::vector<Tensor>& tensors);
InputArchive& operator>>(InputArchive& archive, OrderedDict<std::string, Tensor>& tensors);
InputArchive& operator>>(InputArchive& archive, StateDict& state);
template <Storable T> InputArchive& operator>>(InputArchive& archive, T& value) {
  if constexpr (PointsAtStored<T>) {
    check(static_cast<bool>(value), "load: the pointer is null");
    return archive >> *value;
  } else if constexpr (Loads<T>) {
    value.load(archive);
    return archive;
  } else {
    StateDict state;
    archive >> state;
    value.load_state_dict(state);
    return archive;
  }
}

template <Storable T> void OutputArchive::write(const std::string& key, const T& value) {
  OutputArchive part;
  part << value;
  write(key, part);
}

template <Storable T> void InputArchive::read(const std::string& key, T& value) {
  InputArchive part = nested(key);  // empty for what saved nothing; the value itself knows what it misses
  if (undo_) {
    part >> value;
  } else {
    part.all_or_nothing([&] { part >> value; });
  }
}

}  // namespace serialize

/// Saves a Tensor, a vector or an OrderedDict of them, a module, an optimizer, ... to a path, a std::ostream or a
/// Writer. `metadata` goes into the header.
template <class T, class To> void save(const T& value, To&& to, const serialize::Metadata& metadata = {}) {
  serialize::OutputArchive archive;
  archive.metadata() = metadata;
  archive << value;
  archive.save_to(std::forward<To>(to));
}

/// Loads what save() saved: from a path, a std::istream, a block of memory (data, size) or a Reader with a size
/// function, and optionally onto a device. Throws Error and changes nothing when the file is damaged or does not fit.
template <class T, class... From> void load(T& value, From&&... from) {
  serialize::InputArchive archive;
  archive.load_from(std::forward<From>(from)...);
  archive.all_or_nothing([&] { archive >> value; });
}

}  // namespace halftone
