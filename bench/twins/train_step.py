"""Training steps a second, with the batch in memory: forward, loss, backward, SGD with momentum."""

import contextlib

import torch
import torch.nn.functional as F

from common import (CppExampleCnn, Mlp, PythonExampleCnn, ResNet20, emit, mnist, name_of, normalized, seconds_a_call,
                    threads_asked)


def batch_of(name):
    if name == "resnet20":  # PyTorch's faster layout for it
        torch.manual_seed(1)
        x = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        return x, torch.randint(10, (128,))
    images, labels = mnist(train=False)
    return normalized(images[:64]), labels[:64]


def measure(name, make_net, dtype, threads):
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = make_net()
    x, target = batch_of(name)
    if name == "resnet20":
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    losses = []

    def step():
        optimizer.zero_grad()
        region = torch.autocast("cpu", dtype) if dtype != torch.float32 else contextlib.nullcontext()
        with region:
            loss = F.nll_loss(net(x), target)
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(20):
        losses.append(step().item())
    assert losses[-1] < losses[0], losses  # it learns, so it does the work
    emit(f"train_step/{name}", 1 / seconds_a_call(step), "steps/s", name_of(dtype), threads)


NETS = {"mlp": Mlp, "cnn_of_cpp_example": CppExampleCnn, "cnn_of_python_example": PythonExampleCnn, "resnet20": ResNet20}
for count in threads_asked():
    for name, make_net in NETS.items():
        for dtype in (torch.float32, torch.bfloat16):
            measure(name, make_net, dtype, count)
