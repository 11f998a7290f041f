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

  StateDict();
  StateDict(const StateDict&);
  StateDict(StateDict&&) noexcept;
  StateDict& operator=(const StateDict&);
  StateDict& operator=(StateDict&&) noexcept;
  ~StateDict();

  bool empty() const { return tensors.empty() && values.empty(); }

  /// Stores a number or a bool as text that reads back exactly.
  template <class T> void set(const std::string& key, T value) {
    char text[64];
    values[key] = std::string(text, std::to_chars(text, text + sizeof(text), value).ptr);
  }
  void set(const std::string& key, bool value);
  void set(const std::string& key, const std::string& value);

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
  bool has(const std::string& key) const;
  const Tensor& tensor(const std::string& key) const;

  /// Takes over everything of `part` under names that begin with `prefix`.
  void put(const std::string& prefix, const StateDict& part);
  /// What put() took over under that prefix.
  StateDict part(const std::string& prefix) const;

 private:
  const std::string& text_of(const std::string& key) const;
};

}  // namespace halftone
