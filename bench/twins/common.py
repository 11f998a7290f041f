"""What the PyTorch twins share: the output lines, timing, MNIST and the nets. The C++ side is bench/common.h and nets.h."""

import gzip
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def emit(name, value, unit, dtype, threads):
    print(json.dumps({"name": name, "value": value, "unit": unit, "dtype": dtype, "threads": threads}), flush=True)


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def seconds_a_call(f, budget=1.0, blocks=7):
    """The median over blocks of calls of the time one call takes; as seconds_a_call of bench/common.h."""
    f()
    start = time.perf_counter()
    f()
    once = max(time.perf_counter() - start, 1e-9)
    calls = max(1, int(budget / blocks / once))
    times = []
    for _ in range(blocks):
        start = time.perf_counter()
        for _ in range(calls):
            f()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def read_idx(name, offset):
    path = os.path.join(ROOT, "examples", "data", "mnist", name + ".gz")
    with gzip.open(path) as file:
        return torch.frombuffer(bytearray(file.read()[offset:]), dtype=torch.uint8)


def mnist(train):
    """uint8 images [N, 1, 28, 28] and int64 labels [N]."""
    prefix = "train" if train else "t10k"
    images = read_idx(prefix + "-images-idx3-ubyte", 16).view(-1, 1, 28, 28)
    return images, read_idx(prefix + "-labels-idx1-ubyte", 8).long()


def normalized(images):
    return images.float().div(255).sub(0.1307).div(0.3081)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        return F.log_softmax(self.fc2(F.relu(self.fc1(x.flatten(1)))), 1)


class CppExampleCnn(nn.Module):
    """The net of PyTorch's C++ MNIST example."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(x.reshape(-1, 320)))
        x = F.dropout(x, 0.5, self.training)
        return F.log_softmax(self.fc2(x), 1)


class PythonExampleCnn(nn.Module):
    """The net of PyTorch's Python MNIST example."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = self.dropout1(F.max_pool2d(x, 2))
        x = self.dropout2(F.relu(self.fc1(x.flatten(1))))
        return F.log_softmax(self.fc2(x), 1)


class ExampleCnn(nn.Module):
    """The small net of examples/mnist."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """Two convolutions and a way around them, as in the residual nets for CIFAR-10."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(
            Block(16, 16, 1), Block(16, 16, 1), Block(16, 16, 1),
            Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1),
            Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return F.log_softmax(self.fc(x.mean((2, 3))), 1)


def threads_asked():
    """The thread counts to measure with: 1 and 2, or those of the command line."""
    return [int(a) for a in sys.argv[1:]] or [1, 2]
