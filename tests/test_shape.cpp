// Shapes are small, so most rules are checked against brute force: where in memory does element (i, j, ...) lie?
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/shape.h"
#include "core/tensor.h"
#include "tests/catch.h"

using namespace halftone;

namespace {

using Sizes = std::vector<std::int64_t>;

template <class F> std::string message_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// The memory offset of every element, in row-major order of the indices.
std::vector<std::int64_t> offsets(IntArrayRef sizes, IntArrayRef strides) {
  std::vector<std::int64_t> out{0};
  for (std::size_t axis = 0; axis < sizes.size(); ++axis) {
    std::vector<std::int64_t> next;
    for (const std::int64_t base : out) {
      for (std::int64_t i = 0; i < sizes[axis]; ++i) next.push_back(base + i * strides[axis]);
    }
    out = std::move(next);
  }
  return out;
}

/// Every way to write n as a product of `rank` sizes.
void factorise(std::int64_t n, std::size_t rank, Sizes& prefix, std::vector<Sizes>& out) {
  if (rank == 1) {
    prefix.push_back(n);
    out.push_back(prefix);
    prefix.pop_back();
    return;
  }
  for (std::int64_t d = 1; d <= n; ++d) {
    if (n % d) continue;
    prefix.push_back(d);
    factorise(n / d, rank - 1, prefix, out);
    prefix.pop_back();
  }
}

std::vector<Sizes> shapes_of(std::int64_t n) {
  std::vector<Sizes> out;
  Sizes prefix;
  for (std::size_t rank = 1; rank <= 4; ++rank) factorise(n, rank, prefix, out);
  return out;
}

struct Geometry {
  Sizes sizes, strides;
};

/// Layouts that programs meet: dense in any order of axes, with gaps, expanded, reversed roles of size-1 axes.
const std::vector<Geometry> kLayouts = {
    {{}, {}},
    {{24}, {1}},
    {{24}, {2}},
    {{24}, {0}},
    {{4, 6}, {6, 1}},
    {{6, 4}, {1, 6}},
    {{4, 6}, {12, 1}},
    {{4, 6}, {12, 2}},
    {{4, 6}, {0, 1}},
    {{4, 6}, {1, 0}},
    {{1, 24}, {99, 1}},
    {{24, 1}, {1, 7}},
    {{2, 3, 4}, {12, 4, 1}},
    {{2, 3, 4}, {1, 2, 6}},
    {{2, 3, 4}, {4, 8, 1}},
    {{2, 3, 4}, {24, 8, 2}},
    {{2, 3, 4}, {12, 4, 0}},
    {{2, 1, 3, 4}, {12, 77, 4, 1}},
    {{2, 2, 2, 3}, {12, 1, 6, 2}},
    {{2, 2, 2, 3}, {12, 6, 3, 1}},
    {{3, 1, 1, 8}, {8, 8, 8, 1}},
};

/// Whether strides exist with which the target's elements, in order, lie at these offsets.
bool can_view(const std::vector<std::int64_t>& memory, const Sizes& target) {
  Sizes strides(target.size(), 0);
  std::int64_t step = 1;
  for (std::size_t i = target.size(); i-- > 0;) {
    if (target[i] > 1) strides[i] = memory[static_cast<std::size_t>(step)] - memory[0];
    step *= target[i];
  }
  return offsets(target, strides) == memory;
}

}  // namespace

TEST_CASE("dimensions count from either end", "[shape]") {
  CHECK(wrap_dim(0, 3) == 0);
  CHECK(wrap_dim(-1, 3) == 2);
  CHECK(wrap_dim(-3, 3) == 0);
  CHECK(wrap_dim(0, 0) == 0);
  CHECK(wrap_dim(-1, 0) == 0);
  CHECK(message_of([] { wrap_dim(3, 3); }) == "Dimension out of range (expected to be in range of [-3, 2], but got 3)");
  CHECK(message_of([] { wrap_dim(-4, 3); }) ==
        "Dimension out of range (expected to be in range of [-3, 2], but got -4)");
  CHECK(message_of([] { wrap_dim(1, 0); }) == "Dimension out of range (expected to be in range of [-1, 0], but got 1)");
  CHECK_THROWS_AS(wrap_dim(5, 2), IndexError);
}

