// Arguments and results of any shape: tensors in tuples, arrays, vectors, maps, optionals and structs are found,
// divided among devices and joined again, and everything around them is built anew as it was.
#pragma once

#include <array>
#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <typeinfo>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/ordered_dict.h"
#include "core/tensor.h"
#include "nn/parallel/comm.h"

namespace halftone::nn::parallel {

/// An argument that every replica gets whole: `dp(batch, broadcast(mask))`. What it holds is copied to each device;
/// gradients are summed.
template <class T> struct Broadcast { T value; };
template <class T> Broadcast<std::decay_t<T>> broadcast(T&& value) { return {std::forward<T>(value)}; }

namespace nested {

/// A place in a value, for messages: "argument 1[0]['mask']". It lives on the stack of the walk.
struct Path {
  const Path* up = nullptr;
  std::string step;

  std::string text() const { return up ? up->text() + step : step; }
  Path at(std::size_t index) const { return {this, str('[', index, ']')}; }
  template <class Key> Path at_key(const Key& key) const {
    if constexpr (requires(std::ostream & out) { out << key; }) {
      return {this, str("['", key, "']")};
    } else {
      return {this, "[a key]"};
    }
  }
};

template <class T, template <class...> class Template> inline constexpr bool is_a = false;
template <template <class...> class Template, class... Args>
inline constexpr bool is_a<Template<Args...>, Template> = true;

template <class T> inline constexpr bool is_map = is_a<T, std::map> || is_a<T, std::unordered_map>;
template <class T> inline constexpr bool is_array = false;
template <class T, std::size_t N> inline constexpr bool is_array<std::array<T, N>> = true;

/// A struct of the user that says what it holds:
/// `template <class Self> static auto fields(Self& self) { return std::tie(self.x, self.y); }`
template <class T>
concept HasFields = requires(T& value) {
  T::fields(value);
};

/// What initialises a field of any type, or one that holds an H.
struct Anything {
  template <class T> operator T() const;
};
template <class H> struct Holding { operator H() const; };
struct Nothing {};

template <class T, class Last, std::size_t... I> constexpr bool takes(std::index_sequence<I...>) {
  return requires { T{(static_cast<void>(I), Anything())..., Last()}; };
}
/// Whether field `n` of an aggregate holds an H. What takes everything, like a std::any, does not count.
template <class T, class H, std::size_t n> constexpr bool holds_at() {
  using Before = std::make_index_sequence<n>;
  return takes<T, Holding<H>>(Before()) && !takes<T, Nothing>(Before());
}
/// Whether an aggregate has tensors among its first eight fields, but no fields() that would show them.
template <class T> constexpr bool hides_tensors() {
  if constexpr (std::is_class_v<T> && std::is_aggregate_v<T> && !HasFields<T>) {
    return []<std::size_t... I>(std::index_sequence<I...>) {
      return ((holds_at<T, Tensor, I>() || holds_at<T, std::vector<Tensor>, I>()) || ...);
    }
    (std::make_index_sequence<8>());
  }
  return false;
}

template <class T> struct Holds;
/// Whether a T can hold tensors.
template <class T> inline constexpr bool holds_tensors = Holds<T>::value;

template <class T> struct Holds {
  static_assert(!hides_tensors<T>(),
                "DataParallel: this struct holds tensors that nobody would divide; give it fields(), see HasFields");
  static constexpr bool value = std::is_same_v<T, Tensor>;
};
template <HasFields T> struct Holds<T> : Holds<std::decay_t<decltype(T::fields(std::declval<T&>()))>> {};
template <class T> struct Holds<T&> : Holds<T> {};  // a field
template <class T, std::size_t N> struct Holds<std::array<T, N>> : Holds<T> {};
template <class T> struct Holds<Broadcast<T>> : Holds<T> {};
template <class T> struct Holds<std::optional<T>> : Holds<T> {};
template <class T, class A> struct Holds<std::vector<T, A>> : Holds<T> {};
template <class K, class T> struct Holds<OrderedDict<K, T>> : Holds<T> {};
template <class K, class T, class... More> struct Holds<std::map<K, T, More...>> : Holds<T> {};
template <class K, class T, class... More> struct Holds<std::unordered_map<K, T, More...>> : Holds<T> {};
template <class A, class B> struct Holds<std::pair<A, B>> {
  static constexpr bool value = holds_tensors<A> || holds_tensors<B>;
};
template <class... Ts> struct Holds<std::tuple<Ts...>> { static constexpr bool value = (holds_tensors<Ts> || ...); };

// ------------------------------------------------------------------------------------------------ one value

/// A map like T with other items.
template <class Item, class K, class V, class C, class A> std::map<K, Item, C> with_items(const std::map<K, V, C, A>&);
template <class Item, class K, class V, class H, class E, class A>
std::unordered_map<K, Item, H, E> with_items(const std::unordered_map<K, V, H, E, A>&);
template <class Item, class K, class V> OrderedDict<K, Item> with_items(const OrderedDict<K, V>&);
template <class T, class Old, class Item>
using WithItems = typename std::conditional_t<std::is_same_v<Old, Item>, std::type_identity<T>,
                                              std::type_identity<decltype(with_items<Item>(std::declval<T>()))>>::type;

/// `value` with every tensor replaced by `leaf(tensor, path, whole)`, and every Broadcast by what it holds. `whole` is
/// true inside a Broadcast. Containers are visited in their order; what cannot hold tensors is copied.
template <class T, class Leaf> auto rebuild(const T& value, const Path& path, Leaf& leaf, bool whole = false) {
  if constexpr (std::is_same_v<T, Tensor>) {
    return leaf(value, path, whole);
  } else if constexpr (is_a<T, Broadcast>) {
    return rebuild(value.value, path, leaf, true);
  } else if constexpr (!holds_tensors<T>) {
    return value;
  } else if constexpr (is_a<T, std::optional>) {
    using Inner = decltype(rebuild(*value, path, leaf, whole));
    return value ? std::optional<Inner>(rebuild(*value, path, leaf, whole)) : std::optional<Inner>();
  } else if constexpr (is_a<T, std::vector>) {
    std::vector<decltype(rebuild(value[0], path, leaf, whole))> out;
    for (std::size_t i = 0; i < value.size(); ++i) out.push_back(rebuild(value[i], path.at(i), leaf, whole));
    return out;
  } else if constexpr (is_map<T>) {
    using Old = typename T::mapped_type;
    WithItems<T, Old, decltype(rebuild(std::declval<const Old&>(), path, leaf, whole))> out;
    for (const auto& [key, item] : value) out.emplace(key, rebuild(item, path.at_key(key), leaf, whole));
    return out;
  } else if constexpr (is_a<T, OrderedDict>) {
    using Old = std::decay_t<decltype(value.begin()->value())>;
    WithItems<T, Old, decltype(rebuild(std::declval<const Old&>(), path, leaf, whole))> out(value.key_description());
    for (const auto& item : value) out.insert(item.key(), rebuild(item.value(), path.at_key(item.key()), leaf, whole));
    return out;
  } else if constexpr (is_a<T, std::pair>) {
    auto first = rebuild(value.first, path.at(0), leaf, whole);  // in order
    return std::pair(std::move(first), rebuild(value.second, path.at(1), leaf, whole));
  } else if constexpr (is_array<T>) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      using Result = std::array<decltype(rebuild(value[0], path, leaf, whole)), sizeof...(I)>;
      return Result{{rebuild(value[I], path.at(I), leaf, whole)...}};
    }
    (std::make_index_sequence<std::tuple_size_v<T>>());
  } else if constexpr (HasFields<T>) {
    T out = value;
    std::size_t i = 0;
    const auto replace = [&](auto& field) { field = rebuild(std::as_const(field), path.at(i++), leaf, whole); };
    std::apply([&](auto&... fields) { (replace(fields), ...); }, T::fields(out));
    return out;
  } else {
    static_assert(is_a<T, std::tuple>);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      using Result = std::tuple<decltype(rebuild(std::get<I>(value), path, leaf, whole))...>;
      return Result{rebuild(std::get<I>(value), path.at(I), leaf, whole)...};  // braces: in order
    }
    (std::make_index_sequence<std::tuple_size_v<T>>());
  }
}

