// cuBLASLt by plain loops. Strict where the library is: what it refuses, or leaves undefined, is refused here too.
#include <cublasLt.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include <cudasim/library.h>
#include "tests/cudasim/library_values.h"

struct cublasLtContext {
  int device;
};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute;
  cudaDataType_t scale;
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
  cudaDataType_t type;
  std::uint64_t rows, cols;
  std::int64_t leading;
  std::int32_t batch = 1;
  std::int64_t stride = 0;
};
struct cublasLtMatmulPreferenceOpaque_t {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  std::uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D: what the library assumes unless told otherwise
};

namespace {
using Desc = cublasLtMatmulDescOpaque_t;
using Layout = cublasLtMatrixLayoutOpaque_t;
using Preference = cublasLtMatmulPreferenceOpaque_t;

constexpr std::uint64_t kMark = 0x68616c66746f6e65;  // in algorithms that a heuristic gave out

template <class T> cublasStatus_t read_attribute(T& to, const void* value, std::size_t bytes) {
  if (value == nullptr || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T, class... Args> cublasStatus_t create(T** to, const char* name, Args... args) {
  if (to == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (cudasim::library_call_fails(name)) return CUBLAS_STATUS_ALLOC_FAILED;
  *to = new T{args...};
  return CUBLAS_STATUS_SUCCESS;
}

struct Problem {
  Desc desc;
  Layout a, b, c, d;
  std::uint64_t m, n, k;
};

bool types_fit(const Problem& p) {
  const cudaDataType_t in = p.a.type, out = p.d.type;
  if (p.b.type != in || p.c.type != out) return false;
  if (in == CUDA_R_64F || out == CUDA_R_64F) {
    return in == out && p.desc.compute == CUBLAS_COMPUTE_64F && p.desc.scale == CUDA_R_64F;
  }
  if (p.desc.scale != CUDA_R_32F || p.desc.compute == CUBLAS_COMPUTE_64F) return false;
  if (p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && in != CUDA_R_32F) return false;
  return in == out || (cudasim::is_16_bit(in) && out == CUDA_R_32F);
}

bool lies_well(const Layout& l) { return l.rows > 0 && l.cols > 0 && l.leading >= static_cast<std::int64_t>(l.rows); }

/// Matrices of a result may not share memory.
bool results_are_apart(const Layout& l) {
  return l.batch == 1 || l.stride >= l.leading * static_cast<std::int64_t>(l.cols);
}

cublasStatus_t describe(const Desc* desc, const Layout* a, const Layout* b, const Layout* c, const Layout* d,
                        Problem& p) {
  if (!desc || !a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
  p = {*desc, *a, *b, *c, *d, d->rows, d->cols, 0};
  const bool ta = desc->a == CUBLAS_OP_T, tb = desc->b == CUBLAS_OP_T;
  p.k = ta ? a->rows : a->cols;
  const bool fit = (ta ? a->cols : a->rows) == p.m && (tb ? b->rows : b->cols) == p.n &&
                   (tb ? b->cols : b->rows) == p.k && c->rows == p.m && c->cols == p.n && a->batch == d->batch &&
                   b->batch == d->batch && c->batch == d->batch;
  if (!fit || !lies_well(*a) || !lies_well(*b) || !lies_well(*c) || !lies_well(*d)) return CUBLAS_STATUS_INVALID_VALUE;
  return types_fit(p) && results_are_apart(*d) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

/// 16-bit matrices whose runs do not start on whole words: here there is no algorithm, so that callers' fallbacks run.
bool is_misaligned(const Layout& l) { return cudasim::is_16_bit(l.type) && (l.leading % 2 != 0 || l.stride % 2 != 0); }

std::size_t workspace_of(const Problem& p) {
  return p.k >= 64 ? static_cast<std::size_t>(p.m * p.n * 4) : 0;  // parts of a long sum
}

std::uint64_t shape_hash(const Problem& p) {
  std::uint64_t hash = kMark;
  for (const Layout* l : {&p.a, &p.b, &p.c, &p.d}) {
    for (const std::uint64_t value : {static_cast<std::uint64_t>(l->type), l->rows, l->cols,
                                      static_cast<std::uint64_t>(l->leading), static_cast<std::uint64_t>(l->batch)}) {
      hash = (hash ^ value) * 0x100000001b3u;
    }
  }
  return hash ^ static_cast<std::uint64_t>(p.desc.a * 2 + p.desc.b + p.desc.epilogue * 4);
}

struct Call {
  Problem p;
  double alpha, beta;
  const void *a, *b, *c;
  void *d, *workspace;
  std::size_t workspace_bytes;
};

const void* matrix_at(const Layout& l, const void* data, std::int64_t batch) {
  return static_cast<const char*>(data) + batch * l.stride * static_cast<std::int64_t>(cudasim::bytes_of(l.type));
}

bool reads_matrix(const Layout& l, const void* data) {
  const std::size_t size = cudasim::bytes_of(l.type);
  for (std::uint64_t col = 0; col < l.cols; ++col) {
    const char* at = static_cast<const char*>(data) + col * static_cast<std::uint64_t>(l.leading) * size;
    if (!cudasim::library_reads(at, l.rows * size)) return false;
  }
  return true;
}

bool writes_matrix(const Layout& l, void* data) {
  const std::size_t size = cudasim::bytes_of(l.type);
  for (std::uint64_t col = 0; col < l.cols; ++col) {
    char* at = static_cast<char*>(data) + col * static_cast<std::uint64_t>(l.leading) * size;
    if (!cudasim::library_writes(at, l.rows * size)) return false;
  }
  return true;
}

/// The columns of all of a batch's matrices.
std::vector<cudasim::Run> runs_of(const Layout& l, const void* data) {
  std::vector<cudasim::Run> runs;
  const std::size_t size = cudasim::bytes_of(l.type);
  for (std::int64_t i = 0; i < (l.stride == 0 ? 1 : l.batch); ++i) {
    const char* const matrix = static_cast<const char*>(matrix_at(l, data, i));
    for (std::uint64_t col = 0; col < l.cols; ++col) {
      runs.push_back(cudasim::run_of(matrix + col * static_cast<std::uint64_t>(l.leading) * size, l.rows * size));
    }
  }
  return runs;
}

/// What is written shares no memory with what is read, but for C in D's own place.
bool is_apart(const Call& call) {
  const Problem& p = call.p;
  const bool in_place = call.c == call.d && p.c.leading == p.d.leading && p.c.stride == p.d.stride;
  std::vector<cudasim::Run> given;
  const auto add = [&](const std::vector<cudasim::Run>& runs) { given.insert(given.end(), runs.begin(), runs.end()); };
  add(runs_of(p.a, call.a));
  add(runs_of(p.b, call.b));
  if (!in_place) add(runs_of(p.c, call.c));
  if (p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS) {
    add({cudasim::run_of(p.desc.bias, p.m * cudasim::bytes_of(p.d.type))});
  }
  const std::vector<cudasim::Run> result = runs_of(p.d, call.d);
  if (cudasim::overlap(given, result)) return false;
  add(result);
  return call.workspace_bytes == 0 || !cudasim::overlap(given, {cudasim::run_of(call.workspace, call.workspace_bytes)});
}

double element(const Layout& l, const void* data, bool transposed, std::uint64_t row, std::uint64_t col, bool tf32) {
  if (transposed) std::swap(row, col);
  const double value =
      cudasim::load(l.type, data, static_cast<std::int64_t>(row + col * static_cast<std::uint64_t>(l.leading)));
  return tf32 ? static_cast<double>(cudasim::as_tf32(static_cast<float>(value))) : value;
}

void multiply(const Call& call, std::int64_t batch) {
  const Problem& p = call.p;
  const void *a = matrix_at(p.a, call.a, batch), *b = matrix_at(p.b, call.b, batch), *c = matrix_at(p.c, call.c, batch);
  void* d = const_cast<void*>(matrix_at(p.d, call.d, batch));
  const bool bias = p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS;
  if (!reads_matrix(p.a, a) || !reads_matrix(p.b, b)) return;
  if (call.beta != 0 && !reads_matrix(p.c, c)) return;
  if (bias && !cudasim::library_reads(p.desc.bias, p.m * cudasim::bytes_of(p.d.type))) return;
  if (!writes_matrix(p.d, d)) return;
  const bool tf32 = p.desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  for (std::uint64_t col = 0; col < p.n; ++col) {
    for (std::uint64_t row = 0; row < p.m; ++row) {
      cudasim::Sum sum(p.desc.compute == CUBLAS_COMPUTE_64F);
      for (std::uint64_t l = 0; l < p.k; ++l) {
        sum.add(element(p.a, a, p.desc.a == CUBLAS_OP_T, row, l, tf32),
                element(p.b, b, p.desc.b == CUBLAS_OP_T, l, col, tf32));
      }
      const auto place = static_cast<std::int64_t>(row + col * static_cast<std::uint64_t>(p.d.leading));
      double value = call.alpha * sum.value();
      if (call.beta != 0) value += call.beta * element(p.c, c, false, row, col, false);
      if (bias) value += cudasim::load(p.d.type, p.desc.bias, static_cast<std::int64_t>(row));
      cudasim::store(p.d.type, d, place, value);
    }
  }
}

void run(const Call& call) {
  if (call.workspace_bytes > 0 && !cudasim::library_writes(call.workspace, call.workspace_bytes)) return;
  if (call.workspace_bytes > 0) std::memset(call.workspace, 0xFF, call.workspace_bytes);
  for (std::int64_t i = 0; i < call.p.d.batch; ++i) multiply(call, i);
}

double factor(cudaDataType_t scale, const void* from) { return cudasim::load(scale, from, 0); }

bool is_current(cublasLtHandle_t handle) {
  int device = -1;
  return handle != nullptr && cudaGetDevice(&device) == cudaSuccess && device == handle->device;
}

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH: return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR: return "CUBLAS_STATUS_INTERNAL_ERROR";
    default: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS ? "success" : "the simulated library refused the call";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  int device = -1;
  if (cudaGetDevice(&device) != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  return create(handle, "cublasLtCreate", device);
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* desc, cublasComputeType_t compute, cudaDataType_t scale) {
  if (desc == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *desc = new Desc{compute, scale};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
  delete desc;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  if (desc == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return read_attribute(desc->a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return read_attribute(desc->b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return read_attribute(desc->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return read_attribute(desc->bias, value, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t cols, std::int64_t leading) {
  if (layout == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new Layout{type, rows, cols, leading};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                std::size_t bytes) {
  if (layout == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return read_attribute(layout->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return read_attribute(layout->stride, value, bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  *preference = new Preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  if (preference == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return read_attribute(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return read_attribute(preference->reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return read_attribute(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value,
                            bytes);
    default: return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  if (preference == nullptr || results == nullptr || returned == nullptr || requested < 1 || !is_current(handle)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  *returned = 0;
  if (cudasim::library_call_fails("cublasLtMatmulAlgoGetHeuristic")) return CUBLAS_STATUS_INTERNAL_ERROR;
  Problem p{};
  if (const cublasStatus_t status = describe(desc, a, b, c, d, p); status != CUBLAS_STATUS_SUCCESS) return status;
  if (is_misaligned(p.a) || is_misaligned(p.b) || is_misaligned(p.d)) return CUBLAS_STATUS_NOT_SUPPORTED;
  for (std::size_t i = 0; i < 4; ++i) {  // an element's alignment is the least
    const Layout* const layouts[] = {&p.a, &p.b, &p.c, &p.d};
    if (preference->alignment[i] < cudasim::bytes_of(layouts[i]->type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const std::size_t workspace = workspace_of(p) <= preference->workspace ? workspace_of(p) : 0;
  const int count = std::min(requested, workspace > 0 ? 2 : 1);  // with parts of the sum, and without
  for (int i = 0; i < count; ++i) {
    cublasLtMatmulHeuristicResult_t& r = results[i] = {};
    r.workspaceSize = i == 0 ? workspace : 0;
    r.wavesCount = 1;
    r.algo.data[0] = shape_hash(p);
    r.algo.data[1] = r.workspaceSize;
    std::memcpy(&r.algo.data[2], preference->alignment, sizeof(preference->alignment));
  }
  *returned = count;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  if (!is_current(handle) || !alpha || !beta || !a || !b || !c || !d || !algo) return CUBLAS_STATUS_INVALID_VALUE;
  if (cudasim::device_of(stream) != handle->device) return CUBLAS_STATUS_INVALID_VALUE;
  Problem p{};
  if (const cublasStatus_t status = describe(desc, a_layout, b_layout, c_layout, d_layout, p);
      status != CUBLAS_STATUS_SUCCESS) {
    return status;
  }
  if (algo->data[0] != shape_hash(p)) return CUBLAS_STATUS_NOT_SUPPORTED;  // chosen for something else
  std::uint32_t alignment[4];
  std::memcpy(alignment, &algo->data[2], sizeof(alignment));
  const void* const addresses[] = {a, b, c, d};
  for (std::size_t i = 0; i < 4; ++i) {
    if (!cudasim::is_aligned(addresses[i], alignment[i])) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const std::size_t needed = algo->data[1];
  if (workspace_bytes < needed || (needed > 0 && !cudasim::is_aligned(workspace, 16)))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (desc->epilogue == CUBLASLT_EPILOGUE_BIAS && desc->bias == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Call call{p, factor(p.desc.scale, alpha), factor(p.desc.scale, beta), a, b, c, d, workspace, needed};
  if (!is_apart(call)) return CUBLAS_STATUS_INVALID_VALUE;
  const cudaError_t status = cudasim::enqueue_library_call(stream, "cublasLtMatmul", [call] { run(call); });
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
