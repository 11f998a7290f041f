// How the elements of a list of tensors are packed into few launches. Pure arithmetic on sizes: it knows of no device,
// and the launch knows nothing of how tensors are cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace halftone {

/// Consecutive elements of one tensor: a block's work.
struct ListPiece {
  std::int64_t first = 0;
  std::int32_t count = 0;
  std::int32_t tensor = 0;  // its position in the list
  bool operator==(const ListPiece&) const = default;
};

/// Consecutive pieces: a launch on a GPU, a thread's share on a CPU. Its pieces belong to the `tensors` tensors of the
/// list from `first_tensor` on, so that a kernel's argument need not hold others.
struct ListBatch {
  std::int32_t first_piece = 0;
  std::int32_t pieces = 0;
  std::int32_t first_tensor = 0;
  std::int32_t tensors = 0;
  bool operator==(const ListBatch&) const = default;
};

struct ListLimits {
  std::int32_t piece_elements = 1 << 15;
  std::int64_t batch_elements = INT64_MAX;  // no piece is added to a batch that holds as many
  std::int32_t batch_pieces = INT32_MAX;
  std::int32_t batch_tensors = INT32_MAX;
};

struct ListPlan {
  std::vector<ListPiece> pieces;
  std::vector<ListBatch> batches;
};

/// Empty tensors get no piece.
inline std::vector<ListPiece> cut_into_pieces(std::span<const std::int64_t> sizes, std::int32_t piece_elements) {
  std::vector<ListPiece> pieces;
  pieces.reserve(sizes.size());
  for (std::size_t t = 0; t < sizes.size(); ++t) {
    for (std::int64_t first = 0; first < sizes[t]; first += piece_elements) {
      const auto count = static_cast<std::int32_t>(std::min<std::int64_t>(sizes[t] - first, piece_elements));
      pieces.push_back({first, count, static_cast<std::int32_t>(t)});
    }
  }
  return pieces;
}

inline ListPlan plan_list(std::span<const std::int64_t> sizes, const ListLimits& limits) {
  ListPlan plan{cut_into_pieces(sizes, limits.piece_elements), {}};
  std::int64_t elements = 0;
  const auto fits = [&](const ListBatch& batch, const ListPiece& piece) {
    return elements < limits.batch_elements && batch.pieces < limits.batch_pieces &&
           piece.tensor - batch.first_tensor < limits.batch_tensors;
  };
  for (std::size_t i = 0; i < plan.pieces.size(); ++i) {
    const ListPiece& piece = plan.pieces[i];
    if (plan.batches.empty() || !fits(plan.batches.back(), piece)) {
      plan.batches.push_back({static_cast<std::int32_t>(i), 0, piece.tensor, 0});
      elements = 0;
    }
    ListBatch& batch = plan.batches.back();
    ++batch.pieces;
    batch.tensors = piece.tensor - batch.first_tensor + 1;
    elements += piece.count;
  }
  return plan;
}

}  // namespace halftone