/// The type that a replica's forward gets for an argument of type T.
struct KeepTensor {
  Tensor operator()(const Tensor& t, const Path&, bool) { return t; }
};
template <class T>
using Share = decltype(rebuild(std::declval<const T&>(), std::declval<const Path&>(), std::declval<KeepTensor&>()));

// ------------------------------------------------------------------------------------------------ scatter

/// Tensors found in arguments, in their order, and what becomes of them on the devices.
class Distribution {
 public:
  Distribution(comm::Devices devices, std::int64_t dim, Split split) : devices_(devices), dim_(dim), split_(split) {}

  void add(const Tensor& tensor, std::string place, bool whole);
  /// Divides the tensors; they must agree in their length along dim.
  void divide();
  /// How many devices get something.
  std::size_t shares() const { return shares_; }
  const Tensor& piece(std::size_t tensor, std::size_t share) const { return pieces_[tensor][share]; }

 private:
  struct Found {
    Tensor tensor;
    std::string place;
    bool whole;
  };
  bool is_divided(const Found& found) const { return found.tensor.defined() && !found.whole; }
  std::int64_t length_of(const Found& found) const;
  const Found* check_lengths() const;

  comm::Devices devices_;
  std::int64_t dim_;
  Split split_;
  std::vector<Found> found_;
  std::vector<std::vector<Tensor>> pieces_;
  std::size_t shares_ = 0;
};

