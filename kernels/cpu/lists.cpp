// Updates in place over lists of tensors. The list is packed into batches of about equal size (kernels/lists.h), which
// the threads share; a formula then sees dense blocks of float or double, whatever the tensors are.
#include "kernels/lists.h"

#include <atomic>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/staged.h"
#include "kernels/distinct.h"
#include "kernels/list_check.h"

namespace halftone {
namespace {

using cpu::kStagedBlock;
using cpu::Staged;

/// A thread's share: some ten microseconds of work, so that what is less stays on the calling thread.
constexpr ListLimits kShares{.piece_elements = 1 << 15, .batch_elements = 1 << 15};

/// Calls f(batch, piece) for every piece, batches on several threads at once.
template <class F> void for_each_piece(TensorList tensors, F f) {
  std::vector<std::int64_t> sizes(tensors.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) sizes[i] = tensors[i].numel();
  const ListPlan plan = plan_list(sizes, kShares);
  const auto batches = static_cast<std::int64_t>(plan.batches.size());
  parallel_for(0, batches, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t b = first; b < last; ++b) {
      const ListBatch& batch = plan.batches[static_cast<std::size_t>(b)];
      for (std::int32_t i = 0; i < batch.pieces; ++i)
        f(static_cast<std::size_t>(b),
          plan.pieces[static_cast<std::size_t>(batch.first_piece) + static_cast<std::size_t>(i)]);
    }
  });
}

/// Calls f(first, count) for blocks that cover the piece.
template <class F> void for_each_block(const ListPiece& piece, F f) {
  for (std::int64_t done = 0; done < piece.count; done += kStagedBlock)
    f(piece.first + done, std::min<std::int64_t>(kStagedBlock, piece.count - done));
}

/// Elements fill the memory without gaps, so that a loop may take them in any order.
bool is_dense(const Tensor& t) { return t.impl()->contiguous || halftone::is_dense(t.sizes(), t.strides()); }

/// All operands have the same dense layout (undefined ones aside), so that memory order is a common order.
bool share_layout(const Tensor& lead, std::initializer_list<const Tensor*> others) {
  bool contiguous = lead.impl()->contiguous;
  bool same = true;
  for (const Tensor* t : others) {
    if (t == nullptr) continue;
    contiguous = contiguous && t->impl()->contiguous;
    same = same && (contiguous || t->strides() == lead.strides());
  }
  return contiguous || (same && is_dense(lead));
}

const Tensor* at(TensorList list, const ListPiece& piece) {
  return list.empty() ? nullptr : &list[static_cast<std::size_t>(piece.tensor)];
}

/// Calls f(Type<C>) with the arithmetic type for a tensor: double for float64, else float.
template <class F> void visit_compute(const Tensor& t, F f) {
  if (t.dtype() == kFloat64) {
    f(Type<double>{});
  } else {
    f(Type<float>{});
  }
}

float read_float(const Tensor& one) { return one.item().toFloat(); }

bool is_set(const Tensor& found_inf) { return found_inf.defined() && read_float(found_inf) != 0; }

/// What values are multiplied by to divide them by the scale; 1 when there is none.
double inverse(const Tensor& scale) { return scale.defined() ? 1.0 / scale.item().toDouble() : 1.0; }

template <class C> void multiply(C* x, C factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

/// A gradient's block, divided by the scale and written back when that changes it. The formula goes on with the values
/// before they are rounded to the gradient's dtype.
template <class C> C* open_gradient(Staged<C>& grad, std::int64_t first, std::int64_t count, double factor) {
  C* g = grad.open(first, count);
  if (factor == 1) return g;
  multiply(g, static_cast<C>(factor), count);
  grad.write();
  return g;
}

template <class C>
void sgd_block(const SgdStep& step, C* __restrict p, const C* __restrict g, C* __restrict v, std::int64_t n) {
  const SgdStep f = step;  // a copy of our own, which no store can change
  if (f.momentum == 0) {
    C none{};
    for (std::int64_t i = 0; i < n; ++i) f(p[i], g[i], none);
  } else {
    for (std::int64_t i = 0; i < n; ++i) f(p[i], g[i], v[i]);
  }
}

template <class C>
void adam_block(const AdamStep& step, C* __restrict p, const C* __restrict g, C* __restrict m, C* __restrict v,
                C* __restrict v_max, std::int64_t n) {
  const AdamStep f = step;
  if (f.amsgrad) {
    for (std::int64_t i = 0; i < n; ++i) f(p[i], g[i], m[i], v[i], v_max[i]);
  } else {
    C none{};
    for (std::int64_t i = 0; i < n; ++i) f(p[i], g[i], m[i], v[i], none);
  }
}

}  // namespace

