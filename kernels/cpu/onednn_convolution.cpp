// Measured on processors with AVX-512 and AMX: with channels last and weights in the library's own order, convolutions
// are as quick as with both in its blocked orders, and two to eight times as quick as with channels first. So
// activations that have their channels first are copied to the order the library likes best; its copies back from there
// are the quicker ones too.
#include "core/error.h"
#include "kernels/cpu/onednn.h"

#if HALFTONE_HAS_ONEDNN

#include "kernels/cpu/onednn_api.h"

namespace halftone::cpu::onednn {

namespace {

using ForwardDesc = dnnl::convolution_forward::primitive_desc;

enum class Kind : std::int64_t { forward, data, weight };

using ConvKey = Key<28>;

ConvKey key_of(Kind kind, const ConvShape& s, Dtype dtype, bool x_last, bool w_last, bool y_last, std::int64_t bias) {
  ConvKey key{static_cast<std::int64_t>(kind),
              s.rank,
              s.batch,
              s.in_channels,
              s.out_channels,
              s.groups,
              static_cast<std::int64_t>(dtype),
              x_last * 4 + w_last * 2 + y_last,
              bias};
  std::size_t at = 9;
  for (const auto* sizes : {s.in, s.kernel, s.out, s.stride, s.padding, s.dilation})
    for (int i = 0; i < 3; ++i) key[at++] = i < s.rank ? sizes[i] : 0;
  return key;
}

Dims spatial(const std::int64_t (&sizes)[3], int rank) { return Dims(sizes, sizes + rank); }

ConvDims dims_of(const ConvShape& s) {
  ConvDims d{spatial(s.stride, s.rank), spatial(s.dilation, s.rank), spatial(s.padding, s.rank), {}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(s.rank); ++i) {
    d.dilation[i] -= 1;
    d.padding_after.push_back((s.out[i] - 1) * s.stride[i] + s.dilation[i] * (s.kernel[i] - 1) + 1 - s.in[i] -
                              s.padding[i]);
  }
  return d;
}

Dims with_spatial(Dims front, const std::int64_t (&sizes)[3], int rank) {
  front.insert(front.end(), sizes, sizes + rank);
  return front;
}

/// Strides of [lead..., channels, spatial...], the channels innermost or before the spatial axes.
Dims strides_of(const Dims& sizes, std::size_t channel_axis, bool channels_last) {
  Dims strides(sizes.size());
  std::int64_t step = 1;
  if (channels_last) {
    strides[channel_axis] = 1;
    step = sizes[channel_axis];
  }
  for (std::size_t i = sizes.size(); i-- > 0;) {
    if (channels_last && i == channel_axis) continue;
    strides[i] = step;
    step *= sizes[i];
  }
  return strides;
}

struct Tensors {
  Dims x, w, y;
  std::size_t w_channels;  // axis of the input channels in w
};

Tensors tensors_of(const ConvShape& s) {
  Tensors t;
  t.x = with_spatial({s.batch, s.in_channels}, s.in, s.rank);
  t.y = with_spatial({s.batch, s.out_channels}, s.out, s.rank);
  t.w = s.groups == 1 ? with_spatial({s.out_channels, s.in_channels}, s.kernel, s.rank)
                      : with_spatial({s.groups, s.out_channels / s.groups, s.in_channels / s.groups}, s.kernel, s.rank);
  t.w_channels = s.groups == 1 ? 1 : 2;
  return t;
}

Desc activation_desc(const Dims& sizes, Dtype dtype, bool channels_last) {
  return Desc(sizes, data_type(dtype), strides_of(sizes, 1, channels_last));
}

Desc weight_desc(const Tensors& t, Dtype dtype, bool channels_last) {
  return Desc(t.w, data_type(dtype), strides_of(t.w, t.w_channels, channels_last));
}

/// A copy from the caller's order to the library's or back. Empty when the two are the same.
struct Reorder {
  Call call;
  std::size_t bytes = 0;  // of the copy
  ScratchUse use{};