TEST_CASE("shapes broadcast", "[shape]") {
  struct Row {
    Sizes a, b, wanted;
  };
  const Row rows[] = {{{}, {}, {}},
                      {{3}, {}, {3}},
                      {{2, 3}, {3}, {2, 3}},
                      {{2, 1}, {1, 3}, {2, 3}},
                      {{4, 1, 5}, {6, 1}, {4, 6, 5}},
                      {{0}, {1}, {0}},
                      {{2, 0}, {1}, {2, 0}},
                      {{1}, {0, 3, 1}, {0, 3, 1}}};
  for (const Row& row : rows) {
    CHECK(broadcast_shapes("add", row.a, row.b) == dims(row.wanted));
    CHECK(broadcast_shapes("add", row.b, row.a) == dims(row.wanted));
  }
  CHECK(message_of([] {
          broadcast_shapes("add", Sizes{2, 3}, Sizes{4});
        }) ==
        "add: shapes [2, 3] and [4] do not broadcast: the size of tensor a (3) must match the size of tensor b (4) at "
        "dimension 1");
  CHECK(message_of([] {
          broadcast_shapes("mul", Sizes{2, 3}, Sizes{0});
        }) ==
        "mul: shapes [2, 3] and [0] do not broadcast: the size of tensor a (3) must match the size of tensor b (0) at "
        "dimension 1");
  CHECK_THROWS_AS(broadcast_shapes("add", Sizes{2}, Sizes{3}), ValueError);
}

TEST_CASE("expanded strides repeat what has size 1", "[shape]") {
  CHECK(expanded_strides(Sizes{3}, Sizes{1}, Sizes{2, 3}) == Dims{0, 1});
  CHECK(expanded_strides(Sizes{2, 1}, Sizes{1, 1}, Sizes{2, 3}) == Dims{1, 0});
  CHECK(expanded_strides(Sizes{}, Sizes{}, Sizes{2, 3}) == Dims{0, 0});
  CHECK(expanded_strides(Sizes{1, 4}, Sizes{4, 1}, Sizes{1, 4}) == Dims{4, 1});
}

TEST_CASE("one size may be left to be inferred", "[shape]") {
  CHECK(infer_size("view", Sizes{2, -1}, 6) == Dims{2, 3});
  CHECK(infer_size("view", Sizes{-1}, 6) == Dims{6});
  CHECK(infer_size("view", Sizes{-1}, 0) == Dims{0});
  CHECK(infer_size("view", Sizes{-1, 3}, 0) == Dims{0, 3});
  CHECK(infer_size("view", Sizes{}, 1) == Dims{});
  CHECK(infer_size("view", Sizes{0, 5}, 0) == Dims{0, 5});
  const std::tuple<Sizes, std::int64_t, std::string> errors[] = {
      {{4, -1}, 6, "view: shape [4, -1] is invalid for input of size 6"},
      {{4}, 6, "view: shape [4] is invalid for input of size 6"},
      {{-1, -1}, 6, "view: only one dimension can be inferred, got [-1, -1]"},
      {{-2, 3}, 6, "view: invalid size -2 in [-2, 3]"},
      {{0, -1}, 0, "view: shape [0, -1] is invalid for input of size 0: -1 is ambiguous beside a size of 0"},
      {{}, 2, "view: shape [] is invalid for input of size 2"},
  };
  for (const auto& [sizes, numel, message] : errors) {
    CHECK(message_of([&, s = sizes, n = numel] { infer_size("view", s, n); }) == message);
  }
}

