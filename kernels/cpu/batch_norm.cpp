// Batch normalization of x [N, C, ...] over all axes but 1, and its gradients. Contiguous memory is a row of runs for
// each channel, channels-last memory (and [N, C]) a matrix with a column for each; both are read once for the
// statistics and once for the result.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/row_access.h"
#include "kernels/cpu/team.h"

namespace halftone {

namespace {

using cpu::SerialTeam;
using rows::Row;
using Moments = rows::Moments<double>;

/// How x lies in memory: [outer, channels, run], with a run of 1 for channels-last.
struct Geometry {
  std::int64_t outer, channels, run;

  explicit Geometry(const Tensor& x) : outer(x.size(0)), channels(x.size(1)), run(1) {
    const std::int64_t rest = channels == 0 || outer == 0 ? 0 : x.numel() / (channels * outer);
    x.is_contiguous() ? run = rest : outer *= rest;
  }
  std::int64_t count() const { return outer * run; }  // elements of a channel
  bool by_column() const { return run == 1; }
};

bool has_known_layout(const Tensor& x) { return x.is_contiguous() || is_channels_last(x.sizes(), x.strides()); }

Tensor allocated_like(const Tensor& model, Dtype dtype) {
  return empty_strided(model.sizes(), model.strides(), TensorOptions(dtype).device(model.device()));
}

/// `t` in memory laid out as `model`'s.
Tensor laid_out_as(const Tensor& model, const Tensor& t, Backend& backend) {
  if (t.is_contiguous() == model.is_contiguous() && has_known_layout(t)) return t;
  Tensor copy = allocated_like(model, t.dtype());
  backend.copy(t, copy);
  return copy;
}

// ---------------------------------------------------------------- contiguous: a row of runs for each channel

constexpr std::int64_t kPiece = 1024;

/// Calls `f(offset, values, n)` for pieces of one channel of N tensors; short runs are brought together in a piece.
template <class X, std::size_t N, class F>
void each_piece(const std::array<const cpu::Source<X>*, N>& from, const Geometry& at, std::int64_t channel, F f) {
  X buffers[N][kPiece];
  std::array<const X*, N> values;
  const std::int64_t runs = at.run >= kPiece ? 1 : kPiece / at.run;  // in a piece
  for (std::int64_t i = 0; i < at.outer; i += runs) {
    const std::int64_t start = (i * at.channels + channel) * at.run;
    if (runs == 1) {
      for (std::int64_t k = 0; k < at.run; k += kPiece) {
        const std::int64_t n = std::min(kPiece, at.run - k);
        for (std::size_t t = 0; t < N; ++t) values[t] = from[t]->row(start + k, 1, n, buffers[t]);
        f(values, n);
      }
      continue;
    }
    const std::int64_t together = std::min(runs, at.outer - i);
    for (std::size_t t = 0; t < N; ++t) {
      for (std::int64_t r = 0; r < together; ++r) {
        from[t]->copy(start + r * at.channels * at.run, 1, at.run, buffers[t] + r * at.run);
      }
      values[t] = buffers[t];
    }
    f(values, together * at.run);
  }
}

template <class X> Moments moments_of(const X* x, std::int64_t n) {
  const X mean = SerialTeam{}.sum(n, Row<const X>{x}) / static_cast<X>(n);
  const X squares = SerialTeam{}.sum(n, [=](std::int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  return {static_cast<double>(n), static_cast<double>(mean), static_cast<double>(squares)};
}

template <class X> std::vector<Moments> moments_by_row(const Geometry& at, const cpu::Source<X>& x) {
  std::vector<Moments> moments(static_cast<std::size_t>(at.channels));
  parallel_for(0, at.channels, cpu::rows_per_grain(at.count()), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t c = first; c < last; ++c) {
      each_piece<X, 1>({&x}, at, c, [&](const std::array<const X*, 1>& values, std::int64_t n) {
        moments[static_cast<std::size_t>(c)].merge(moments_of(values[0], n));
      });
    }
  });
  return moments;
}

/// Calls `f(channel, offset, n)` for all pieces of memory that belong to one channel.
template <class F> void each_run(const Geometry& at, F f) {
  parallel_for(0, at.outer * at.channels, cpu::rows_per_grain(at.run), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      for (std::int64_t k = 0; k < at.run; k += kPiece) {
        f(i % at.channels, i * at.run + k, std::min(kPiece, at.run - k));
      }
    }
  });
}