/// The arguments of every replica that gets some.
template <class... Args>
std::vector<std::tuple<Share<Args>...>> distribute(Distribution& parts, const std::tuple<const Args&...>& args) {
  const auto walk = [&](auto& leaf) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return std::tuple<Share<Args>...>{rebuild(std::get<I>(args), Path{nullptr, str("argument ", I)}, leaf)...};
    }
    (std::index_sequence_for<Args...>());
  };
  auto find = [&](const Tensor& t, const Path& path, bool whole) {
    parts.add(t, path.text(), whole);
    return t;
  };
  walk(find);
  parts.divide();
  std::vector<std::tuple<Share<Args>...>> shares;
  for (std::size_t share = 0; share < parts.shares(); ++share) {
    std::size_t next = 0;
    auto take = [&](const Tensor&, const Path&, bool) { return parts.piece(next++, share); };
    shares.push_back(walk(take));
  }
  return shares;
}

// ------------------------------------------------------------------------------------------------ gather

struct Joint {
  Device device;
  std::int64_t dim = 0;
  bool warns_of_scalars = true;
};

/// The tensors of all replicas, joined. Those without dimensions become a vector.
Tensor join_tensors(const std::vector<const Tensor*>& parts, const Path& path, Joint& how);
[[noreturn]] void fail_lengths(const Path& path, const char* what, std::size_t replica, std::size_t length,
                               std::size_t first);
[[noreturn]] void fail_key(const Path& path, std::size_t replica);
[[noreturn]] void fail_presence(const Path& path, std::size_t replica);
[[noreturn]] void fail_difference(const Path& path, std::size_t replica, const std::type_info& type);

template <class T> T join(const std::vector<const T*>& parts, const Path& path, Joint& how);

/// The parts' members that `get` points to.
template <class T, class Get> auto members(const std::vector<const T*>& parts, Get get) {
  std::vector<decltype(get(*parts[0], std::size_t{}))> out;
  for (std::size_t k = 0; k < parts.size(); ++k) out.push_back(get(*parts[k], k));
  return out;
}

