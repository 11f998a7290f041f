// All optimizers, schedules and clipping.
#pragma once

#include "optim/adam.h"
#include "optim/clip.h"
#include "optim/optimizer.h"
#include "optim/schedulers.h"
#include "optim/sgd.h"