// ---------------------------------------------------------------- channels-last: a column for each channel

/// Moments of the columns of some rows.
template <class X> class ColumnMoments {
 public:
  explicit ColumnMoments(std::int64_t channels)
      : channels_(channels),
        total_(static_cast<std::size_t>(channels)),
        near_(static_cast<std::size_t>(2 * channels)) {}

  /// Adds a block of rows that the caches hold, few enough to be summed in X.
  void add(const X* block, std::int64_t rows) {
    std::fill(near_.begin(), near_.end(), X(0));
    X* const __restrict mean = near_.data(), * const __restrict squares = mean + channels_;
    for (std::int64_t r = 0; r < rows; ++r) {
      const X* x = block + r * channels_;
      for (std::int64_t c = 0; c < channels_; ++c) mean[c] += x[c];
    }
    for (std::int64_t c = 0; c < channels_; ++c) mean[c] /= static_cast<X>(rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      const X* x = block + r * channels_;
      for (std::int64_t c = 0; c < channels_; ++c) squares[c] += (x[c] - mean[c]) * (x[c] - mean[c]);
    }
    for (std::size_t c = 0; c < total_.size(); ++c) {
      total_[c].merge({static_cast<double>(rows), static_cast<double>(mean[c]), static_cast<double>(squares[c])});
    }
  }
  void merge(const ColumnMoments& other) {
    for (std::size_t c = 0; c < total_.size(); ++c) total_[c].merge(other.total_[c]);
  }
  const std::vector<Moments>& total() const { return total_; }

 private:
  std::int64_t channels_;
  std::vector<Moments> total_;
  std::vector<X> near_;  // [2, channels]
};

template <class X> std::vector<Moments> moments_by_column(const Geometry& at, const cpu::Source<X>& x) {
  const cpu::Shares shares(at.outer, at.channels);
  std::vector<ColumnMoments<X>> parts(static_cast<std::size_t>(shares.count), ColumnMoments<X>(at.channels));
  const std::int64_t step = std::clamp<std::int64_t>(8192 / at.channels, 8, 64);  // rows of a block
  parallel_for(0, shares.count, 1, [&](std::int64_t first, std::int64_t last) {
    cpu::Buffer<X, 8192> buffer(step * at.channels);
    for (std::int64_t share = first; share < last; ++share) {
      for (std::int64_t r = shares.begin(share); r < shares.begin(share + 1); r += step) {
        const std::int64_t rows = std::min(step, shares.begin(share + 1) - r);
        const X* block = x.row(r * at.channels, 1, rows * at.channels, buffer.data());
        parts[static_cast<std::size_t>(share)].add(block, rows);
      }
    }
  });
  for (std::size_t i = 1; i < parts.size(); ++i) parts[0].merge(parts[i]);
  return parts[0].total();
}

// ---------------------------------------------------------------- forward