void CpuBackend::sgd(const SgdStep& f, TensorList params, TensorList grads, TensorList momenta,
                     const Tensor& grad_scale, const Tensor& found_inf) {
  if (is_set(found_inf)) return;
  const double factor = inverse(grad_scale);
  for_each_piece(params, [&](std::size_t, const ListPiece& piece) {
    const Tensor &param = *at(params, piece), &grad = *at(grads, piece);
    const Tensor* momentum = f.momentum == 0 ? nullptr : at(momenta, piece);
    const bool any_order = share_layout(param, {&grad, momentum});
    visit_compute(param, [&]<class C>(Type<C>) {
      Staged<C> p(param, any_order), g(grad, any_order), v(momentum ? *momentum : param, any_order);
      for_each_block(piece, [&](std::int64_t first, std::int64_t n) {
        const C* gradient = open_gradient(g, first, n, factor);
        C* velocity = momentum ? v.open(first, n) : nullptr;
        sgd_block(f, p.open(first, n), gradient, velocity, n);
        p.write();
        if (momentum) v.write();
      });
    });
  });
}

void CpuBackend::adam(const AdamStep& step, TensorList params, TensorList grads, TensorList first, TensorList second,
                      TensorList second_max, const Tensor& grad_scale, const Tensor& found_inf, const Tensor& skipped) {
  std::int64_t* const skips = skipped.defined() ? skipped.data_ptr<std::int64_t>() : nullptr;
  if (is_set(found_inf)) {
    if (skips && !step.replayed) ++*skips;
    return;
  }
  const AdamStep f = skips ? step.corrected(step.steps - static_cast<double>(*skips)) : step;
  const double factor = inverse(grad_scale);
  for_each_piece(params, [&](std::size_t, const ListPiece& piece) {
    const Tensor &param = *at(params, piece), &grad = *at(grads, piece);
    const Tensor &mean = *at(first, piece), &square = *at(second, piece);
    const Tensor* largest = f.amsgrad ? at(second_max, piece) : nullptr;
    const bool any_order = share_layout(param, {&grad, &mean, &square, largest});
    visit_compute(param, [&]<class C>(Type<C>) {
      Staged<C> p(param, any_order), g(grad, any_order), m(mean, any_order), v(square, any_order);
      Staged<C> v_max(largest ? *largest : square, any_order);
      for_each_block(piece, [&](std::int64_t begin, std::int64_t n) {
        const C* gradient = open_gradient(g, begin, n, factor);
        C* maximum = largest ? v_max.open(begin, n) : nullptr;
        adam_block(f, p.open(begin, n), gradient, m.open(begin, n), v.open(begin, n), maximum, n);
        p.write();
        m.write();
        v.write();
        if (largest) v_max.write();
      });
    });
  });
  if (skips && step.replayed) --*skips;
}

void CpuBackend::next_scale(const ScaleRule& rule, const Tensor& scale, const Tensor& counts, const Tensor& found_inf,
                            Tensor& new_scale, Tensor& new_counts, const Tensor& flags) {
  const std::int32_t* const c = counts.data_ptr<std::int32_t>();
  const ScaleState state = next({read_float(scale), c[0], c[1], c[2]}, is_set(found_inf), rule);
  *new_scale.data_ptr<float>() = state.scale;
  const std::int32_t fields[] = {state.clean_steps, state.skipped, state.skipped_in_a_row};
  std::copy_n(fields, 3, new_counts.data_ptr<std::int32_t>());
  if (flags.defined()) std::fill_n(flags.data_ptr<float>(), flags.numel(), 0.0f);
}

