// Matrix products by cuBLASLt. It thinks in columns: what it is told is y' = b' a', whose columns are our rows. A
// transposed view is a flag, a matrix shared by a batch a batch stride of 0, and the bias is added where the sums are
// rounded.
//
// Activations are passes of their own. cuBLASLt's GELU is the tanh approximation, while ours is the exact one; and
// nothing says that its ReLU lets NaN pass, which must not vanish.
#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "core/cuda_graph.h"
#include "core/cuda_library_use.h"
#include "core/cuda_options.h"
#include "kernels/cuda/channel_bias.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/simple_product.h"
#include "kernels/gemm_problem.h"

namespace halftone {

using namespace cuda;

namespace {

using Operation = Handle<cublasLtMatmulDescCreate, cublasLtMatmulDescDestroy>;
using Layout = Handle<cublasLtMatrixLayoutCreate, cublasLtMatrixLayoutDestroy>;
using Preference = Handle<cublasLtMatmulPreferenceCreate, cublasLtMatmulPreferenceDestroy>;
using Candidate = cublasLtMatmulHeuristicResult_t;

constexpr std::size_t kWorkspace = std::size_t{32} << 20;  // what cuBLAS itself takes on Hopper
constexpr int kCandidates = 8;                             // to time, or to fall back on

template <class T> void set(const Operation& of, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(of, attribute, &value, sizeof(value)));
}
template <class T> void set(const Layout& of, cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
  check(cublasLtMatrixLayoutSetAttribute(of, attribute, &value, sizeof(value)));
}
template <class T> void set(const Preference& of, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(of, attribute, &value, sizeof(value)));
}

cudaDataType_t data_type(Dtype d) {
  if (d == kFloat16) return CUDA_R_16F;
  if (d == kBFloat16) return CUDA_R_16BF;
  return d == kFloat64 ? CUDA_R_64F : CUDA_R_32F;
}