/// Moves running statistics towards those of the batch.
void update(Tensor& running, double momentum, const std::vector<double>& batch) {
  std::vector<double> values(batch.size());
  cpu::read_all(running, values.data());
  for (std::size_t c = 0; c < batch.size(); ++c) values[c] = (1 - momentum) * values[c] + momentum * batch[c];
  cpu::Sink<double>(running).put(0, running.stride(0), static_cast<std::int64_t>(batch.size()), values.data());
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

void store_statistics(const std::vector<Moments>& moments, double momentum, double eps, Tensor& running_mean,
                      Tensor& running_var, Tensor& mean, Tensor& rstd) {
  std::vector<double> means, variances;
  const cpu::Sink<double> to_mean(mean), to_rstd(rstd);
  for (std::size_t c = 0; c < moments.size(); ++c) {
    const auto channel = static_cast<std::int64_t>(c);
    to_mean.put(channel, moments[c].mean);
    to_rstd.put(channel, rows::reciprocal_deviation(moments[c].variance(), eps));
    means.push_back(moments[c].mean);
    variances.push_back(moments[c].unbiased_variance());
  }
  if (!all_finite(means) || !all_finite(variances)) return;  // one overflow would spoil the running ones for ever
  if (running_mean.defined()) update(running_mean, momentum, means);
  if (running_var.defined()) update(running_var, momentum, variances);
}

/// The formula of every channel, its numbers side by side.
template <class X> struct Channels {
  std::vector<X> mean, scale, shift;

  Channels(const Tensor& means, const Tensor& rstd, const Tensor& weight, const Tensor& bias, std::int64_t n)
      : mean(cpu::weight_or<X>(means, n, 0)),
        scale(cpu::weight_or<X>(weight, n, 1)),
        shift(cpu::weight_or<X>(bias, n, 0)) {
    const std::vector<X> deviation = cpu::weight_or<X>(rstd, n, 1);
    for (std::size_t c = 0; c < scale.size(); ++c) scale[c] *= deviation[c];
  }
};

template <class X>
void normalize_by_row(const Geometry& at, const Channels<X>& channels, const cpu::Source<X>& x, const cpu::Sink<X>& y) {
  each_run(at, [&](std::int64_t channel, std::int64_t offset, std::int64_t n) {
    X in[kPiece], out[kPiece];
    const auto c = static_cast<std::size_t>(channel);
    const rows::ChannelNorm<X> f{channels.mean[c], channels.scale[c], channels.shift[c]};
    const X* from = x.row(offset, 1, n, in);
    X* const to = y.row(offset, 1, out);
    for (std::int64_t i = 0; i < n; ++i) to[i] = f(from[i]);
    y.put(offset, 1, n, to);
  });
}

/// Rows that are read and written together, so that conversions do not come in small pieces.
std::int64_t rows_of_block(const Geometry& at) { return std::max<std::int64_t>(1, 2048 / at.channels); }

/// Calls `f(row, rows)` for blocks of rows [first, last).
template <class F> void each_block(const Geometry& at, std::int64_t first, std::int64_t last, F f) {
  const std::int64_t step = rows_of_block(at);
  for (std::int64_t r = first; r < last; r += step) f(r, std::min(step, last - r));
}

template <class X>
void normalize_by_column(const Geometry& at, const Channels<X>& channels, const cpu::Source<X>& x,
                         const cpu::Sink<X>& y) {
  const X *const mean = channels.mean.data(), *const scale = channels.scale.data(),
                 *const shift = channels.shift.data();
  const std::int64_t n = at.channels;
  parallel_for(0, at.outer, cpu::rows_per_grain(n), [&](std::int64_t first, std::int64_t last) {
    cpu::Buffer<X, 2048> in(rows_of_block(at) * n), out(rows_of_block(at) * n);
    each_block(at, first, last, [&](std::int64_t row, std::int64_t rows) {
      const X* from = x.row(row * n, 1, rows * n, in.data());
      X* const __restrict to = y.row(row * n, 1, out.data());
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < n; ++c) {
          to[r * n + c] = rows::ChannelNorm<X>{mean[c], scale[c], shift[c]}(from[r * n + c]);
        }
      }
      y.put(row * n, 1, rows * n, to);
    });
  });
}

// ---------------------------------------------------------------- backward

/// Of each channel: the sums of g and of g * (x - mean) * rstd.
struct GradSums {
  std::vector<double> g, gx;
};

template <class X> struct BackwardJob {
  Geometry at;
  cpu::Source<X> g, x;
  std::vector<X> mean, rstd, weight;

  BackwardJob(const Tensor& gradient, const Tensor& input, const Tensor& weights, const Tensor& means,
              const Tensor& deviations)
      : at(input),
        g(gradient),
        x(input),
        mean(cpu::weight_or<X>(means, at.channels, 0)),
        rstd(cpu::weight_or<X>(deviations, at.channels, 1)),
        weight(cpu::weight_or<X>(weights, at.channels, 1)) {}
};