namespace {

template <class C> bool all_finite(const C* x, std::int64_t n) {
  int bad = 0;
  for (std::int64_t i = 0; i < n; ++i) bad |= std::abs(x[i]) <= std::numeric_limits<C>::max() ? 0 : 1;
  return bad == 0;
}

/// The list with every tensor replaced by its distinct places; `odd` takes those for which that is impossible.
std::vector<Tensor> distinct_places(TensorList tensors, std::vector<Tensor>& odd) {
  std::vector<Tensor> places;
  places.reserve(tensors.size());
  for (const Tensor& x : tensors) {
    Tensor once = distinct(x);
    if (once.defined()) {
      places.push_back(std::move(once));
    } else {
      odd.push_back(x);
    }
  }
  return places;
}

/// Applies f to a dense copy of the distinct places of x, one by one found.
template <class F> void update_odd(const Tensor& x, F f) {
  std::vector<std::int64_t> offsets;
  const Places<1> layout = places(x.sizes(), x.strides());
  for_each_run(layout, 0, x.numel(), [&](const std::int64_t(&start)[1], std::int64_t n) {
    for (std::int64_t i = 0; i < n; ++i) offsets.push_back(start[0] + i * layout.step(0));
  });
  std::sort(offsets.begin(), offsets.end());
  offsets.erase(std::unique(offsets.begin(), offsets.end()), offsets.end());
  visit_floating(x.dtype(), [&]<class T>(Type<T>) {
    T* data = x.data_ptr<T>();
    for (const std::int64_t offset : offsets) {
      auto value = static_cast<Compute<T>>(data[offset]);
      if (f(&value, 1)) data[offset] = T(value);
    }
  });
}

/// Calls f(values, n) on blocks of float or double that hold each place of the tensors once; writes them back where it
/// returns true.
template <class F> void update_each(TensorList tensors, F f) {
  std::vector<Tensor> replaced, odd;
  if (!std::all_of(tensors.begin(), tensors.end(), [](const Tensor& t) { return is_dense(t); })) {
    replaced = distinct_places(tensors, odd);
    tensors = replaced;
  }
  for_each_piece(tensors, [&](std::size_t, const ListPiece& piece) {
    const Tensor& tensor = *at(tensors, piece);
    visit_compute(tensor, [&]<class C>(Type<C>) {
      Staged<C> x(tensor, is_dense(tensor));
      for_each_block(piece, [&](std::int64_t first, std::int64_t n) {
        if (f(x.open(first, n), n)) x.write();
      });
    });
  });
  for (const Tensor& x : odd) update_odd(x, f);
}

}  // namespace

void CpuBackend::unscale(TensorList tensors, const Tensor& scale, Tensor& found_inf) {
  check_one_device("unscale", tensors, found_inf);
  const float by = scale.defined() ? 1 / read_float(scale) : 1;
  std::atomic<bool> overflowed{false};
  update_each(tensors, [&]<class C>(C* x, std::int64_t n) {
    if (!all_finite(x, n)) overflowed.store(true, std::memory_order_relaxed);
    if (by == 1) return false;
    multiply(x, static_cast<C>(by), n);
    return true;
  });
  if (overflowed) *found_inf.data_ptr<float>() = 1;
}

void CpuBackend::list_divide(TensorList tensors, const Tensor& divisor) {
  const double by = inverse(divisor);
  if (by == 1) return;
  update_each(tensors, [by]<class C>(C* x, std::int64_t n) {
    multiply(x, static_cast<C>(by), n);
    return true;
  });
}

namespace {

/// Sums and extremes run in this many lanes, which fixes their order whatever the processor.
constexpr std::int64_t kLanes = 16;

/// Folds f over the values times a factor; `join` combines two results of it.
template <class C, class Step, class Join>
double fold(const C* x, std::int64_t n, C by, double start, Step step, Join join) {
  double lane[kLanes];
  std::fill_n(lane, kLanes, start);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) lane[j] = step(lane[j], static_cast<double>(by * x[i + j]));
  }
  for (std::int64_t j = 0; i < n; ++i, ++j) lane[j] = step(lane[j], static_cast<double>(by * x[i]));
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t j = 0; j < half; ++j) lane[j] = join(lane[j], lane[j + half]);
  }
  return lane[0];
}