  bool needed() const { return bytes != 0; }
  void* copy() const { return scratch(use, bytes); }
  void run(const void* from, const void* to) {
    call.point(DNNL_ARG_FROM, from);
    call.point(DNNL_ARG_TO, to);
    call.run();
  }
};

Reorder make_reorder(const Desc& from, const Desc& to, std::size_t copy_bytes, ScratchUse use) {
  Reorder r;
  if (from == to) return r;
  const dnnl::reorder::primitive_desc desc(cpu_engine(), from, cpu_engine(), to, own_scratchpad());
  r.call.primitive = dnnl::reorder(desc);
  r.call.add(DNNL_ARG_FROM, from);
  r.call.add(DNNL_ARG_TO, to);
  r.call.add_scratchpad(desc.scratchpad_desc());
  r.bytes = copy_bytes;
  r.use = use;
  return r;
}

Reorder make_input(const Desc& caller, const Desc& library, ScratchUse use) {
  return make_reorder(caller, library, library.get_size(), use);
}
Reorder make_output(const Desc& library, const Desc& caller, ScratchUse use) {
  return make_reorder(library, caller, library.get_size(), use);
}

/// A convolution primitive between the copies of its inputs and its output.
struct ConvCall {
  bool quick = false;  // false: the library has only a slow way
  Call call;
  Reorder first, second, result;

  void run(int first_arg, const void* first_data, int second_arg, const void* second_data, int result_arg,
           void* result_data) {
    call.point(first_arg, copied(first, first_data));
    call.point(second_arg, copied(second, second_data));
    call.point(result_arg, result.needed() ? result.copy() : result_data);
    call.run();
    if (result.needed()) result.run(result.copy(), result_data);
  }

 private:
  static const void* copied(Reorder& r, const void* data) {
    if (!r.needed()) return data;
    r.run(data, r.copy());
    return r.copy();
  }
};

bool is_quick(const char* implementation) {
  return std::strstr(implementation, "ref") == nullptr && std::strstr(implementation, "gemm") == nullptr;
}

thread_local Cache<ConvKey, ConvCall> cache;

Desc any_desc(const Dims& sizes, Dtype dtype) { return Desc(sizes, data_type(dtype), dnnl::memory::format_tag::any); }

/// What the library is offered: channels last if one of the activations is, else its choice; weights are always its
/// choice.
struct Offer {
  Desc x, w, y;

