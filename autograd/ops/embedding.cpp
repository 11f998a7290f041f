// Rows of a table.
#include "autograd/ops/index_place.h"

namespace halftone {

namespace {

struct EmbeddingRule {
  IndexPlace place;
  std::int64_t padding_idx;
  bool by_frequency;
  auto saved() { return std::tie(place.indices); }

  Tensor forward(const Tensor& weight) const {
    Tensor y = empty(place.result_sizes(), weight.options());
    if (y.numel() > 0) place.with_plan(weight, [&](const IndexPlan& plan) { backend(weight).index(plan, weight, y); });
    return y;
  }
  std::array<Tensor, 1> backward(const Tensor& g, Wants) const {
    const Tensor indices = *place.indices[0];
    Tensor rows = g;
    if (by_frequency) rows = rows / counts(indices).to(g.dtype()).unsqueeze(-1);
    if (padding_idx >= 0) rows = masked_fill(rows, indices.eq(padding_idx).unsqueeze(-1), 0);
    return {add_to_zeros(place, rows)};
  }
  // How often each index occurs, in the places of the indices.
  Tensor counts(const Tensor& indices) const {
    const Tensor list = indices.reshape({indices.numel()});
    const Tensor all = index_add(zeros({place.sizes[0]}, list.options()), 0, list, ones_like(list));
    return all.index_select(0, list).reshape(indices.sizes());
  }
};

}  // namespace

Tensor embedding(const Tensor& weight, const Tensor& indices, std::int64_t padding_idx, bool scale_grad_by_freq,
                 bool sparse) {
  check<ValueError>(weight.dim() == 2, "embedding: expected a weight [num, dim], got ", describe(weight));
  check<NotImplementedError>(!sparse, "embedding: gradients are dense, sparse must be false");
  return apply(op("embedding"),
               EmbeddingRule{place_along("embedding", weight, 0, indices), padding_idx, scale_grad_by_freq},
               std::array{weight});
}

}  // namespace halftone
