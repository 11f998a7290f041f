#include "core/block_cache.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <new>

// Defined in programs built with AddressSanitizer.
extern "C" [[gnu::weak]] void __asan_init();  // NOLINT(readability-identifier-naming): its name is given

namespace halftone::block_cache {
namespace {

constexpr int kThreadClasses = size_class(64 * 1024) + 1;

/// Blocks of one class that nobody uses, linked through their own first bytes.
class FreeList {
 public:
  bool empty() const { return head_ == nullptr; }
  std::int32_t count() const { return count_; }
  void push(void* block) {
    head_ = new (block) Link{head_};
    ++count_;
  }
  void* pop() {
    Link* block = head_;
    head_ = block->next;
    --count_;
    return block;
  }

 private:
  struct Link {
    Link* next;
  };
  Link* head_ = nullptr;
  std::int32_t count_ = 0;
};

std::int64_t machine_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
  const auto largest = static_cast<std::int64_t>(kLargestRequest);
  return pages > 0 && page_bytes > 0 ? std::int64_t{pages} * page_bytes : largest;
}

std::atomic<std::int64_t> most_held{machine_memory()};
std::atomic<std::int64_t> held{0};

void* from_system(std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(bytes);
  if (held.fetch_add(size, std::memory_order_relaxed) + size <= most_held.load(std::memory_order_relaxed)) {
    if (void* block = ::operator new (bytes, std::align_val_t{kAlignment}, std::nothrow)) return block;
  }
  held.fetch_sub(size, std::memory_order_relaxed);
  return nullptr;
}

void to_system(void* block, std::size_t bytes) {
  ::operator delete (block, std::align_val_t{kAlignment});
  held.fetch_sub(static_cast<std::int64_t>(bytes), std::memory_order_relaxed);
}

/// Idle blocks that any thread may take.
class Pool {
 public:
  /// One block, and up to `more` of those that lie idle into `list`. Null when there is no memory.
  void* take(int size_class, std::int32_t more, FreeList* list) {
    const std::lock_guard lock(mutex_);
    Shelf& shelf = shelves_[static_cast<std::size_t>(size_class)];
    shelf.last_use = ++clock_;
    if (shelf.list.empty()) return fresh(size_class);
    for (; more > 0 && shelf.list.count() > 1; --more) list->push(pop(shelf, size_class));
    return pop(shelf, size_class);
  }

  void give(int size_class, void* block) {
    const std::lock_guard lock(mutex_);
    push(size_class, block);
  }

  /// Takes over blocks until `keep` are left in `list`.
  void give(int size_class, FreeList& list, std::int32_t keep) {
    const std::lock_guard lock(mutex_);
    while (list.count() > keep) push(size_class, list.pop());
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_down_to(0);
  }

 private:
  struct Shelf {
    FreeList list;
    std::uint64_t last_use = 0;
  };

  void push(int size_class, void* block) {
    shelves_[static_cast<std::size_t>(size_class)].list.push(block);
    idle_ += block_bytes(size_class);
  }

  void* pop(Shelf& shelf, int size_class) {
    idle_ -= block_bytes(size_class);
    return shelf.list.pop();
  }

  // Memory grows only here. Sizes that are no longer asked for must not pile up: what is idle stays below what the
  // program has needed at once, or a quarter of a gibibyte.
  void* fresh(int size_class) {
    const std::size_t bytes = block_bytes(size_class);
    const auto in_use = static_cast<std::size_t>(bytes_held()) - idle_;
    most_in_use_ = std::max(most_in_use_, in_use + bytes);
    const std::size_t most_idle = std::max(most_in_use_, std::size_t{256} << 20);
    if (idle_ > most_idle) release_down_to(most_idle / 2);
    if (void* block = from_system(bytes)) return block;
    release_down_to(0);
    return from_system(bytes);
  }

  void release_down_to(std::size_t target) {
    while (idle_ > target) {
      const int oldest = least_recently_used();
      Shelf& shelf = shelves_[static_cast<std::size_t>(oldest)];
      while (!shelf.list.empty()) to_system(pop(shelf, oldest), block_bytes(oldest));
    }
  }