  Offer(const Tensors& t, Dtype dtype, bool channels_last)
      : x(channels_last ? activation_desc(t.x, dtype, true) : any_desc(t.x, dtype)),
        w(any_desc(t.w, dtype)),
        y(channels_last ? activation_desc(t.y, dtype, true) : any_desc(t.y, dtype)) {}
};

ForwardDesc plan_forward(const ConvShape& s, const Offer& offer, const Desc& bias) {
  return forward_desc(offer.x, offer.w, bias, offer.y, dims_of(s));
}

/// Runs `make` with an empty result; where the library declines a description, it stays "not quick".
template <class Make> std::unique_ptr<ConvCall> made(Make make) {
  auto c = std::make_unique<ConvCall>();
  try {
    make(*c);
  } catch (const dnnl::error& e) {
    if (e.status != dnnl_unimplemented) throw Error(str("oneDNN: ", e.what()));
    c->quick = false;
  }
  return c;
}

Desc vector_desc(std::int64_t n, Dtype dtype) { return Desc({n}, data_type(dtype), Dims{1}); }

}  // namespace

bool conv_forward(const ConvShape& s, const ConstConvData& x, const ConstConvData& w, const ConstConvData& bias,
                  const ConvData& y) {
  const SingleThreaded scope;
  const std::int64_t bias_kind = bias.data == nullptr ? -1 : static_cast<std::int64_t>(bias.dtype);
  const auto key = key_of(Kind::forward, s, x.dtype, x.channels_last, w.channels_last, y.channels_last, bias_kind);
  ConvCall& c = cache.get(key, [&] {
    return made([&](ConvCall& out) {
      const Tensors t = tensors_of(s);
      const Desc bias_desc = bias.data == nullptr ? Desc() : vector_desc(s.out_channels, bias.dtype);
      const ForwardDesc desc = plan_forward(s, Offer(t, x.dtype, x.channels_last || y.channels_last), bias_desc);
      out.quick = is_quick(desc.impl_info_str());
      out.call.primitive = dnnl::convolution_forward(desc);
      out.call.add(DNNL_ARG_SRC, desc.src_desc());
      out.call.add(DNNL_ARG_WEIGHTS, desc.weights_desc());
      out.call.add(DNNL_ARG_DST, desc.dst_desc());
      if (bias.data != nullptr) out.call.add(DNNL_ARG_BIAS, bias_desc);
      out.call.add_scratchpad(desc.scratchpad_desc());
      out.first =
          make_input(activation_desc(t.x, x.dtype, x.channels_last), desc.src_desc(), ScratchUse::reorder_input);
      out.second =
          make_input(weight_desc(t, w.dtype, w.channels_last), desc.weights_desc(), ScratchUse::reorder_weight);
      out.result =
          make_output(desc.dst_desc(), activation_desc(t.y, y.dtype, y.channels_last), ScratchUse::reorder_output);
    });
  });
  if (!c.quick) return false;
  if (bias.data != nullptr) c.call.point(DNNL_ARG_BIAS, bias.data);
  c.run(DNNL_ARG_SRC, x.data, DNNL_ARG_WEIGHTS, w.data, DNNL_ARG_DST, y.data);
  return true;
}

bool conv_backward_data(const ConvShape& s, const ConstConvData& g, const ConstConvData& w, const ConvData& dx) {
  const SingleThreaded scope;
  const auto key = key_of(Kind::data, s, g.dtype, dx.channels_last, w.channels_last, g.channels_last, -1);
  ConvCall& c = cache.get(key, [&] {
    return made([&](ConvCall& out) {
      const Tensors t = tensors_of(s);
      const Offer offer(t, g.dtype, g.channels_last || dx.channels_last);
      const auto desc = backward_data_desc(offer.x, offer.w, offer.y, dims_of(s), plan_forward(s, offer, Desc()));
      out.quick = is_quick(desc.impl_info_str());
      out.call.primitive = dnnl::convolution_backward_data(desc);
      out.call.add(DNNL_ARG_DIFF_DST, desc.diff_dst_desc());
      out.call.add(DNNL_ARG_WEIGHTS, desc.weights_desc());
      out.call.add(DNNL_ARG_DIFF_SRC, desc.diff_src_desc());
      out.call.add_scratchpad(desc.scratchpad_desc());
      out.first =
          make_input(activation_desc(t.y, g.dtype, g.channels_last), desc.diff_dst_desc(), ScratchUse::reorder_output);
      out.second =
          make_input(weight_desc(t, w.dtype, w.channels_last), desc.weights_desc(), ScratchUse::reorder_weight);
      out.result = make_output(desc.diff_src_desc(), activation_desc(t.x, dx.dtype, dx.channels_last),
                               ScratchUse::reorder_input);
    });
  });
  if (!c.quick) return false;
  c.run(DNNL_ARG_DIFF_DST, g.data, DNNL_ARG_WEIGHTS, w.data, DNNL_ARG_DIFF_SRC, dx.data);
  return true;
}

bool conv_backward_weight(const ConvShape& s, const ConstConvData& x, const ConstConvData& g, const ConvData& dw,
                          const ConvData& dbias) {
  const SingleThreaded scope;
  const std::int64_t bias_kind = dbias.data == nullptr ? -1 : 0;
  const auto key = key_of(Kind::weight, s, x.dtype, x.channels_last, dw.channels_last, g.channels_last, bias_kind);
  ConvCall& c = cache.get(key, [&] {
    return made([&](ConvCall& out) {
      const Tensors t = tensors_of(s);
      const Desc bias_desc = dbias.data == nullptr ? Desc() : vector_desc(s.out_channels, kFloat32);
      const Offer offer(t, x.dtype, x.channels_last || g.channels_last);
      const auto desc = backward_weight_desc(offer.x, any_desc(t.w, kFloat32), bias_desc, offer.y, dims_of(s),
                                             plan_forward(s, offer, Desc()));
      out.quick = is_quick(desc.impl_info_str());
      out.call.primitive = dnnl::convolution_backward_weights(desc);
      out.call.add(DNNL_ARG_SRC, desc.src_desc());
      out.call.add(DNNL_ARG_DIFF_DST, desc.diff_dst_desc());
      out.call.add(DNNL_ARG_DIFF_WEIGHTS, desc.diff_weights_desc());
      if (dbias.data != nullptr) out.call.add(DNNL_ARG_DIFF_BIAS, bias_desc);
      out.call.add_scratchpad(desc.scratchpad_desc());
      out.first =
          make_input(activation_desc(t.x, x.dtype, x.channels_last), desc.src_desc(), ScratchUse::reorder_input);
      out.second =
          make_input(activation_desc(t.y, g.dtype, g.channels_last), desc.diff_dst_desc(), ScratchUse::reorder_output);
      out.result =
          make_output(desc.diff_weights_desc(), weight_desc(t, kFloat32, dw.channels_last), ScratchUse::reorder_weight);
    });
  });
  if (!c.quick) return false;
  if (dbias.data != nullptr) c.call.point(DNNL_ARG_DIFF_BIAS, dbias.data);
  c.run(DNNL_ARG_SRC, x.data, DNNL_ARG_DIFF_DST, g.data, DNNL_ARG_DIFF_WEIGHTS, dw.data);
  return true;
}

}  // namespace halftone::cpu::onednn

#endif
