// What the umbrella header alone costs to compile.
#ifdef BENCH_TORCH
#include <torch/torch.h>
#else
#include "halftone.h"
#endif