double larger(double a, double b) { return b > a || b != b ? b : a; }
double smaller(double a, double b) { return b < a || b != b ? b : a; }

/// The p-norm in three steps: start, fold over the values, times a factor, in double, finish.
class Norm {
 public:
  explicit Norm(double p) : p_(p) {}

  double start() const { return is_min() ? std::numeric_limits<double>::infinity() : 0; }

  double join(double a, double b) const { return is_max() ? larger(a, b) : (is_min() ? smaller(a, b) : a + b); }

  template <class C> double operator()(const C* x, std::int64_t n, C by) const {
    const auto add = [](double a, double b) { return a + b; };
    if (p_ == 2)
      return fold(
          x, n, by, 0, [](double sum, double v) { return sum + v * v; }, add);
    if (p_ == 1)
      return fold(
          x, n, by, 0, [](double sum, double v) { return sum + std::abs(v); }, add);
    if (p_ == 0)
      return fold(
          x, n, by, 0, [](double sum, double v) { return sum + (v != 0 ? 1 : 0); }, add);
    if (is_max())
      return fold(
          x, n, by, 0, [](double top, double v) { return larger(top, std::abs(v)); }, larger);
    if (is_min())
      return fold(
          x, n, by, start(), [](double top, double v) { return smaller(top, std::abs(v)); }, smaller);
    return fold(
        x, n, by, 0, [p = p_](double sum, double v) { return sum + std::pow(std::abs(v), p); }, add);
  }

  double finish(double folded) const {
    if (p_ == 2) return std::sqrt(folded);
    return p_ == 0 || p_ == 1 || is_max() || is_min() ? folded : std::pow(folded, 1 / p_);
  }

 private:
  bool is_max() const { return p_ == std::numeric_limits<double>::infinity(); }
  bool is_min() const { return p_ == -std::numeric_limits<double>::infinity(); }

  double p_;
};

std::int64_t count_all(TensorList tensors) {
  std::int64_t n = 0;
  for (const Tensor& t : tensors) n += t.numel();
  return n;
}

}  // namespace

void CpuBackend::list_norm(TensorList tensors, double p, Tensor& y, const Clip& clip) {
  const Norm norm(p);
  const double by = inverse(clip.scale);
  std::atomic<bool> overflowed{false};
  // One result a batch: how the list is cut does not depend on the threads, so neither does the sum.
  std::vector<double> parts(static_cast<std::size_t>(count_all(tensors) / kShares.batch_elements) + 1, norm.start());
  for_each_piece(tensors, [&](std::size_t batch, const ListPiece& piece) {
    const Tensor& tensor = *at(tensors, piece);
    visit_compute(tensor, [&]<class C>(Type<C>) {
      Staged<C> x(tensor, is_dense(tensor));
      for_each_block(piece, [&](std::int64_t first, std::int64_t n) {
        const C* values = x.open(first, n);
        if (clip.found_inf.defined() && !all_finite(values, n)) overflowed.store(true, std::memory_order_relaxed);
        parts[batch] = norm.join(parts[batch], norm(values, n, static_cast<C>(by)));
      });
    });
  });
  double total = norm.start();
  for (const double part : parts) total = norm.join(total, part);
  total = norm.finish(total);
  visit_floating(y.dtype(), [&]<class T>(Type<T>) { *y.data_ptr<T>() = T(static_cast<Compute<T>>(total)); });
  const double scale = clip.scale.defined() ? read_float(clip.scale) : 1;
  if (clip.divisor.defined()) *clip.divisor.data_ptr<double>() = clip_divisor(total, clip.most, scale);
  if (overflowed) *clip.found_inf.data_ptr<float>() = 1;
}

}  // namespace halftone