TEST_CASE("a view exists exactly when strides for it exist", "[shape]") {
  for (const Geometry& layout : kLayouts) {
    const std::vector<std::int64_t> memory = offsets(layout.sizes, layout.strides);
    for (const Sizes& target : shapes_of(static_cast<std::int64_t>(memory.size()))) {
      INFO(IntArrayRef(layout.sizes) << " " << IntArrayRef(layout.strides) << " as " << IntArrayRef(target));
      const std::optional<Dims> strides = view_strides(layout.sizes, layout.strides, target);
      CHECK(strides.has_value() == can_view(memory, target));
      if (strides) CHECK(offsets(target, *strides) == memory);
    }
  }
}

TEST_CASE("views to and from no dimensions, and without elements", "[shape]") {
  CHECK(view_strides(Sizes{1, 1}, Sizes{3, 5}, Sizes{}) == std::optional<Dims>(Dims{}));
  CHECK(view_strides(Sizes{}, Sizes{}, Sizes{1, 1}).has_value());
  CHECK(view_strides(Sizes{0, 3}, Sizes{3, 1}, Sizes{3, 0}).has_value());
  CHECK(view_strides(Sizes{2, 0}, Sizes{1, 1}, Sizes{0}).has_value());
}

TEST_CASE("dimensions to reduce become a mask", "[shape]") {
  CHECK(dim_mask("sum", Sizes{}, 3) == 0b111u);
  CHECK(dim_mask("sum", Sizes{0, -1}, 3) == 0b101u);
  CHECK(dim_mask("sum", Sizes{1}, 8) == 0b10u);
  CHECK(dim_mask("sum", Sizes{}, 0) == 0u);
  CHECK(dim_mask("sum", Sizes{0}, 0) == 0u);
  CHECK(dim_mask("sum", Sizes{-1}, 0) == 0u);
  CHECK(message_of([] { dim_mask("sum", Sizes{1, -2}, 3); }) == "sum: dim -2 appears twice in [1, -2]");
  CHECK(message_of([] { dim_mask("sum", Sizes{3}, 3); }) ==
        "Dimension out of range (expected to be in range of [-3, 2], but got 3)");
}

TEST_CASE("reduced sizes", "[shape]") {
  const Sizes sizes{2, 3, 4};
  CHECK(reduced_sizes(sizes, 0b010, false) == Dims{2, 4});
  CHECK(reduced_sizes(sizes, 0b010, true) == Dims{2, 1, 4});
  CHECK(reduced_sizes(sizes, 0b111, false) == Dims{});
  CHECK(reduced_sizes(sizes, 0b111, true) == Dims{1, 1, 1});
  CHECK(reduced_sizes(sizes, 0, false) == Dims{2, 3, 4});
}

TEST_CASE("contiguous means row-major without gaps", "[shape]") {
  for (const Geometry& layout : kLayouts) {
    INFO(IntArrayRef(layout.sizes) << " " << IntArrayRef(layout.strides));
    std::vector<std::int64_t> memory = offsets(layout.sizes, layout.strides);
    std::vector<std::int64_t> straight(memory.size());
    std::iota(straight.begin(), straight.end(), 0);
    CHECK(is_contiguous(layout.sizes, layout.strides) == (memory == straight));
    std::sort(memory.begin(), memory.end());
    CHECK(is_dense(layout.sizes, layout.strides) == (memory == straight));
  }
  CHECK(is_contiguous(Sizes{2, 0}, Sizes{7, 9}));
  CHECK(is_contiguous(Sizes{0, 2}, Sizes{7, 9}));
}