cublasComputeType_t compute_type(const GemmProblem& p) {
  if (p.out == kFloat64) return CUBLAS_COMPUTE_64F;
  return p.tf32 && p.in == kFloat32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

/// Of a matrix of ours, [rows, cols]: its runs are the library's columns.
Layout layout_of(Dtype dtype, std::int64_t rows, std::int64_t cols, const BlasMatrix& m, std::int64_t batch) {
  const auto run = static_cast<std::uint64_t>(m.transposed ? rows : cols);
  const auto runs = static_cast<std::uint64_t>(m.transposed ? cols : rows);
  Layout layout(data_type(dtype), run, runs, m.leading);
  if (batch > 1) {
    set(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
    set(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, m.batch_stride);
  }
  return layout;
}

/// What the library is told of a problem, and the algorithms it has for it.
struct Plan {
  explicit Plan(const GemmProblem& p)
      : operation(compute_type(p), data_type(p.out == kFloat64 ? kFloat64 : kFloat32)),
        first(layout_of(p.in, p.k, p.n, p.b, p.batch)),
        second(layout_of(p.in, p.m, p.k, p.a, p.batch)),
        result(layout_of(p.out, p.m, p.n, p.y, p.batch)) {
    set(operation, CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(operation, CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (p.bias) set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  }

  Operation operation;
  Layout first, second, result;
  std::vector<Candidate> candidates;  // the best first; none: the library has no algorithm
};

struct Addresses {
  const void *a, *b, *bias;
  void* y;
};

Preference preference_for(const GemmProblem& p) {
  Preference preference;
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.b_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.a_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.y_alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.y_alignment);
  // Parts of a long sum are added up in float32 and not in the result's 16 bits: there is one rounding.
  const std::uint32_t reductions =
      is_low_precision(p.out) ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_MASK;
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  return preference;
}

/// Products of one thread on one device.
class Products {
 public:
  explicit Products(Gpu& g) : gpu_(g) {}

  /// False if the library has no algorithm for it.
  bool multiply(GemmProblem problem, const Addresses& at) {
    use(gpu_.device);
    problem.timed = benchmark() && !deterministic();  // a measurement may decide otherwise in the next run
    Plan& plan = plan_for(problem, at);
    while (!plan.candidates.empty()) {
      const Tensor workspace = workspace_.of(gpu_, kWorkspace);
      const cublasStatus_t status = run(plan, plan.candidates.front(), problem, at, at.y, workspace);
      if (is_unsupported(status)) {  // what the library proposes need not run
        std::ignore = cudaGetLastError();
        plan.candidates.erase(plan.candidates.begin());
        continue;
      }
      check(status);
      count_use(&LibraryUse::library_products);
      return true;
    }
    return false;
  }

 private:
  Plan& plan_for(GemmProblem& problem, const Addresses& at) {
    if (const auto known = plans_.find(problem); known != plans_.end()) return with_bias(known->second, problem, at);
    if (problem.timed && is_capturing(gpu_.device)) {
      problem.timed = false;
      return plan_for(problem, at);
    }
    constexpr std::size_t kMostPlans = 4096;  // shapes may never repeat
    if (plans_.size() >= kMostPlans) plans_.clear();
    Plan plan(problem);  // remembered when it is whole: what throws here is asked again the next time
    plan.candidates = candidates_for(with_bias(plan, problem, at), problem, at);
    return plans_.emplace(problem, std::move(plan)).first->second;
  }

  static Plan& with_bias(Plan& plan, const GemmProblem& problem, const Addresses& at) {
    if (problem.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, at.bias);
    return plan;
  }

  std::vector<Candidate> candidates_for(const Plan& plan, const GemmProblem& problem, const Addresses& at) {
    std::vector<Candidate> candidates(kCandidates);
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation, plan.first, plan.second, plan.result, plan.result,
                                       preference_for(problem), kCandidates, candidates.data(), &found);
    if (is_unsupported(status)) return {};
    check(status);
    candidates.resize(static_cast<std::size_t>(found));
    std::erase_if(candidates, [](const Candidate& c) { return c.state != CUBLAS_STATUS_SUCCESS; });
    if (problem.timed) sort_by_time(candidates, plan, problem, at);
    return candidates;
  }

  /// Leaves those that run at all, the fastest first; as the library had them where there is no room for a second
  /// result.
  void sort_by_time(std::vector<Candidate>& candidates, const Plan& plan, const GemmProblem& problem,
                    const Addresses& at) {
    const std::int64_t elements =
        problem.batch > 1 ? problem.batch * problem.y.batch_stride : problem.m * problem.y.leading;
    const Tensor result =
        if_there_is_room([&] { return empty({elements}, TensorOptions(problem.out).device(gpu_.device)); });
    if (!result.defined()) return;
    check(cudaMemsetAsync(result.data_ptr(), 0, result.nbytes(), gpu_.stream));  // some products add to it
    std::multimap<float, Candidate> by_time;
    cublasStatus_t failure = CUBLAS_STATUS_SUCCESS;
    for (const Candidate& candidate : candidates) {
      const Timing timing = time_of(plan, candidate, problem, at, result);
      if (timing.status != CUBLAS_STATUS_SUCCESS) {
        failure = timing.status;
      } else {
        by_time.emplace(timing.milliseconds, candidate);
      }
    }
    if (by_time.empty() && !is_unsupported(failure)) check(failure);
    candidates.clear();
    for (const auto& [time, candidate] : by_time) candidates.push_back(candidate);
  }

  struct Timing {
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    float milliseconds = 0;
  };

  Timing time_of(const Plan& plan, const Candidate& candidate, const GemmProblem& problem, const Addresses& at,
                 const Tensor& result) {
    constexpr int kRepeats = 4;
    const Tensor workspace = workspace_.of(gpu_, kWorkspace);
    const Handle<cudaEventCreateWithFlags, cudaEventDestroy> begin(cudaEventDefault), end(cudaEventDefault);
    Timing timing;
    for (int i = 0; i <= kRepeats; ++i) {
      if (i == 1) check(cudaEventRecord(begin, gpu_.stream));  // the first one warms up
      timing.status = run(plan, candidate, problem, at, result.data_ptr(), workspace);
      if (timing.status == CUBLAS_STATUS_SUCCESS) continue;
      std::ignore = cudaGetLastError();  // else a later, innocent call would report it again
      return timing;
    }
    check(cudaEventRecord(end, gpu_.stream));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&timing.milliseconds, begin, end));
    return timing;
  }

  cublasStatus_t run(const Plan& plan, const Candidate& candidate, const GemmProblem& problem, const Addresses& at,
                     void* y, const Tensor& workspace) {
    const Factor one(1), kept(problem.accumulate ? 1 : 0);
    return cublasLtMatmul(handle_, plan.operation, one.in(problem.out), at.b, plan.first, at.a, plan.second,
                          kept.in(problem.out), y, plan.result, y, plan.result, &candidate.algo, workspace.data_ptr(),
                          kWorkspace, gpu_.stream);
  }

  Gpu& gpu_;
  Handle<cublasLtCreate, cublasLtDestroy> handle_;
  Workspace workspace_;
  std::map<GemmProblem, Plan> plans_;
};

/// The factors' dtype: y's, or 16 bits where both have them and y is float32.
Dtype factor_dtype(const Tensor& a, const Tensor& b, const Tensor& y) {
  const bool widening = y.dtype() == kFloat32 && a.dtype() == b.dtype() && is_low_precision(a.dtype());
  return widening ? a.dtype() : y.dtype();
}

Tensor copy_of(CudaBackend& backend, const Tensor& t, Dtype dtype) {
  Tensor copy = empty(t.sizes(), t.options().dtype(dtype));
  backend.copy(t, copy);
  return copy;
}

