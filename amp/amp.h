// All of mixed precision.
#pragma once

#include "amp/autocast.h"
#include "amp/custom_function.h"
#include "amp/grad_scaler.h"
#include "amp/trace.h"
