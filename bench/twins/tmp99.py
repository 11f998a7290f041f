"""Seconds until the small net of examples/mnist has 99 % of the test images right, reading the files included."""

import contextlib
import time

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from common import ExampleCnn, emit, mnist, name_of, normalized

EPOCHS, BATCH, LR = 3, 128, 0.004


def accuracy(net, x, target, region):
    net.eval()
    with torch.no_grad(), region():
        right = sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(500), target.split(500)))
    net.train()
    return right / len(target)


def seconds_to_99(dtype):
    start = time.perf_counter()
    torch.manual_seed(0)
    images, labels = mnist(train=True)
    test_images, test_labels = mnist(train=False)
    test_x = normalized(test_images)
    loader = DataLoader(TensorDataset(normalized(images), labels), BATCH, shuffle=True, drop_last=True)
    net = ExampleCnn()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, EPOCHS * len(loader))

    def region():
        return torch.autocast("cpu", dtype) if dtype != torch.float32 else contextlib.nullcontext()

    for epoch in range(EPOCHS):
        for x, target in loader:
            optimizer.zero_grad()
            with region():
                loss = F.cross_entropy(net(x), target)
            loss.backward()
            optimizer.step()
            scheduler.step()
        if accuracy(net, test_x, test_labels, region) >= 0.99:
            return time.perf_counter() - start
    return float("nan")


torch.set_num_threads(1)
import os
for dtype in (torch.float32, torch.bfloat16):
    c = os.times().user
    emit("mnist_to_99", seconds_to_99(dtype), "s", name_of(dtype), 2)
    print("user", os.times().user - c)
