// Dividing lists of tensors by a number on the device, with the check for overflows, and the scale that follows from
// it. A training step with a gradient scaler is three launches beside the backward pass: the check (with the division,
// where gradients are to be seen unscaled, or with the norm, where they are limited), the optimizer's step, the next
// scale. Gradients that are to be seen clipped take one more: the norm must be known before they are divided.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/lists.cuh"
#include "kernels/list_check.h"

namespace halftone {

using namespace cuda;

namespace {

/// By exactly 1 every bit stays: then the tensors are only looked at.
template <int Capacity>
__global__ void __launch_bounds__(kThreads)
    unscale_list(ListArgument<1, Capacity> list, const float* scale, float* found_inf) {
  const float by = scale ? 1 / *scale : 1;
  const ListSlice slice = list.slice(static_cast<std::int32_t>(blockIdx.x));
  const Memory x = list.memory(0, slice.tensor);
  bool overflowed = false;
  visit_floating_dtype(x.dtype, [&]<class T>(Type<T>) {
    using C = Compute<T>;
    T* const data = static_cast<T*>(x.data) + slice.first;
    const bool aligned = list.aligned[slice.tensor];
    if (by == 1) {
      for_each_value<false>(data, slice.count, aligned,
                            [&](T value) { overflowed |= !is_finite(static_cast<C>(value)); });
    } else {
      for_each_value<true>(data, slice.count, aligned, [&](T& value) {
        overflowed |= !is_finite(static_cast<C>(value));
        value = T(static_cast<C>(value) * static_cast<C>(by));
      });
    }
  });
  report_overflow(overflowed, found_inf);
}

template <int Capacity>
__global__ void __launch_bounds__(kThreads) divide_list(ListArgument<1, Capacity> list, const double* divisor) {
  const double by = 1 / *divisor;
  if (by == 1) return;
  const ListSlice slice = list.slice(static_cast<std::int32_t>(blockIdx.x));
  const Memory x = list.memory(0, slice.tensor);
  visit_floating_dtype(x.dtype, [&]<class T>(Type<T>) {
    using C = Compute<T>;
    for_each_value<true>(static_cast<T*>(x.data) + slice.first, slice.count, list.aligned[slice.tensor],
                         [by = static_cast<C>(by)](T& value) { value = T(static_cast<C>(value) * by); });
  });
}

/// Queues what `run(argument, pieces)` launches for the places in memory behind the tensors, each once.
template <class Run> void update_each(CudaBackend& backend, TensorList tensors, Run run) {
  Stage stage(backend);
  std::vector<ListEntry<1>> entries;
  entries.reserve(tensors.size());
  for (const Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    const Tensor places = stage.distinct_places(t);
    entries.push_back({{memory_of(places)}, places.numel()});
  }
  if (entries.empty()) return;
  for_each_launch(gpu(tensors[0]), entries,
                  [&]<int Capacity>(const ListArgument<1, Capacity>& list, int pieces, bool) { run(list, pieces); });
  stage.write_back();
}

__global__ void next_state(ScaleRule rule, const float* scale, const std::int32_t* counts, const float* found_inf,
                           float* new_scale, std::int32_t* new_counts, float* flags, std::int64_t flag_count) {
  const ScaleState state = next({*scale, counts[0], counts[1], counts[2]}, found_inf && *found_inf != 0, rule);
  *new_scale = state.scale;
  new_counts[0] = state.clean_steps;
  new_counts[1] = state.skipped;
  new_counts[2] = state.skipped_in_a_row;
  for (std::int64_t i = 0; i < flag_count; ++i) flags[i] = 0;
}

}  // namespace

void CudaBackend::unscale(TensorList tensors, const Tensor& scale, Tensor& found_inf) {
  check_one_device("unscale", tensors, found_inf);
  update_each(*this, tensors, [&]<int Capacity>(const ListArgument<1, Capacity>& list, int pieces) {
    launch(gpu(found_inf), &unscale_list<Capacity>, grid(pieces), kThreads, list,
           scale.defined() ? static_cast<const float*>(scale.data_ptr<float>()) : nullptr, found_inf.data_ptr<float>());
  });
}

void CudaBackend::list_divide(TensorList tensors, const Tensor& divisor) {
  update_each(*this, tensors, [&]<int Capacity>(const ListArgument<1, Capacity>& list, int pieces) {
    launch(gpu(divisor), &divide_list<Capacity>, grid(pieces), kThreads, list,
           static_cast<const double*>(divisor.data_ptr<double>()));
  });
}

void CudaBackend::next_scale(const ScaleRule& rule, const Tensor& scale, const Tensor& counts, const Tensor& found_inf,
                             Tensor& new_scale, Tensor& new_counts, const Tensor& flags) {
  launch(gpu(scale), &next_state, 1, 1, rule, scale.data_ptr<float>(), counts.data_ptr<std::int32_t>(),
         found_inf.defined() ? found_inf.data_ptr<float>() : nullptr, new_scale.data_ptr<float>(),
         new_counts.data_ptr<std::int32_t>(), flags.defined() ? flags.data_ptr<float>() : nullptr,
         flags.defined() ? flags.numel() : 0);
}

}  // namespace halftone
