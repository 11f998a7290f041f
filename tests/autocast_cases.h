// A row a case for ops whose precision autocast decides, and PyTorch's "check op" on them: test_autocast.cpp runs them
// on the device under test, test_cuda_autocast.cpp on every GPU.
#pragma once

#include <array>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "amp/amp.h"
#include "autograd/apply.h"
#include "autograd/ops.h"
#include "tests/catch.h"
#include "tests/devices.h"

namespace halftone::test {

struct AutocastCase {
  std::string op;  // the row of the op table
  std::vector<Dims> shapes;
  std::function<Tensor(const std::vector<Tensor>&)> run;
  std::function<Tensor(const std::vector<Tensor>&)> run_in_float32 = {};  // of ops that take a dtype: it is named
};

inline constexpr std::int64_t kAutocastSize = 8;

inline const std::vector<AutocastCase>& autocast_cases() {
  using Args = const std::vector<Tensor>&;
  static constexpr std::int64_t n = kAutocastSize;
  static constexpr auto labels = [] { return arange(n).remainder(3); };
  static constexpr auto images = [](Args a) { return a[0].view({1, 2, 2, 2, n}); };
  static const std::vector<AutocastCase> all = {
      {"matmul", {{n, n}, {n, n}}, [](Args a) { return a[0].matmul(a[1]); }},
      {"mm", {{n, n}, {n, n}}, [](Args a) { return a[0].mm(a[1]); }},
      {"bmm", {{2, n, n}, {2, n, n}}, [](Args a) { return a[0].bmm(a[1]); }},
      {"mv", {{n, n}, {n}}, [](Args a) { return a[0].mv(a[1]); }},
      {"addmm", {{n, n}, {n, n}, {n, n}}, [](Args a) { return a[0].addmm(a[1], a[2]); }},
      {"linear", {{n, n}, {n, n}, {n}}, [](Args a) { return linear(a[0], a[1], a[2]); }},
      {"scaled_dot_product_attention",
       {{2, 4, n}, {2, 4, n}, {2, 4, n}},
       [](Args a) { return scaled_dot_product_attention(a[0], a[1], a[2]); }},
      {"einsum", {{n, n}, {n, n}}, [](Args a) { return einsum("ij,jk->ik", a); }},
      {"conv1d", {{1, n, n}, {n, n, 3}, {n}}, [](Args a) { return conv1d(a[0], a[1], a[2]); }},
      {"conv2d", {{1, 2, n, n}, {4, 2, 3, 3}, {4}}, [](Args a) { return conv2d(a[0], a[1], a[2]); }},
      {"conv3d", {{1, 2, 4, 4, 4}, {4, 2, 3, 3, 3}, {4}}, [](Args a) { return conv3d(a[0], a[1], a[2]); }},
      {"conv_transpose1d", {{1, n, n}, {n, n, 3}}, [](Args a) { return conv_transpose1d(a[0], a[1]); }},
      {"conv_transpose2d", {{1, 2, n, n}, {2, 4, 3, 3}}, [](Args a) { return conv_transpose2d(a[0], a[1]); }},
      {"conv_transpose3d", {{1, 2, 4, 4, 4}, {2, 4, 3, 3, 3}}, [](Args a) { return conv_transpose3d(a[0], a[1]); }},

      {"pow", {{n}}, [](Args a) { return a[0].pow(1.7); }},
      {"pow", {{n}, {n}}, [](Args a) { return a[0].pow(a[1]); }},
      {"pow", {{n}}, [](Args a) { return pow(1.7, a[0]); }},
      {"square", {{n}}, [](Args a) { return a[0].square(); }},
      {"exp", {{n}}, [](Args a) { return a[0].exp(); }},
      {"expm1", {{n}}, [](Args a) { return a[0].expm1(); }},
      {"log", {{n}}, [](Args a) { return a[0].log(); }},
      {"log1p", {{n}}, [](Args a) { return a[0].log1p(); }},
      {"log2", {{n}}, [](Args a) { return a[0].log2(); }},
      {"log10", {{n}}, [](Args a) { return a[0].log10(); }},
      {"rsqrt", {{n}}, [](Args a) { return a[0].rsqrt(); }},
      {"reciprocal", {{n}}, [](Args a) { return a[0].reciprocal(); }},
      {"tan", {{n}}, [](Args a) { return a[0].tan(); }},
      {"sinh", {{n}}, [](Args a) { return a[0].sinh(); }},
      {"cosh", {{n}}, [](Args a) { return a[0].cosh(); }},
      {"softplus", {{n}}, [](Args a) { return softplus(a[0]); }},
      {"logsumexp", {{n, n}}, [](Args a) { return a[0].logsumexp(1); }},
      {"cosine_similarity", {{n, n}, {n, n}}, [](Args a) { return cosine_similarity(a[0], a[1]); }},
      {"layer_norm", {{n, n}, {n}, {n}}, [](Args a) { return layer_norm(a[0], n, a[1], a[2]); }},
      {"group_norm", {{2, 4, n}, {4}, {4}}, [](Args a) { return group_norm(a[0], 2, a[1], a[2]); }},
      {"cross_entropy_loss", {{n, n}}, [](Args a) { return cross_entropy_loss(a[0], labels()); }},
      {"nll_loss", {{n, n}}, [](Args a) { return nll_loss(a[0], labels()); }},
      {"mse_loss", {{n}, {n}}, [](Args a) { return mse_loss(a[0], a[1]); }},
      {"l1_loss", {{n}, {n}}, [](Args a) { return l1_loss(a[0], a[1]); }},
      {"smooth_l1_loss", {{n}, {n}}, [](Args a) { return smooth_l1_loss(a[0], a[1]); }},
      {"huber_loss", {{n}, {n}}, [](Args a) { return huber_loss(a[0], a[1]); }},
      {"kl_div", {{n}, {n}}, [](Args a) { return kl_div(a[0], a[1]); }},
      {"binary_cross_entropy_with_logits",
       {{n}, {n}},
       [](Args a) { return binary_cross_entropy_with_logits(a[0], a[1]); }},
      {"max_pool3d", {{n, n}}, [](Args a) { return max_pool3d(images(a), 2); }},
      {"avg_pool3d", {{n, n}}, [](Args a) { return avg_pool3d(images(a), 2); }},

      {"sum", {{n, n}}, [](Args a) { return a[0].sum(); }, [](Args a) { return a[0].sum(kFloat32); }},
      {"sum", {{n, n}}, [](Args a) { return a[0].sum(1); }, [](Args a) { return a[0].sum(1, false, kFloat32); }},
      {"prod", {{n}}, [](Args a) { return a[0].prod(); }, [](Args a) { return a[0].prod(kFloat32); }},
      {"prod",
       {{n, n}},
       [](Args a) { return a[0].prod(std::int64_t{1}); },
       [](Args a) { return a[0].prod(1, false, kFloat32); }},
      {"norm", {{n, n}}, [](Args a) { return a[0].norm(); }, [](Args a) { return a[0].norm(2, {}, false, kFloat32); }},
      {"norm",
       {{n, n}},
       [](Args a) { return a[0].norm(1, 1); },
       [](Args a) { return a[0].norm(1, 1, false, kFloat32); }},
      {"cumsum", {{n, n}}, [](Args a) { return a[0].cumsum(0); }, [](Args a) { return a[0].cumsum(0, kFloat32); }},
      {"cumprod", {{n, n}}, [](Args a) { return cumprod(a[0], 0); }, [](Args a) { return cumprod(a[0], 0, kFloat32); }},
      {"softmax", {{n, n}}, [](Args a) { return a[0].softmax(1); }, [](Args a) { return a[0].softmax(1, kFloat32); }},
      {"log_softmax",
       {{n, n}},
       [](Args a) { return a[0].log_softmax(1); },
       [](Args a) { return a[0].log_softmax(1, kFloat32); }},

      {"dot", {{n}, {n}}, [](Args a) { return a[0].dot(a[1]); }},
      {"atan2", {{n}, {n}}, [](Args a) { return atan2(a[0], a[1]); }},
      {"addcmul", {{n}, {n}, {n}}, [](Args a) { return a[0].addcmul(a[1], a[2]); }},
      {"addcdiv", {{n}, {n}, {n}}, [](Args a) { return a[0].addcdiv(a[1], a[2]); }},
      {"cat", {{n}, {n}}, [](Args a) { return cat(a); }},
      {"stack", {{n}, {n}}, [](Args a) { return stack(a); }},
      {"scatter_add", {{n}, {n}}, [](Args a) { return a[0].scatter_add(0, labels(), a[1]); }},
      {"index_put", {{n}, {n}}, [](Args a) { return index_put(a[0], {TensorIndex(labels())}, a[1], true); }},
  };
  return all;
}

/// Made on the default device; input i has the i-th dtype, over and over.
inline std::vector<Tensor> make_inputs(const AutocastCase& c, std::span<const Dtype> dtypes) {
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < c.shapes.size(); ++i) {
    const std::int64_t count = count_elements(c.shapes[i]);
    const Tensor x = ((arange(count, kFloat32) + static_cast<double>(i)).remainder(7) / 10 + 0.1).reshape(c.shapes[i]);
    inputs.push_back(x.to(dtypes[i % dtypes.size()]));
  }
  return inputs;
}