/// t in the dtype, with strides that the library knows.
Tensor factor(CudaBackend& backend, const Tensor& t, Dtype dtype) {
  return t.dtype() == dtype && as_blas(strided_matrix(t)) ? t : copy_of(backend, t, dtype);
}

/// That of every matrix of a batch.
std::uint32_t alignment_in_batch(const void* first, const BlasMatrix& m, Dtype dtype, std::int64_t batch) {
  const auto step = static_cast<std::uintptr_t>(batch > 1 ? m.batch_stride * element_size(dtype) : 0);
  return alignment_of(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(first) | step));
}

/// A product that the library takes as it lies: with y's rows without gaps, or without a bias its columns.
bool multiply(const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate, const Tensor& y) {
  const StridedMatrix left = strided_matrix(a), right = strided_matrix(b), result = strided_matrix(y);
  const std::int64_t batch = y.dim() == 3 ? y.size(0) : 1;
  Addresses at{a.data_ptr(), b.data_ptr(), bias.defined() ? bias.data_ptr() : nullptr, y.data_ptr()};
  std::optional<GemmProblem> problem = gemm_problem(left, right, result, batch);
  if (!problem && !bias.defined()) {
    problem = gemm_problem(right.transposed(), left.transposed(), result.transposed(), batch);
    std::swap(at.a, at.b);
  }
  if (!problem || batch > INT32_MAX) return false;
  problem->in = a.dtype();
  problem->out = y.dtype();
  problem->bias = bias.defined();
  problem->accumulate = accumulate;
  problem->tf32 = allow_tf32();
  problem->a_alignment = alignment_in_batch(at.a, problem->a, problem->in, batch);
  problem->b_alignment = alignment_in_batch(at.b, problem->b, problem->in, batch);
  problem->y_alignment = alignment_in_batch(at.y, problem->y, problem->out, batch);
  problem->bias_alignment = alignment_of(at.bias);
  return context_of<Products>(gpu(y)).multiply(*problem, at);
}

bool is_row_major(const Tensor& y) {
  const auto blas = as_blas(strided_matrix(y));
  return blas && !blas->transposed;
}

bool bias_can_lie_in(const Tensor& y) { return y.dim() == 2 && y.is_contiguous() && alignment_of(y.data_ptr()) >= 16; }

/// The product in memory of its own, contiguous and of a dtype that suits the bias, copied to y.
void product_aside(CudaBackend& backend, const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate,
                   Dtype dtype, Tensor& y) {
  Tensor aside = empty(y.sizes(), y.options().dtype(dtype));
  if (accumulate) backend.copy(y, aside);
  backend.gemm(a, b, bias, Activation::none, accumulate, aside);
  backend.copy(aside, y);
}

void floating_product(CudaBackend& backend, const Tensor& a, const Tensor& b, const Tensor& bias, bool accumulate,
                      Tensor& y) {
  if (bias.defined() && bias.dtype() == kFloat32 && is_low_precision(y.dtype())) {
    return product_aside(backend, a, b, bias, accumulate, kFloat32, y);  // the library would want it in 16 bits
  }
  const Dtype dtype = factor_dtype(a, b, y);
  const Tensor left = factor(backend, a, dtype), right = factor(backend, b, dtype);
  Tensor row = bias;
  if (bias.defined() && (bias.dtype() != y.dtype() || !bias.is_contiguous())) row = copy_of(backend, bias, y.dtype());
  const auto result = as_blas(strided_matrix(y));
  if (!result || (row.defined() && !is_row_major(y))) {
    return product_aside(backend, left, right, row, accumulate, y.dtype(), y);
  }
  if (multiply(left, right, row, accumulate, y)) return;
  if (bias_can_lie_in(y) && row.defined() && !accumulate) {  // there may be an algorithm that adds no bias
    fill_with_bias(row, y);
    row.reset();
    accumulate = true;
    if (multiply(left, right, row, accumulate, y)) return;
  }
  simple_product(left, right, row, accumulate, y);
  count_use(&LibraryUse::simple_products);
}

}  // namespace

void CudaBackend::gemm(const Tensor& a, const Tensor& b, const Tensor& bias, Activation activation, bool accumulate,
                       Tensor& y) {
  if (y.numel() == 0) return;
  if (is_floating_point(y.dtype()) && a.numel() > 0) {
    floating_product(*this, a, b, bias, accumulate, y);
  } else {
    const auto fitting = [&](const Tensor& t) { return t.dtype() == y.dtype() ? t : copy_of(*this, t, y.dtype()); };
    simple_product(fitting(a), fitting(b), bias, accumulate, y);
  }
  if (activation == Activation::relu) unary(fn::Relu{}, y, y, y.dtype());
  if (activation == Activation::gelu) unary(fn::Gelu{}, y, y, y.dtype());
}

}  // namespace halftone