template <class T> void check_lengths(const std::vector<const T*>& parts, const Path& path, const char* what) {
  for (std::size_t k = 1; k < parts.size(); ++k) {
    if (parts[k]->size() != parts[0]->size()) fail_lengths(path, what, k, parts[k]->size(), parts[0]->size());
  }
}

/// Maps: every replica has the keys of the first.
template <class T, class Insert>
void join_items(const std::vector<const T*>& parts, const Path& path, Joint& how, Insert insert) {
  check_lengths(parts, path, "keys");
  const auto one = [&](const auto& key) {
    const Path place = path.at_key(key);
    insert(key, join(members(parts,
                             [&](const T& part, std::size_t k) {
                               if constexpr (is_map<T>) {
                                 const auto found = part.find(key);
                                 if (found == part.end()) fail_key(place, k);
                                 return &found->second;
                               } else {
                                 const auto* found = part.find(key);
                                 if (!found) fail_key(place, k);
                                 return found;
                               }
                             }),
                     place, how));
  };
  if constexpr (is_map<T>) {
    for (const auto& item : *parts[0]) one(item.first);
  } else {
    for (const auto& item : *parts[0]) one(item.key());
  }
}

/// What the replicas returned, as one value: tensors are joined, containers rebuilt. A value that holds no tensor must
/// be the same from all.
template <class T> T join(const std::vector<const T*>& parts, const Path& path, Joint& how) {
  if constexpr (std::is_same_v<T, Tensor>) {
    return join_tensors(parts, path, how);
  } else if constexpr (!holds_tensors<T>) {
    static_assert(std::equality_comparable<T>,
                  "a replica returns a type without tensors and without ==: it cannot be joined");
    for (std::size_t k = 1; k < parts.size(); ++k) {
      if (!(*parts[k] == *parts[0])) fail_difference(path, k, typeid(T));
    }
    return *parts[0];
  } else if constexpr (is_a<T, std::optional>) {
    for (std::size_t k = 1; k < parts.size(); ++k) {
      if (parts[k]->has_value() != parts[0]->has_value()) fail_presence(path, k);
    }
    if (!*parts[0]) return T();
    return T(join(members(parts, [](const T& part, std::size_t) { return &*part; }), path, how));
  } else if constexpr (is_a<T, std::vector>) {
    check_lengths(parts, path, "elements");
    T out;
    for (std::size_t i = 0; i < parts[0]->size(); ++i)
      out.push_back(join(members(parts, [i](const T& part, std::size_t) { return &part[i]; }), path.at(i), how));
    return out;
  } else if constexpr (is_map<T>) {
    T out;
    join_items(parts, path, how, [&](const auto& key, auto value) { out.emplace(key, std::move(value)); });
    return out;
  } else if constexpr (is_a<T, OrderedDict>) {
    T out(parts[0]->key_description());
    join_items(parts, path, how, [&](const auto& key, auto value) { out.insert(key, std::move(value)); });
    return out;
  } else if constexpr (HasFields<T>) {
    T out = *parts[0];
    const auto one = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
      const auto get = [](const T& part, std::size_t) { return &std::get<I>(T::fields(part)); };
      std::get<I>(T::fields(out)) = join(members(parts, get), path.at(I), how);
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) { (one(std::integral_constant<std::size_t, I>()), ...); }
    (std::make_index_sequence<std::tuple_size_v<decltype(T::fields(out))>>());
    return out;
  } else {
    static_assert(is_a<T, std::tuple> || is_a<T, std::pair> || is_array<T>);
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      return T{join(members(parts, [](const T& part, std::size_t) { return &std::get<I>(part); }), path.at(I), how)...};
    }
    (std::make_index_sequence<std::tuple_size_v<T>>());
  }
}

}  // namespace nested
}  // namespace halftone::nn::parallel