  int least_recently_used() const {
    int oldest = -1;
    for (int i = 0; i < kClasses; ++i) {
      const Shelf& shelf = shelves_[static_cast<std::size_t>(i)];
      const bool older = oldest < 0 || shelf.last_use < shelves_[static_cast<std::size_t>(oldest)].last_use;
      if (!shelf.list.empty() && older) oldest = i;
    }
    return oldest;
  }

  std::mutex mutex_;
  std::array<Shelf, kClasses> shelves_;
  std::size_t idle_ = 0;         // bytes on the shelves
  std::size_t most_in_use_ = 0;  // bytes not on the shelves, at the most
  std::uint64_t clock_ = 0;
};

// Never destroyed: tensors in globals are given back after main has ended.
Pool& pool() {
  static Pool& only = *new Pool;
  return only;
}

constexpr std::int32_t most_in_list(int size_class) {
  return static_cast<std::int32_t>(std::clamp<std::size_t>((256 * 1024) / block_bytes(size_class), 4, 256));
}

/// A thread's own lists. Plain data, so that it is still there for tensors that die after the thread's cleanup.
struct ThreadLists {
  enum class State { unused, open, closed };
  State state = State::unused;
  std::array<FreeList, kThreadClasses> lists;

  void hand_over() {
    for (int i = 0; i < kThreadClasses; ++i) pool().give(i, lists[static_cast<std::size_t>(i)], 0);
  }
};
constinit thread_local ThreadLists local;

/// Empties the thread's lists when it ends.
struct Cleanup {
  ~Cleanup() {
    local.hand_over();
    local.state = ThreadLists::State::closed;
  }
  void arm() {}
};
thread_local Cleanup cleanup;

[[gnu::noinline]] void* take_from_pool(int size_class) {
  FreeList& list = local.lists[static_cast<std::size_t>(size_class)];
  const bool open = local.state == ThreadLists::State::open;
  return pool().take(size_class, open ? most_in_list(size_class) / 2 : 0, &list);
}

[[gnu::noinline]] void give_to_pool(int size_class, void* block) {
  if (local.state == ThreadLists::State::closed) return pool().give(size_class, block);
  FreeList& list = local.lists[static_cast<std::size_t>(size_class)];
  if (local.state == ThreadLists::State::unused) {
    cleanup.arm();
    local.state = ThreadLists::State::open;
  }
  list.push(block);
  if (list.count() > most_in_list(size_class)) pool().give(size_class, list, most_in_list(size_class) / 2);
}

// The sanitizer finds overruns and uses after free only in memory that really comes and goes.
bool reuses() { return __asan_init == nullptr; }

}  // namespace

void* take(std::size_t bytes) {
  if (bytes > kLargestRequest) return nullptr;
  if (!reuses()) return from_system(bytes);
  const int i = size_class(bytes);
  if (i >= kThreadClasses) return pool().take(i, 0, nullptr);
  FreeList& list = local.lists[static_cast<std::size_t>(i)];
  return list.empty() ? take_from_pool(i) : list.pop();
}

void give(void* block, std::size_t bytes) noexcept {
  if (!reuses()) return to_system(block, bytes);
  const int i = size_class(bytes);
  if (i >= kThreadClasses) return pool().give(i, block);
  FreeList& list = local.lists[static_cast<std::size_t>(i)];
  if (local.state != ThreadLists::State::open || list.count() >= most_in_list(i)) return give_to_pool(i, block);
  list.push(block);
}

void release_idle() {
  local.hand_over();
  pool().release();
}

std::int64_t bytes_held() { return held.load(std::memory_order_relaxed); }

void set_limit(std::int64_t bytes) { most_held.store(bytes, std::memory_order_relaxed); }
std::int64_t limit() { return most_held.load(std::memory_order_relaxed); }

}  // namespace halftone::block_cache
