// OrderedDict: a map that keeps the order of insertion. Names of parameters live in it, and their order is the order of
// everything that walks a model.
#pragma once

#include <initializer_list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/error.h"

namespace halftone {

template <class Key, class Value> class OrderedDict {
 public:
  class Item {
   public:
    Item(Key key, Value value) : pair_(std::move(key), std::move(value)) {}
    const Key& key() const noexcept { return pair_.first; }
    Value& value() noexcept { return pair_.second; }
    const Value& value() const noexcept { return pair_.second; }
    const std::pair<Key, Value>& pair() const noexcept { return pair_; }
    Value& operator*() { return value(); }
    const Value& operator*() const { return value(); }
    Value* operator->() { return &value(); }
    const Value* operator->() const { return &value(); }

   private:
    std::pair<Key, Value> pair_;
  };
  using Iterator = typename std::vector<Item>::iterator;
  using ConstIterator = typename std::vector<Item>::const_iterator;

  /// Messages speak of the keys by this word: "Parameter 'weight' is not defined".
  explicit OrderedDict(std::string key_description = "Key") : key_description_(std::move(key_description)) {}
  OrderedDict(std::initializer_list<Item> items) : OrderedDict("Key") {
    reserve(items.size());
    for (const Item& item : items) insert(item.key(), item.value());
  }

  const std::string& key_description() const noexcept { return key_description_; }
  std::size_t size() const noexcept { return items_.size(); }
  bool is_empty() const noexcept { return items_.empty(); }
  void reserve(std::size_t count) {
    items_.reserve(count);
    positions_.reserve(count);
  }

  Iterator begin() { return items_.begin(); }
  Iterator end() { return items_.end(); }
  ConstIterator begin() const { return items_.begin(); }
  ConstIterator end() const { return items_.end(); }
  Item& front() { return not_empty("front").front(); }
  const Item& front() const { return const_cast<OrderedDict*>(this)->front(); }
  Item& back() { return not_empty("back").back(); }
  const Item& back() const { return const_cast<OrderedDict*>(this)->back(); }
  const std::vector<Item>& items() const noexcept { return items_; }

  std::vector<Key> keys() const {
    std::vector<Key> all;
    for (const Item& item : items_) all.push_back(item.key());
    return all;
  }
  std::vector<Value> values() const {
    std::vector<Value> all;
    for (const Item& item : items_) all.push_back(item.value());
    return all;
  }
  std::vector<std::pair<Key, Value>> pairs() const {
    std::vector<std::pair<Key, Value>> all;
    for (const Item& item : items_) all.push_back(item.pair());
    return all;
  }

  /// Null when there is no such key.
  Value* find(const Key& key) noexcept {
    const auto at = positions_.find(key);
    return at == positions_.end() ? nullptr : &items_[at->second].value();
  }
  const Value* find(const Key& key) const noexcept { return const_cast<OrderedDict*>(this)->find(key); }
  bool contains(const Key& key) const noexcept { return find(key) != nullptr; }

  Value& operator[](const Key& key) {
    Value* value = find(key);
    check(value != nullptr, key_description_, " '", key, "' is not defined");
    return *value;
  }
  const Value& operator[](const Key& key) const { return const_cast<OrderedDict&>(*this)[key]; }
  Item& operator[](std::size_t index) { return items_[position(index)]; }
  const Item& operator[](std::size_t index) const { return items_[position(index)]; }

  /// Throws when the key is taken.
  template <class K, class V> Value& insert(K&& key, V&& value) {
    check(!contains(key), key_description_, " '", key, "' already defined");
    items_.emplace_back(std::forward<K>(key), std::forward<V>(value));  // first: it may throw, and then nothing changed
    positions_.emplace(items_.back().key(), size() - 1);
    return items_.back().value();
  }
  Value& insert(Key key, Value&& value) { return insert<Key, Value>(std::move(key), std::move(value)); }

  /// Inserts all items of another one, whose keys must be new.
  void update(OrderedDict&& other) {
    reserve(size() + other.size());
    for (Item& item : other) insert(item.key(), std::move(item.value()));
  }
  void update(const OrderedDict& other) {
    reserve(size() + other.size());
    for (const Item& item : other) insert(item.key(), item.value());
  }

  void erase(const Key& key) {
    const auto at = positions_.find(key);
    check(at != positions_.end(), key_description_, " '", key, "' doesn't exist");
    const std::size_t gap = at->second;
    positions_.erase(at);
    items_.erase(items_.begin() + static_cast<std::ptrdiff_t>(gap));
    for (auto& [name, place] : positions_) place -= place > gap;
  }
  void clear() {
    items_.clear();
    positions_.clear();
  }

 private:
  std::size_t position(std::size_t index) const {
    check<IndexError>(index < size(), "Index ", index, " is out of bounds for an OrderedDict of ", size(), " items");
    return index;
  }
  std::vector<Item>& not_empty(const char* method) {
    check<IndexError>(!is_empty(), "Called ", method, "() on an empty OrderedDict");
    return items_;
  }

  std::vector<Item> items_;
  std::unordered_map<Key, std::size_t> positions_;
  std::string key_description_;
};

}  // namespace halftone
