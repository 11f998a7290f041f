// All of halftone. A program includes this one header.
#pragma once

#include "amp/amp.h"
#include "autograd/engine.h"
#include "autograd/function.h"
#include "autograd/ops.h"
#include "autograd/tensor_factory.h"
#include "core/arg.h"
#include "core/cuda_graph.h"
#include "core/cuda_library_use.h"
#include "core/cuda_options.h"
#include "core/enum.h"
#include "core/error.h"
#include "core/expanding_array.h"
#include "core/irange.h"
#include "core/ordered_dict.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/runtime.h"
#include "core/serialize.h"
#include "core/tensor.h"
#include "data/data.h"
#include "nn/nn.h"
#include "optim/optim.h"

namespace ht = halftone;
