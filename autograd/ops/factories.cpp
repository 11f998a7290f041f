// Tensors made of nothing, and those filled at random. None of them is an op: no gradient flows, and autocast leaves
// them.
#include <cmath>

#include "autograd/ops.h"
#include "autograd/ops/plain.h"
#include "core/random.h"

namespace halftone {
namespace {

using plain::at;

Tensor filled(Tensor out, const Scalar& value) {
  backend(out).fill(out, value);
  return out;
}

Tensor at_random(Tensor out, const RandomFill& f) {
  backend(out).random(f, out, default_generator(out.device()));
  return out;
}

// A number's own dtype: bool, int64 or the default one.
TensorOptions with_dtype_of(const Scalar& value, const TensorOptions& options) {
  return options.or_else(value.isFloatingPoint() ? get_default_dtype() : value.type());
}

RandomFill uniform(double from, double to) { return {.kind = Distribution::uniform, .a = from, .b = to}; }
RandomFill normal(double mean, double deviation) { return {.kind = Distribution::normal, .a = mean, .b = deviation}; }

}  // namespace

Tensor zeros(IntArrayRef sizes, const TensorOptions& options) { return filled(empty(sizes, options), 0); }
Tensor ones(IntArrayRef sizes, const TensorOptions& options) { return filled(empty(sizes, options), 1); }
Tensor full(IntArrayRef sizes, const Scalar& value, const TensorOptions& options) {
  return filled(empty(sizes, with_dtype_of(value, options)), value);
}
Tensor scalar_tensor(const Scalar& value, const TensorOptions& options) { return full({}, value, options); }
Tensor zeros_like(const Tensor& x, const TensorOptions& options) { return filled(empty_like(x, options), 0); }
Tensor ones_like(const Tensor& x, const TensorOptions& options) { return filled(empty_like(x, options), 1); }
Tensor full_like(const Tensor& x, const Scalar& value, const TensorOptions& options) {
  return filled(empty_like(x, options), value);
}

Tensor eye(std::int64_t n, const TensorOptions& options) { return eye(n, n, options); }
Tensor eye(std::int64_t n, std::int64_t m, const TensorOptions& options) {
  Tensor out = zeros({n, m}, options);
  Tensor diagonal = alias(out, {std::min(n, m)}, {m + 1}, 0);
  backend(out).fill(diagonal, 1);
  return out;
}

// ------------------------------------------------------------------------------------------------ sequences

Tensor arange(const Scalar& start, const Scalar& end, const Scalar& step, const TensorOptions& options) {
  const bool integers = !start.isFloatingPoint() && !end.isFloatingPoint() && !step.isFloatingPoint();
  const double from = start.toDouble(), to = end.toDouble(), by = step.toDouble();
  check<ValueError>(by != 0, "arange: step must be nonzero");
  check<ValueError>(std::isfinite(from) && std::isfinite(to), "arange: unsupported range: ", start, " -> ", end);
  check<ValueError>(by > 0 ? from <= to : from >= to,
                    "arange: upper bound and lower bound inconsistent with step sign: ", start, " -> ", end, " by ",
                    step);
  const auto count = static_cast<std::int64_t>(std::ceil((to - from) / by));
  Tensor out = empty(count, options.or_else(integers ? kInt64 : get_default_dtype()));
  backend(out).arange(out, from, by);
  return out;
}
Tensor arange(const Scalar& start, const Scalar& end, const TensorOptions& options) {
  return arange(start, end, 1, options);
}
Tensor arange(const Scalar& end, const TensorOptions& options) { return arange(0, end, 1, options); }

Tensor linspace(const Scalar& start, const Scalar& end, std::int64_t steps, const TensorOptions& options) {
  check<ValueError>(steps >= 0, "linspace: number of steps must be non-negative, got ", steps);
  Tensor out = empty(steps, options);
  if (steps == 0) return out;
  const double step = steps == 1 ? 0 : (end.toDouble() - start.toDouble()) / static_cast<double>(steps - 1);
  backend(out).arange(out, start.toDouble(), step);
  if (steps > 1) {  // exactly, whatever the steps rounded to
    Tensor last = plain::narrowed(out, 0, steps - 1, 1);
    backend(out).fill(last, end);
  }
  return out;
}

// ------------------------------------------------------------------------------------------------ at random

Tensor rand(IntArrayRef sizes, const TensorOptions& options) { return at_random(empty(sizes, options), uniform(0, 1)); }
Tensor randn(IntArrayRef sizes, const TensorOptions& options) { return at_random(empty(sizes, options), normal(0, 1)); }
Tensor rand_like(const Tensor& x, const TensorOptions& options) {
  return at_random(empty_like(x, options), uniform(0, 1));
}
Tensor randn_like(const Tensor& x, const TensorOptions& options) {
  return at_random(empty_like(x, options), normal(0, 1));
}

Tensor randint(std::int64_t low, std::int64_t high, IntArrayRef sizes, const TensorOptions& options) {
  check<ValueError>(low < high, "randint: expects 'low' to be less than 'high', but got ", low, " >= ", high);
  return at_random(empty(sizes, options.or_else(kInt64)), {.kind = Distribution::integer, .low = low, .high = high});
}
Tensor randint(std::int64_t high, IntArrayRef sizes, const TensorOptions& options) {
  return randint(0, high, sizes, options);
}

Tensor randperm(std::int64_t n, const TensorOptions& options) {
  check<ValueError>(n >= 0, "randperm: n must be non-negative, got ", n);
  Tensor out = empty(n, options.or_else(kInt64));
  backend(out).randperm(out, default_generator(out.device()));
  return out;
}

namespace {

// The old values do not matter: the gradient stops here.
const Tensor& refill(const Tensor& self, const RandomFill& f) {
  return write_in_place(
      op("fill"), self, std::array<Tensor, 0>{}, [&](const Tensor& old) { return at_random(empty_like(old), f); },
      [&](const Tensor& x) { at_random(x, f); });
}

void check_fill(std::string_view name, bool ok, std::string_view wish, double value) {
  check<ValueError>(ok, name, ": ", wish, ", got ", value);
}

}  // namespace

const Tensor& Tensor::uniform_(double from, double to) const {
  check<ValueError>(from <= to, "uniform_ expects to return a [from, to) range, but found from=", from, " > to=", to);
  return refill(*this, uniform(from, to));
}
const Tensor& Tensor::normal_(double mean, double deviation) const {
  check_fill("normal_", deviation >= 0, "expects std >= 0.0", deviation);
  return refill(*this, normal(mean, deviation));
}
const Tensor& Tensor::bernoulli_(double p) const {
  check_fill("bernoulli_", p >= 0 && p <= 1, "expects p to be in [0, 1]", p);
  return refill(*this, {.kind = Distribution::bernoulli, .a = p});
}
const Tensor& Tensor::exponential_(double rate) const {
  check_fill("exponential_", rate > 0, "expects lambda > 0.0", rate);
  return refill(*this, {.kind = Distribution::exponential, .a = rate});
}
const Tensor& Tensor::random_(std::int64_t from, std::int64_t to) const {
  check<ValueError>(from < to, "random_ expects 'from' to be less than 'to', but got from=", from, " >= to=", to);
  return refill(*this, {.kind = Distribution::integer, .low = from, .high = to});
}
const Tensor& Tensor::random_(std::int64_t to) const { return random_(0, to); }

namespace {

// One more than the largest number up to which all have an exact representation.
std::int64_t end_of_exact_integers(Dtype d) {
  switch (d) {
    case kBool: return 2;
    case kFloat16: return (std::int64_t{1} << 11) + 1;
    case kBFloat16: return (std::int64_t{1} << 8) + 1;
    case kFloat32: return (std::int64_t{1} << 24) + 1;
    case kFloat64: return (std::int64_t{1} << 53) + 1;
    case kInt64: return std::numeric_limits<std::int64_t>::max();
    default: return std::int64_t{1} << (8 * element_size(d) - (is_signed(d) ? 1 : 0));
  }
}

}  // namespace

const Tensor& Tensor::random_() const {
  if (!is_cpu()) return random_(0, end_of_exact_integers(dtype()));
  return write_in_place(
      op("fill"), *this, std::array<Tensor, 0>{},
      [](const Tensor& old) {
        Tensor out = empty_like(old);
        fill_random(out, default_generator(out.device()));
        return out;
      },
      [](const Tensor& x) { fill_random(x, default_generator(x.device())); });
}

// ------------------------------------------------------------------------------------------------ draws

namespace {

// Places in the running sums of each row that uniform numbers fall into.
Tensor draw_with_replacement(const Tensor& rows, std::int64_t num_samples) {
  const Tensor sums = rows.to(kFloat64).cumsum(1);
  const Tensor ends = sums / sums.slice(1, rows.size(1) - 1);
  const Tensor draws = rand({rows.size(0), num_samples}, rows.options().dtype(kFloat64));
  const Tensor before = ends.slice(1, 0, rows.size(1) - 1).unsqueeze(1) < draws.unsqueeze(2);
  return before.sum(2);
}

// The winners of a race in which x is the speed: the largest of x / exponential, then the next.
Tensor draw_without_replacement(const Tensor& rows, std::int64_t num_samples) {
  Tensor scores = rows / empty_like(rows).exponential_();
  std::vector<Tensor> winners;
  for (std::int64_t i = 0; i < num_samples; ++i) {
    winners.push_back(scores.argmax(1, true));
    scores.scatter_(1, winners.back(), -1);
  }
  return cat(winners, 1);
}

void check_weights(const Tensor& rows) {
  const bool valid = rows.ge(0).all().item().toBool() && rows.isfinite().all().item().toBool();
  check<ValueError>(valid, "multinomial: probability tensor contains either `inf`, `nan` or element < 0");
  check<ValueError>(rows.sum(1).gt(0).all().item().toBool(),
                    "multinomial: invalid multinomial distribution (sum of probabilities <= 0)");
}

}  // namespace

Tensor multinomial(const Tensor& x, std::int64_t num_samples, bool replacement) {
  check<ValueError>((x.dim() == 1 || x.dim() == 2) && x.is_floating_point(),
                    "multinomial: expected floating weights [classes] or [rows, classes], got ", describe(x));
  check<ValueError>(num_samples > 0, "multinomial: cannot sample n_sample <= 0 samples, got ", num_samples);
  check<ValueError>(replacement || num_samples <= x.size(-1),
                    "multinomial: cannot sample n_sample > prob_dist.size(-1) samples without replacement: ",
                    num_samples, " of ", x.size(-1));
  const plain::Scope scope;
  const Tensor rows = x.dim() == 1 ? x.unsqueeze(0) : x;
  check_weights(rows);
  const bool one_race = !replacement || num_samples == 1;
  const Tensor drawn =
      one_race ? draw_without_replacement(rows, num_samples) : draw_with_replacement(rows, num_samples);
  return x.dim() == 1 ? drawn.squeeze(0) : drawn;
}

}  // namespace halftone
