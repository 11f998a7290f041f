#include "core/error.h"
#include "kernels/cpu/onednn.h"

#if HALFTONE_HAS_ONEDNN

#include "kernels/cpu/onednn_api.h"

namespace halftone::cpu::onednn {

namespace {

/// Sizes, strides and options of a product: all that a primitive depends on.
using MatmulKey = Key<9>;

enum Option : std::int64_t { kRelu = 1, kAccumulate = 2, kBias = 4, kBiasFloat = 8 };

std::int64_t options(const GemmArgs& args) {
  std::int64_t o = 0;
  if (args.activation == Activation::relu) o |= kRelu;
  if (args.accumulate) o |= kAccumulate;
  if (args.bias != nullptr) o |= kBias;
  if (args.bias != nullptr && args.bias_dtype == kFloat32) o |= kBiasFloat;
  return o;
}

/// The stride of an axis of size 1 means nothing, but the library looks at it: a row is row-major, a column too.
template <class Pointer> Dims strides_of(const MatrixView<Pointer>& v) {
  if (v.cols <= 1 && v.row_stride != 1) return {v.rows <= 1 ? 1 : v.row_stride, 1};
  if (v.rows <= 1 && v.col_stride == 1) return {v.cols, 1};
  return {v.row_stride, v.col_stride};
}

template <class Pointer> Desc describe(const MatrixView<Pointer>& v) {
  return Desc({v.rows, v.cols}, dnnl::memory::data_type::bf16, strides_of(v));
}

std::unique_ptr<Call> make_matmul(const GemmArgs& args) {
  dnnl::primitive_attr attr = own_scratchpad();
  dnnl::post_ops ops;
  if (args.accumulate) ops.append_sum(1.0f);
  if (args.activation == Activation::relu) append_relu(ops);
  attr.set_post_ops(ops);
  const Desc bias =
      args.bias == nullptr ? Desc() : Desc({1, args.y.cols}, data_type(args.bias_dtype), Dims{args.y.cols, 1});
  const auto desc = matmul_desc(describe(args.a), describe(args.b), bias, describe(args.y), attr);
  auto call = std::make_unique<Call>();
  call->primitive = dnnl::matmul(desc);
  call->add(DNNL_ARG_SRC, describe(args.a));
  call->add(DNNL_ARG_WEIGHTS, describe(args.b));
  call->add(DNNL_ARG_DST, describe(args.y));
  if (args.bias != nullptr) call->add(DNNL_ARG_BIAS, bias);
  call->add_scratchpad(desc.scratchpad_desc());
  return call;
}

}  // namespace

void sgemm(const Sgemm& p) {
  const SingleThreaded scope;
  const auto status = dnnl_sgemm(p.a_transposed ? 'T' : 'N', p.b_transposed ? 'T' : 'N', p.m, p.n, p.k, 1.0f, p.a,
                                 p.lda, p.b, p.ldb, p.accumulate ? 1.0f : 0.0f, p.c, p.ldc);
  check(status == dnnl_success, "oneDNN: a product [", p.m, ", ", p.k, "] x [", p.k, ", ", p.n, "] failed, status ",
        status);
}

void matmul_bf16(const GemmArgs& args) {
  static thread_local Cache<MatmulKey, Call> cache;
  const MatmulKey key{args.y.rows,       args.y.cols,       args.a.cols,       args.a.row_stride, args.a.col_stride,
                      args.b.row_stride, args.b.col_stride, args.y.row_stride, options(args)};
  const SingleThreaded scope;
  Call& call = cache.get(key, [&] { return make_matmul(args); });
  call.point(DNNL_ARG_SRC, args.a.data);
  call.point(DNNL_ARG_WEIGHTS, args.b.data);
  call.point(DNNL_ARG_DST, args.y.data);
  if (args.bias != nullptr) call.point(DNNL_ARG_BIAS, args.bias);
  call.run();
}

}  // namespace halftone::cpu::onednn

#endif
