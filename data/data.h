// Everything of data/ in one include.
#pragma once

#include "data/cifar10.h"
#include "data/data_loader.h"
#include "data/dataset.h"
#include "data/map.h"
#include "data/mnist.h"
#include "data/samplers.h"
#include "data/transforms.h"
