// The optimizers' steps: one launch for all parameters of a kind, however many there are. A gradient that is still
// scaled is divided in the same pass that uses it.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/lists.cuh"

namespace halftone {

using namespace cuda;

namespace {

/// What a step reads of a gradient scaler. Null pointers where there is none.
struct Scaler {
  Memory grad_scale;  // float or double
  const float* found_inf;
  std::int64_t* skipped;
  unsigned* tickets;
  bool counts;  // this launch, the last of a step, is the one that changes `skipped`

  /// What gradients are multiplied by.
  __device__ double factor() const {
    if (!grad_scale.data) return 1;
    if (grad_scale.dtype == kFloat64) return 1 / *static_cast<const double*>(grad_scale.data);
    return 1 / double{*static_cast<const float*>(grad_scale.data)};
  }
};

// Formulas of a step, with the number of state tensors they keep for a parameter.
struct PlainSgd {
  static constexpr int kStates = 0;
  SgdStep step;
  template <class C> __device__ void operator()(C& p, C g, C (&)[1]) const {
    C none{};
    step(p, g, none);
  }
};
struct MomentumSgd {
  static constexpr int kStates = 1;
  SgdStep step;
  template <class C> __device__ void operator()(C& p, C g, C (&v)[1]) const { step(p, g, v[0]); }
};
struct Adam {
  static constexpr int kStates = 2;
  AdamStep step;
  template <class C> __device__ void operator()(C& p, C g, C (&state)[2]) const {
    C none{};
    step(p, g, state[0], state[1], none);
  }
};
struct AmsgradAdam {
  static constexpr int kStates = 3;
  AdamStep step;
  template <class C> __device__ void operator()(C& p, C g, C (&state)[3]) const {
    step(p, g, state[0], state[1], state[2]);
  }
};

/// Whether the step is to be taken; counts it if it is not.
__device__ bool may_step(const SgdStep&, const Scaler& s) { return !s.found_inf || *s.found_inf == 0; }

/// Also gives the step the bias corrections of the steps that were taken, which two threads compute for the block.
__device__ bool may_step(AdamStep& f, const Scaler& s) {
  const bool overflowed = s.found_inf && *s.found_inf != 0;
  if (!s.skipped) return !overflowed;
  if (overflowed) {
    if (s.counts && !f.replayed && thread_in_grid() == 0) ++*s.skipped;
    return false;
  }
  __shared__ double bias[2];
  if (threadIdx.x < 2) {
    bias[threadIdx.x] = AdamStep::bias(threadIdx.x == 0 ? f.beta1 : f.beta2, f.steps - static_cast<double>(*s.skipped));
  }
  __syncthreads();
  f.bias1 = bias[0];
  f.bias2 = bias[1];
  // The host does not count a captured step. Each run is taken from those that were skipped, when all blocks have read
  // these.
  if (f.replayed && s.counts && is_last_block(s.tickets) && threadIdx.x == 0) --*s.skipped;
  return true;
}

template <int Count, class C> __device__ void load_values(const Memory& m, std::int64_t pack, C (&to)[Count]) {
  visit_floating_dtype(m.dtype, [&]<class T>(Type<T>) {
    const Pack<T, Count> p = static_cast<const Pack<T, Count>*>(m.data)[pack];
#pragma unroll
    for (int i = 0; i < Count; ++i) to[i] = widen<C>(p.value[i]);
  });
}
template <int Count, class C> __device__ void store_values(const Memory& m, std::int64_t pack, const C (&from)[Count]) {
  visit_floating_dtype(m.dtype, [&]<class T>(Type<T>) {
    Pack<T, Count> p;
#pragma unroll
    for (int i = 0; i < Count; ++i) p.value[i] = narrow<T>(from[i]);
    static_cast<Pack<T, Count>*>(m.data)[pack] = p;
  });
}

/// Updates the elements at a place of all operands: parameter, gradient, states of type C.
template <int Count, class C, class Formula>
__device__ void update_pack(const Formula& f, const Memory (&operands)[2 + Formula::kStates], std::int64_t pack,
                            C factor) {
  constexpr int kStates = Formula::kStates;
  C p[Count], g[Count];
  Pack<C, Count> state[kStates > 0 ? kStates : 1];
  load_values<Count>(operands[0], pack, p);
  load_values<Count>(operands[1], pack, g);
#pragma unroll
  for (int k = 0; k < kStates; ++k) state[k] = static_cast<const Pack<C, Count>*>(operands[2 + k].data)[pack];
  if (factor != C(1)) {  // the formula goes on with the values before they are rounded to the gradient's dtype
#pragma unroll
    for (int i = 0; i < Count; ++i) g[i] *= factor;
    store_values<Count>(operands[1], pack, g);
  }
#pragma unroll
  for (int i = 0; i < Count; ++i) {
    C one[kStates > 0 ? kStates : 1];
#pragma unroll
    for (int k = 0; k < kStates; ++k) one[k] = state[k].value[i];
    f(p[i], g[i], one);
#pragma unroll
    for (int k = 0; k < kStates; ++k) state[k].value[i] = one[k];
  }
  store_values<Count>(operands[0], pack, p);
#pragma unroll
  for (int k = 0; k < kStates; ++k) static_cast<Pack<C, Count>*>(operands[2 + k].data)[pack] = state[k];
}

template <class C, class Formula, int Capacity>
__global__ void __launch_bounds__(kThreads)
    update_list(Formula f, ListArgument<2 + Formula::kStates, Capacity> list, Scaler scaler) {
  constexpr int kOperands = 2 + Formula::kStates, kPack = 4;
  if (!may_step(f.step, scaler)) return;
  const C factor = static_cast<C>(scaler.factor());
  const ListSlice slice = list.slice(static_cast<std::int32_t>(blockIdx.x));
  Memory operands[kOperands];
#pragma unroll
  for (int k = 0; k < kOperands; ++k) operands[k] = list.memory(k, slice.tensor);
  const int packs = list.aligned[slice.tensor] ? slice.count / kPack : 0;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < packs; i += kThreads) {
    update_pack<kPack>(f, operands, slice.first / kPack + i, factor);
  }
#pragma unroll 1
  for (int i = packs * kPack + static_cast<int>(threadIdx.x); i < slice.count; i += kThreads) {
    update_pack<1>(f, operands, slice.first + i, factor);
  }
}

const float* float_of(const Tensor& t) { return t.defined() ? t.data_ptr<float>() : nullptr; }
Memory memory_or_null(const Tensor& t) { return t.defined() ? memory_of(t) : Memory{nullptr, kFloat32}; }

/// The step for the parameters whose arithmetic is done in C.
template <class C, class Formula>
void update(CudaBackend& backend, const Formula& f, TensorList params, TensorList grads,
            const std::array<TensorList, Formula::kStates>& states, const Scaler& scaler) {
  constexpr int kOperands = 2 + Formula::kStates;
  Stage stage(backend);
  std::vector<ListEntry<kOperands>> entries;
  entries.reserve(params.size());
  for (std::size_t i = 0; i < params.size(); ++i) {
    if (params[i].numel() == 0 || (params[i].dtype() == kFloat64) != std::is_same_v<C, double>) continue;
    const Tensor lead = stage.dense(params[i], true);
    ListEntry<kOperands>& entry = entries.emplace_back();
    entry.count = lead.numel();
    entry.memory[0] = memory_of(lead);
    entry.memory[1] = stage.beside(lead, grads[i], scaler.grad_scale.data != nullptr);
    for (int k = 0; k < Formula::kStates; ++k) {
      entry.memory[2 + k] = stage.beside(lead, states[static_cast<std::size_t>(k)][i], true, dtype_of<C>);
    }
  }
  if (entries.empty()) return;
  Gpu& g = gpu(params[0]);
  for_each_launch(g, entries, [&]<int Capacity>(const ListArgument<kOperands, Capacity>& list, int pieces, bool last) {
    Scaler part = scaler;
    part.counts = scaler.counts && last;
    launch(g, &update_list<C, Formula, Capacity>, grid(pieces), kThreads, f, list, part);
  });
  stage.write_back();
}

/// float64 parameters take launches of their own.
template <class Formula>
void update_all(CudaBackend& backend, const Formula& f, TensorList params, TensorList grads,
                const std::array<TensorList, Formula::kStates>& states, Scaler scaler) {
  const auto is_double = [](const Tensor& p) { return p.dtype() == kFloat64 && p.numel() > 0; };
  const auto is_float = [](const Tensor& p) { return p.dtype() != kFloat64 && p.numel() > 0; };
  scaler.counts = std::none_of(params.begin(), params.end(), is_float);
  if (std::any_of(params.begin(), params.end(), is_double)) {
    update<double>(backend, f, params, grads, states, scaler);
  }
  scaler.counts = true;
  update<float>(backend, f, params, grads, states, scaler);
}

}  // namespace

void CudaBackend::sgd(const SgdStep& f, TensorList params, TensorList grads, TensorList momenta,
                      const Tensor& grad_scale, const Tensor& found_inf) {
  const Scaler scaler{memory_or_null(grad_scale), float_of(found_inf), nullptr, nullptr, false};
  if (f.momentum == 0) return update_all(*this, PlainSgd{f}, params, grads, {}, scaler);
  update_all(*this, MomentumSgd{f}, params, grads, {momenta}, scaler);
}

void CudaBackend::adam(const AdamStep& f, TensorList params, TensorList grads, TensorList first, TensorList second,
                       TensorList second_max, const Tensor& grad_scale, const Tensor& found_inf,
                       const Tensor& skipped) {
  std::int64_t* const skips = skipped.defined() ? skipped.data_ptr<std::int64_t>() : nullptr;
  const Scaler scaler{memory_or_null(grad_scale), float_of(found_inf), skips, skips ? gpu(skipped).tickets : nullptr,
                      false};
  if (f.amsgrad) return update_all(*this, AmsgradAdam{f}, params, grads, {first, second, second_max}, scaler);
  update_all(*this, Adam{f}, params, grads, {first, second}, scaler);
}

}  // namespace halftone