TEST_CASE("preserved strides are dense and keep the order of the axes", "[shape]") {
  for (const Geometry& layout : kLayouts) {
    INFO(IntArrayRef(layout.sizes) << " " << IntArrayRef(layout.strides));
    const Dims kept = preserved_strides(layout.sizes, layout.strides);
    CHECK(is_dense(layout.sizes, kept));
    if (is_dense(layout.sizes, layout.strides)) {
      CHECK(offsets(layout.sizes, kept) == offsets(layout.sizes, layout.strides));
    }
    const bool expanded = std::count(layout.strides.begin(), layout.strides.end(), 0) > 0;
    if (expanded) CHECK(kept == contiguous_strides(layout.sizes));
    for (std::size_t a = 0; a < kept.size() && !expanded; ++a) {
      for (std::size_t b = 0; b < kept.size(); ++b) {
        if (layout.sizes[a] == 1 || layout.sizes[b] == 1 || layout.strides[a] >= layout.strides[b]) continue;
        CHECK(kept[a] < kept[b]);
      }
    }
  }
}

TEST_CASE("channels last", "[shape]") {
  CHECK(channels_last_strides(Sizes{2, 3, 4, 5}) == Dims{60, 1, 15, 3});
  CHECK(channels_last_strides(Sizes{2, 3, 4, 5, 6}) == Dims{360, 1, 90, 18, 3});
  CHECK(is_channels_last(Sizes{2, 3, 4, 5}, Sizes{60, 1, 15, 3}));
  CHECK_FALSE(is_channels_last(Sizes{2, 3, 4, 5}, Sizes{60, 20, 5, 1}));
  CHECK_FALSE(is_channels_last(Sizes{2, 3, 4}, Sizes{12, 1, 3}));
  CHECK(is_channels_last(Sizes{2, 1, 4, 5}, Sizes{20, 20, 5, 1}));  // one channel: both at once
  CHECK(message_of([] {
          channels_last_strides(Sizes{2, 3});
        }) == "channels_last: needs [N, C, H, W] or [N, C, D, H, W], not [2, 3]");
}

TEST_CASE("a coalesced loop visits the same elements of all operands together", "[shape]") {
  const auto pairs = [](IntArrayRef sizes, IntArrayRef a, IntArrayRef b) {
    const std::vector<std::int64_t> x = offsets(sizes, a), y = offsets(sizes, b);
    std::multiset<std::pair<std::int64_t, std::int64_t>> out;
    for (std::size_t i = 0; i < x.size(); ++i) out.emplace(x[i], y[i]);
    return out;
  };
  for (const Geometry& a : kLayouts) {
    for (const Geometry& b : kLayouts) {
      if (a.sizes != b.sizes) continue;
      INFO(IntArrayRef(a.sizes) << " " << IntArrayRef(a.strides) << " " << IntArrayRef(b.strides));
      const Loop loop = coalesce(a.sizes, {IntArrayRef(a.strides), IntArrayRef(b.strides)});
      CHECK(loop.operands == 2);
      CHECK(loop.sizes.size() >= 1);
      CHECK(pairs(loop.sizes, loop.strides[0], loop.strides[1]) == pairs(a.sizes, a.strides, b.strides));
    }
  }
}

TEST_CASE("dense operands of one layout coalesce to a single axis of stride 1", "[shape]") {
  for (const Geometry& layout : kLayouts) {
    if (!is_dense(layout.sizes, layout.strides)) continue;
    INFO(IntArrayRef(layout.sizes) << " " << IntArrayRef(layout.strides));
    const IntArrayRef s = layout.strides;
    const Loop loop = coalesce(layout.sizes, {s, s, s});
    CHECK(loop.sizes == Dims{count_elements(layout.sizes)});
    if (count_elements(layout.sizes) > 1) CHECK(loop.strides[2] == Dims{1});
  }
}

TEST_CASE("a broadcast operand keeps an axis of its own", "[shape]") {
  const Loop bias = coalesce(Sizes{8, 5}, {Sizes{5, 1}, Sizes{0, 1}});
  CHECK(bias.sizes == Dims{8, 5});
  CHECK(bias.strides[1] == Dims{0, 1});
  const Loop scalar = coalesce(Sizes{8, 5}, {Sizes{5, 1}, Sizes{0, 0}});
  CHECK(scalar.sizes == Dims{40});
  CHECK(scalar.strides[1] == Dims{0});
}