inline std::vector<Tensor> cast(const std::vector<Tensor>& inputs, Dtype dtype) {
  std::vector<Tensor> out;
  for (const Tensor& x : inputs) out.push_back(x.to(dtype));
  return out;
}

/// The result has the dtype, and is bit for bit that of the op on inputs cast by hand to `computed`.
inline void check_op(const AutocastCase& c, const std::vector<Tensor>& inputs, Dtype low, Dtype computed,
                     Dtype result) {
  INFO(c.op << " on " << describe_all(inputs) << " in a region of " << low);
  CHECK(!amp::is_autocast_enabled(kind()));
  {
    const amp::autocast region(kind(), low);
    CHECK(amp::is_autocast_enabled(kind()));
    const Tensor out = c.run(inputs);
    CHECK(out.dtype() == result);
    const amp::autocast off(kind(), nullopt, /*enabled=*/false);
    CHECK(!amp::is_autocast_enabled(kind()));
    CHECK(out.equal(c.run(cast(inputs, computed))));
  }
  CHECK(!amp::is_autocast_enabled(kind()));
}

/// Of all cases of that precision.
inline void check_ops(Precision precision, std::span<const Dtype> dtypes, Dtype low, Dtype computed, Dtype result) {
  for (const AutocastCase& c : autocast_cases()) {
    if (find_op(c.op)->precision == precision) check_op(c, make_inputs(c, dtypes), low, computed, result);
  }
}

/// Ops whose results, and not inputs, autocast makes float32: bit for bit as if the caller had asked for it, and as if
/// the inputs had been cast.
inline void check_outputs_full(Dtype came, Dtype low) {
  for (const AutocastCase& c : autocast_cases()) {
    if (find_op(c.op)->precision != Precision::full_if_unset) continue;
    INFO(c.op << " of " << came);
    const std::vector<Tensor> inputs = make_inputs(c, std::array{came});
    const Tensor asked = c.run_in_float32(inputs), of_cast = c.run(cast(inputs, kFloat32));
    const amp::autocast region(kind(), low);
    const Tensor out = c.run(inputs);
    CHECK(out.dtype() == kFloat32);
    CHECK(out.equal(asked));
    CHECK(out.equal(of_cast));
  }
}

}  // namespace halftone::test
