// softmax(q k^T / sqrt(d)) v, of other ops.
#include <cmath>
#include <limits>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"

namespace halftone {
namespace {

// A bool mask says which keys a query may see; a floating one is added to the scores.
Tensor masked(const Tensor& scores, const Tensor& mask) {
  if (!mask.defined()) return scores;
  if (mask.dtype() != kBool) return scores + mask;
  return masked_fill(scores, mask.logical_not(), -std::numeric_limits<double>::infinity());
}

// Query i sees the keys up to i.
Tensor causal_mask(const Tensor& q, const Tensor& k) {
  return tril(ones({q.size(-2), k.size(-2)}, TensorOptions(kBool).device(q.device())));
}

}  // namespace

Tensor scaled_dot_product_attention(const Tensor& query, const Tensor& key, const Tensor& value,
                                    const Tensor& attn_mask, double dropout_p, bool is_causal, optional<double> scale) {
  const OpInfo& info = op("scaled_dot_product_attention");
  check<ValueError>(query.dim() >= 2 && key.dim() >= 2 && value.dim() >= 2, info.name,
                    ": expected query, key and value of at least 2 dimensions [..., length, width], got ",
                    describe(query), ", ", describe(key), " and ", describe(value));
  check<ValueError>(!is_causal || !attn_mask.defined(), info.name, ": attn_mask must not be given when is_causal is");
  return apply_composite(info, std::array{query, key, value, attn_mask},
                         [&](const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& mask) {
                           const double factor = scale.value_or(1 / std::sqrt(static_cast<double>(q.size(-1))));
                           const Tensor scores = matmul(q, k.transpose(-1, -2)) * factor;
                           const Tensor weights = softmax(masked(scores, is_causal ? causal_mask(q, k) : mask), -1);
                           return matmul(dropout(weights, dropout_p, true), v);
                         });
}

}  // namespace halftone