TEST_CASE("more dimensions than fit are refused", "[shape]") {
  CHECK(message_of([] { empty({1, 1, 1, 1, 1, 1, 1, 1, 1}); }) == "a tensor has at most 8 dimensions, not 9");
  CHECK_NOTHROW(empty({1, 1, 1, 1, 1, 1, 1, 1}));
}

TEST_CASE("factories refuse impossible geometry", "[shape]") {
  float value = 0;
  CHECK(message_of([] { empty({2, -1}); }) == "empty: a size cannot be negative, got [2, -1]");
  CHECK(message_of([] { empty_strided({2, -1}, {1, 1}); }) == "empty_strided: a size cannot be negative, got [2, -1]");
  CHECK(message_of([] {
          empty_strided({2, 3}, {1});
        }) == "empty_strided: sizes [2, 3] and strides [1] differ in length");
  CHECK(message_of([&] { from_blob(&value, {-3}); }) == "from_blob: a size cannot be negative, got [-3]");
  CHECK(message_of([&] {
          from_blob(&value, {1, 1}, Sizes{1});
        }) == "from_blob: sizes [1, 1] and strides [1] differ in length");
}

TEST_CASE("Dims and ArrayRef behave as small vectors", "[shape]") {
  Dims d{2, 3};
  d.insert(1, 7);
  CHECK(d == Dims{2, 7, 3});
  d.insert(3, 9);
  d.erase(0);
  CHECK(d == Dims{7, 3, 9});
  CHECK(str(d) == "[7, 3, 9]");
  CHECK(str(IntArrayRef()) == "[]");
  const Sizes values{1, 2, 3, 4};
  const IntArrayRef ref = values;
  CHECK(ref.slice(1, 2).vec() == Sizes{2, 3});
  CHECK(ref.slice(2).vec() == Sizes{3, 4});
  CHECK(ref.at(3) == 4);
  CHECK(message_of([&] { ref.at(4); }) == "ArrayRef: index 4 is out of range for 4 elements");
  CHECK(message_of([&] { ref.slice(3, 2); }) == "ArrayRef: slice of 2 from 3 of 4");
  const std::int64_t one = 5;
  CHECK(IntArrayRef(one).vec() == Sizes{5});
}

TEST_CASE("metadata of a tensor, and what an undefined one answers", "[shape]") {
  const Tensor t = empty({2, 3, 4}, TensorOptions(kHalf).device(kCPU));
  CHECK(t.dim() == 3);
  CHECK(t.size(-1) == 4);
  CHECK(t.stride(0) == 12);
  CHECK(t.numel() == 24);
  CHECK(t.nbytes() == 48);
  CHECK(str(describe(t)) == "float16[2, 3, 4]");
  CHECK(str(describe(empty(1, "cpu:2"))) == "float32[1] on cpu:2");
  CHECK(str(describe(Tensor())) == "an undefined tensor");
  CHECK(message_of([&] { t.size(3); }) == "Dimension out of range (expected to be in range of [-3, 2], but got 3)");
  CHECK(message_of([] { empty({}).size(0); }) == "Dimension specified as 0 but tensor has no dimensions");
  CHECK(message_of([] { Tensor().sizes(); }) == "a defined tensor is needed, this one is undefined");
  CHECK(message_of([&] { t.data_ptr<float>(); }) == "data_ptr: expected scalar type float32 but found float16");
  CHECK(message_of([&] { t.accessor<Half, 2>(); }) == "accessor: expected 2 dims but tensor has 3");
  CHECK(message_of([&] { t.item(); }) == "item: a Tensor with 24 elements cannot be converted to Scalar");
}