template <class X> GradSums sums_by_row(const BackwardJob<X>& job) {
  const auto channels = static_cast<std::size_t>(job.at.channels);
  GradSums sums{std::vector<double>(channels), std::vector<double>(channels)};
  parallel_for(0, job.at.channels, cpu::rows_per_grain(job.at.count()), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const auto c = static_cast<std::size_t>(i);
      const X mean = job.mean[c];
      each_piece<X, 2>({&job.g, &job.x}, job.at, i, [&](const std::array<const X*, 2>& values, std::int64_t n) {
        const X *const g = values[0], *const x = values[1];
        sums.g[c] += static_cast<double>(SerialTeam{}.sum(n, Row<const X>{g}));
        sums.gx[c] += static_cast<double>(SerialTeam{}.sum(n, [=](std::int64_t k) { return g[k] * (x[k] - mean); }));
      });
      sums.gx[c] *= static_cast<double>(job.rstd[c]);
    }
  });
  return sums;
}

template <class X> GradSums sums_by_column(const BackwardJob<X>& job) {
  const std::int64_t n = job.at.channels;
  const cpu::Shares shares(job.at.outer, n);
  cpu::ShareSums<X> sums(shares, n);
  parallel_for(0, shares.count, 1, [&](std::int64_t first, std::int64_t last) {
    cpu::Buffer<X, 2048> g_buffer(rows_of_block(job.at) * n), x_buffer(rows_of_block(job.at) * n);
    for (std::int64_t share = first; share < last; ++share) {
      cpu::ColumnSums<X> own = sums.of(share);
      each_block(job.at, shares.begin(share), shares.begin(share + 1), [&](std::int64_t row, std::int64_t rows) {
        const X* g = job.g.row(row * n, 1, rows * n, g_buffer.data());
        const X* x = job.x.row(row * n, 1, rows * n, x_buffer.data());
        for (std::int64_t r = 0; r < rows; ++r, g += n, x += n) {
          own.add(g, [=, mean = job.mean.data()](std::int64_t c) { return g[c] * (x[c] - mean[c]); });
        }
      });
      own.finish();
    }
  });
  sums.combine();
  GradSums result{{sums.plain(), sums.plain() + n}, {sums.weighted(), sums.weighted() + n}};
  for (std::size_t c = 0; c < result.gx.size(); ++c) result.gx[c] *= static_cast<double>(job.rstd[c]);
  return result;
}

/// The formula of dx of every channel; given statistics are constants.
template <class X>
std::vector<rows::ChannelNormGrad<X>> formulas(const BackwardJob<X>& job, const GradSums* of_training) {
  std::vector<rows::ChannelNormGrad<X>> result;
  for (std::size_t c = 0; c < job.mean.size(); ++c) {
    using Formula = rows::ChannelNormGrad<X>;
    result.push_back(of_training ? Formula::of_training(job.mean[c], job.rstd[c], job.weight[c], of_training->g[c],
                                                        of_training->gx[c], static_cast<double>(job.at.count()))
                                 : Formula{job.mean[c], job.weight[c] * job.rstd[c]});
  }
  return result;
}

template <class X>
void data_grad_by_row(const BackwardJob<X>& job, const std::vector<rows::ChannelNormGrad<X>>& channels,
                      const cpu::Sink<X>& dx) {
  each_run(job.at, [&](std::int64_t channel, std::int64_t offset, std::int64_t n) {
    X g_buffer[kPiece], x_buffer[kPiece], out[kPiece];
    const rows::ChannelNormGrad<X> f = channels[static_cast<std::size_t>(channel)];
    const X* g = job.g.row(offset, 1, n, g_buffer);
    const X* x = job.x.row(offset, 1, n, x_buffer);
    X* const to = dx.row(offset, 1, out);
    for (std::int64_t i = 0; i < n; ++i) to[i] = f(g[i], x[i]);
    dx.put(offset, 1, n, to);
  });
}

