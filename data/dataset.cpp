#include "data/dataset.h"

#include "autograd/ops.h"

namespace halftone::data::datasets {

TensorDataset::TensorDataset(const std::vector<Tensor>& rows) : TensorDataset(stack(rows)) {}

}  // namespace halftone::data::datasets
