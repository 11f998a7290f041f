"""Training steps a second in float16 with a GradScaler and PyTorch's fused optimizer: eager, and captured in a graph."""

import sys

import torch
import torch.nn.functional as F

from common import CppExampleCnn, Mlp, PythonExampleCnn, ResNet20, emit, mnist, normalized
from gpu import options, run_cases, seconds_on_device

ASKED = options()
TYPE = ASKED.device.partition(":")[0]
NETS = {"mlp": Mlp, "cnn_of_cpp_example": CppExampleCnn, "cnn_of_python_example": PythonExampleCnn, "resnet20": ResNet20}


def batch_of(name):
    count = 8 if ASKED.smoke else 128 if name == "resnet20" else 64
    if name == "resnet20":
        x = torch.randn(count, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        return x, torch.randint(10, (count,))
    images, labels = mnist(train=False)
    return normalized(images[:count]).to(ASKED.device), labels[:count].to(ASKED.device)


class Training:
    def __init__(self, name, cache_casts=True):
        torch.manual_seed(0)
        self.cache_casts = cache_casts
        self.x, self.target = batch_of(name)
        self.net = NETS[name]().to(ASKED.device)
        if name == "resnet20":
            self.net = self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01, momentum=0.5, fused=True)
        self.scaler = torch.amp.GradScaler(TYPE)

    def step(self):
        self.optimizer.zero_grad()
        with torch.autocast(TYPE, torch.float16, cache_enabled=self.cache_casts):
            self.loss = F.nll_loss(self.net(self.x), self.target)
        self.scaler.scale(self.loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def check_learns(training, step):
    step()
    first = training.loss.item()
    for _ in range(20):
        step()
    assert training.loss.item() < first, "it does not learn"


def eager(name):
    def measure(budget):
        training = Training(name)
        check_learns(training, training.step)
        emit("gpu_train/" + name, 1 / seconds_on_device(ASKED, budget, training.step), "steps/s", "float16", 1)

    return measure


def captured(name):
    """As PyTorch's notes on CUDA graphs capture a step: warm-up on a side stream, gradients dropped, then the capture."""

    def measure(budget):
        training = Training(name, cache_casts=False)  # PyTorch's advice: a cached cast would miss in the graph
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                training.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            training.step()
        check_learns(training, graph.replay)
        rate = 1 / seconds_on_device(ASKED, budget, graph.replay)
        emit(f"gpu_train/{name}_captured", rate, "steps/s", "float16", 1)

    return measure


CASES = []
for NAME in NETS:
    CASES.append((NAME, eager(NAME)))
    if TYPE == "cuda":
        CASES.append((NAME + "_captured", captured(NAME)))
print("PyTorch", torch.__version__, file=sys.stderr)
run_cases(ASKED, CASES)
