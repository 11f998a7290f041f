// A product of small matrices that lie in the first-level cache: no packing, no planning.
#pragma once

#include <cstdint>

namespace halftone::cpu {

/// c += a * b for a[m, k], b[k, n] and c[m, n]. Rows of b and c are padded to a multiple of kPanelLanes, which are read and
/// written too.
struct Panel {
  std::int64_t m, n, k;
  const float* a;
  std::int64_t a_row, a_col;
  const float* b;
  std::int64_t b_row;
  float* c;
  std::int64_t c_row;
};

inline constexpr std::int64_t kPanelLanes = 16;

constexpr std::int64_t panel_width(std::int64_t n) { return (n + kPanelLanes - 1) / kPanelLanes * kPanelLanes; }

namespace panel_detail {

/// A vector register, or as many as it takes, of the compiler's own vector type.
struct alignas(4) Lanes {
  typedef float Vector __attribute__((vector_size(kPanelLanes * sizeof(float)), aligned(4), may_alias));
};

template <int Rows, int Vectors>
inline void tile(const Panel& p, std::int64_t row, std::int64_t col) {
  using Vector = Lanes::Vector;
  Vector sum[Rows][Vectors];
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v)
      sum[i][v] = *reinterpret_cast<const Vector*>(p.c + (row + i) * p.c_row + col + v * kPanelLanes);
  for (std::int64_t l = 0; l < p.k; ++l) {
    Vector b[Vectors];
    for (int v = 0; v < Vectors; ++v) b[v] = *reinterpret_cast<const Vector*>(p.b + l * p.b_row + col + v * kPanelLanes);
    for (int i = 0; i < Rows; ++i)
      for (int v = 0; v < Vectors; ++v) sum[i][v] += b[v] * p.a[(row + i) * p.a_row + l * p.a_col];
  }
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v)
      *reinterpret_cast<Vector*>(p.c + (row + i) * p.c_row + col + v * kPanelLanes) = sum[i][v];
}

template <int Rows>
inline void rows(const Panel& p, std::int64_t row) {
  std::int64_t col = 0;
  for (; col + kPanelLanes < p.n; col += 2 * kPanelLanes) tile<Rows, 2>(p, row, col);
  if (col < p.n) tile<Rows, 1>(p, row, col);
}

template <int Rows>
inline void last_rows(const Panel& p, std::int64_t row) {
  if (p.m - row == Rows) return rows<Rows>(p, row);
  if constexpr (Rows > 1) last_rows<Rows - 1>(p, row);
}

}  // namespace panel_detail

inline void panel_product(const Panel& p) {
  constexpr int kRows = 8;  // 16 sums and 2 factors in the 32 registers of AVX-512
  std::int64_t row = 0;
  for (; row + kRows <= p.m; row += kRows) panel_detail::rows<kRows>(p, row);
  panel_detail::last_rows<kRows - 1>(p, row);
}

}  // namespace halftone::cpu
