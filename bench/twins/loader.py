"""Images a second through the data loader: shuffled, normalized, in batches of 64."""

import time

import torch
from torch.utils.data import DataLoader, Dataset

from common import emit, mnist


class Mnist(Dataset):
    def __init__(self):
        self.images, self.labels = mnist(train=True)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.images[index].float().div(255).sub(0.1307).div(0.3081), self.labels[index]


dataset = Mnist()
for workers in (0, 2):
    start = time.perf_counter()
    total = sum(len(target) for _, target in DataLoader(dataset, 64, shuffle=True, num_workers=workers))
    assert total == len(dataset)
    emit(f"loader/workers_{workers}", total / (time.perf_counter() - start), "images/s", "float32", 1)