template <class X>
void data_grad_by_column(const BackwardJob<X>& job, const std::vector<rows::ChannelNormGrad<X>>& channels,
                         const cpu::Sink<X>& dx) {
  const std::int64_t n = job.at.channels;
  std::vector<X> numbers(channels.size() * 4);  // mean, scale, slope, offset: each a row of channels
  for (std::size_t c = 0; c < channels.size(); ++c) {
    const rows::ChannelNormGrad<X>& f = channels[c];
    std::size_t row = c;
    for (const X number : {f.mean, f.scale, f.slope, f.offset}) {
      numbers[row] = number;
      row += channels.size();
    }
  }
  const X *const mean = numbers.data(), *const scale = mean + n, *const slope = scale + n, *const offset = slope + n;
  parallel_for(0, job.at.outer, cpu::rows_per_grain(n), [&](std::int64_t first, std::int64_t last) {
    const std::int64_t room = rows_of_block(job.at) * n;
    cpu::Buffer<X, 2048> g_buffer(room), x_buffer(room), out(room);
    each_block(job.at, first, last, [&](std::int64_t row, std::int64_t rows) {
      const X* g = job.g.row(row * n, 1, rows * n, g_buffer.data());
      const X* x = job.x.row(row * n, 1, rows * n, x_buffer.data());
      X* const __restrict to = dx.row(row * n, 1, out.data());
      for (std::int64_t r = 0; r < rows * n; r += n) {
        for (std::int64_t c = 0; c < n; ++c) {
          to[r + c] = rows::ChannelNormGrad<X>{mean[c], scale[c], slope[c], offset[c]}(g[r + c], x[r + c]);
        }
      }
      dx.put(row * n, 1, rows * n, to);
    });
  });
}

}  // namespace

void CpuBackend::batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean,
                            Tensor& running_var, bool training, double momentum, double eps, Tensor& y, Tensor& mean,
                            Tensor& rstd) {
  if (x.numel() == 0) return;
  if (!has_known_layout(x)) {
    Tensor dense = empty(x.sizes(), x.options());
    copy(x, dense);
    return batch_norm(dense, weight, bias, running_mean, running_var, training, momentum, eps, y, mean, rstd);
  }
  const Geometry at(x);
  Tensor result = y.is_contiguous() == x.is_contiguous() && has_known_layout(y) ? y : allocated_like(x, y.dtype());
  cpu::visit_real({x.dtype()}, [&]<class X>(Type<X>) {
    const cpu::Source<X> from(x);
    if (training) {
      const auto moments = at.by_column() ? moments_by_column(at, from) : moments_by_row(at, from);
      store_statistics(moments, momentum, eps, running_mean, running_var, mean, rstd);
    }
    const Channels<X> channels(mean, rstd, weight, bias, at.channels);
    const cpu::Sink<X> to(result);
    at.by_column() ? normalize_by_column(at, channels, from, to) : normalize_by_row(at, channels, from, to);
  });
  if (!result.is_same(y)) copy(result, y);
}

void CpuBackend::batch_norm_grad(const Tensor& g, const Tensor& x, const Tensor& weight, const Tensor& mean,
                                 const Tensor& rstd, bool training, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  if (x.numel() == 0) {
    if (dweight.defined()) fill(dweight, 0);
    if (dbias.defined()) fill(dbias, 0);
    return;
  }
  const Tensor input = has_known_layout(x) ? x : laid_out_as(empty(x.sizes(), x.options()), x, *this);
  const Tensor gradient = laid_out_as(input, g, *this);
  cpu::visit_real({x.dtype()}, [&]<class X>(Type<X>) {
    const BackwardJob<X> job(gradient, input, weight, mean, rstd);
    const bool by_column = job.at.by_column();
    const bool needs_sums = (training && dx.defined()) || dweight.defined() || dbias.defined();
    GradSums sums;
    if (needs_sums) sums = by_column ? sums_by_column(job) : sums_by_row(job);
    if (dweight.defined()) cpu::Sink<double>(dweight).put(0, 1, job.at.channels, sums.gx.data());
    if (dbias.defined()) cpu::Sink<double>(dbias).put(0, 1, job.at.channels, sums.g.data());
    if (!dx.defined()) return;
    const bool same = dx.is_contiguous() == input.is_contiguous() && has_known_layout(dx);
    Tensor result = same ? dx : allocated_like(input, dx.dtype());
    const auto channels = formulas(job, training ? &sums : nullptr);
    by_column ? data_grad_by_column(job, channels, cpu::Sink<X>(result))
              : data_grad_by_row(job, channels, cpu::Sink<X>(result));
    if (!same) copy(result, dx);
  });
}

}  // namespace halftone
