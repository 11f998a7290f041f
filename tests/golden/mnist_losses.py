"""Writes mnist_losses.inc: PyTorch's float32 losses over the first 20 steps on the bundled MNIST images, same seed, same
nets, same order of images as tests/test_mnist_losses.cpp."""

import os
import sys

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench", "twins"))
from common import ExampleCnn, Mlp, mnist, normalized  # noqa: E402

SEED, STEPS, BATCH = 7, 20, 64


class MlpScores(Mlp):
    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def losses(make_net, make_optimizer):
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    images, labels = mnist(train=True)
    net = make_net()
    torch.randperm(len(labels))  # a RandomSampler draws an order when it is made, and one when a pass begins
    order = torch.randperm(len(labels))
    optimizer = make_optimizer(net.parameters())
    values = []
    for step in range(STEPS):
        batch = order[step * BATCH:(step + 1) * BATCH]
        loss = F.cross_entropy(net(normalized(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    return values


def line(name, values):
    return f'{{"{name}", {{{", ".join(f"{v:.7g}" for v in values)}}}}},\n'


CASES = {
    "mlp sgd": (MlpScores, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "mlp adamw": (MlpScores, lambda p: torch.optim.AdamW(p, lr=1e-3)),
    "cnn sgd": (ExampleCnn, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    "cnn adamw": (ExampleCnn, lambda p: torch.optim.AdamW(p, lr=1e-3)),
}
with open(os.path.join(HERE, "mnist_losses.inc"), "w") as out:
    out.write(f"// Written by mnist_losses.py with PyTorch {torch.__version__.split('+')[0]}.\n")
    for name, (make_net, make_optimizer) in CASES.items():
        out.write(line(name, losses(make_net, make_optimizer)))
