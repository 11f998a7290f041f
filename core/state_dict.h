// What an object must remember to go on after a restart: tensors and small values by dotted name. Archives store it
// without knowing whose it is.
#pragma once

#include <charconv>
#include <map>
#include <string>

#include "core/tensor.h"

namespace halftone {

class StateDict {
 public:
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> values;

  bool empty() const { return tensors.empty() && values.empty(); }

  /// Stores a number or a bool as text that reads back exactly.
  template <class T> void set(const std::string& key, T value) {
    char text[64];
    values[key] = std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
  }
  void set(const std::string& key, bool value) { values[key] = value ? "true" : "false"; }
  void set(const std::string& key, const std::string& value) { values[key] = value; }

  /// The value of a key; throws naming the key when there is none or when it is no T.
  template <class T> T get(const std::string& key) const {
    const std::string& text = text_of(key);
    if constexpr (std::is_same_v<T, std::string>) {
      return text;
    } else if constexpr (std::is_same_v<T, bool>) {
      check<ValueError>(text == "true" || text == "false", "state '", key, "' is '", text, "', not true or false");
      return text == "true";
    } else {
      T value{};
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      check<ValueError>(error == std::errc() && end == text.data() + text.size(), "state '", key, "' is '", text,
                        "', not a number");
      return value;
    }
  }
  bool has(const std::string& key) const { return values.contains(key) || tensors.contains(key); }
  const Tensor& tensor(const std::string& key) const {
    const auto found = tensors.find(key);
    check<IndexError>(found != tensors.end(), "state has no tensor '", key, "'");
    return found->second;
  }

  /// Takes over everything of `part` under names that begin with `prefix`.
  void put(const std::string& prefix, const StateDict& part) {
    for (const auto& [key, value] : part.tensors) tensors[prefix + key] = value;
    for (const auto& [key, value] : part.values) values[prefix + key] = value;
  }
  /// What put() took over under that prefix.
  StateDict part(const std::string& prefix) const {
    StateDict found;
    for (const auto& [key, value] : tensors) {
      if (key.starts_with(prefix)) found.tensors[key.substr(prefix.size())] = value;
    }
    for (const auto& [key, value] : values) {
      if (key.starts_with(prefix)) found.values[key.substr(prefix.size())] = value;
    }
    return found;
  }

 private:
  const std::string& text_of(const std::string& key) const {
    const auto found = values.find(key);
    check<IndexError>(found != values.end(), "state has no value '", key, "'");
    return found->second;
  }
};

}  // namespace halftone
