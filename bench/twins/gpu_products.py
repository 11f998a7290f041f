"""TFLOP/s of PyTorch's matrix products and convolutions, by its best algorithms; the work is bench/gpu_products.cpp's."""

import torch

from common import emit, name_of
from gpu import options, run_cases, seconds_on_device

ASKED = options()
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32

PRODUCTS = [  # m, k, n, and which factors are transposed views
    (1024, 1024, 1024, "NN"),
    (4096, 4096, 4096, "NN"),
    (8192, 8192, 8192, "NN"),
    (4097, 1023, 2049, "NN"),
    (64, 784, 128, "NT"),
    (8192, 1024, 4096, "NT"),
    (8192, 4096, 1024, "NN"),
    (4096, 8192, 1024, "TN"),
    (32768, 64, 64, "NN"),
]
CONVOLUTIONS = [  # name, batch, channels in, size, channels out, kernel, stride
    ("resnet50_first", 128, 3, 224, 64, 7, 2),
    ("resnet50_3x3_64", 128, 64, 56, 64, 3, 1),
    ("resnet50_1x1_256", 128, 64, 56, 256, 1, 1),
    ("resnet50_3x3_128_stride", 128, 128, 56, 128, 3, 2),
    ("resnet50_3x3_256", 128, 256, 14, 256, 3, 1),
    ("resnet50_3x3_512", 128, 512, 7, 512, 3, 1),
    ("resnet20_16", 128, 16, 32, 16, 3, 1),
    ("resnet20_64", 128, 64, 8, 64, 3, 1),
]
CASES = []


def label(m, k, n, letters):
    return str(n) if m == k == n and letters == "NN" else f"{m}x{k}x{n}{letters}"


def matrix(rows, columns, transposed, dtype):
    if transposed:
        return (torch.rand(columns, rows) - 0.5).to(dtype).t()
    return (torch.rand(rows, columns) - 0.5).to(dtype)


def product(dtype, tf32, m, k, n, letters):
    name = ("gemm_tf32_" if tf32 else "gemm_") + label(m, k, n, letters)

    def measure(budget):
        divisor = 64 if ASKED.smoke else 1
        rows, inner, columns = (max(1, size // divisor) for size in (m, k, n))
        a, b = matrix(rows, inner, letters[0] == "T", dtype), matrix(inner, columns, letters[1] == "T", dtype)
        y = torch.empty(rows, columns, dtype=dtype)
        torch.backends.cuda.matmul.allow_tf32 = tf32
        seconds = seconds_on_device(ASKED, budget, lambda: torch.mm(a, b, out=y))
        torch.backends.cuda.matmul.allow_tf32 = False
        emit("gpu_products/" + name, 2e-12 * rows * inner * columns / seconds, "TFLOP/s", name_of(dtype), 1)

    CASES.append((name, measure))


def convolution(dtype, name, batch, channels_in, size, channels_out, kernel, stride):
    if ASKED.smoke:
        batch, size, channels_in, channels_out = 2, min(size, 8), 3, 3
    padding = kernel // 2

    def numbers(*shape):
        return torch.rand(shape).to(dtype).contiguous(memory_format=torch.channels_last)

    def measure(budget):
        x, w = numbers(batch, channels_in, size, size), numbers(channels_out, channels_in, kernel, kernel)
        settings = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)

        def forward():
            return torch.convolution(x, w, None, *settings)

        g = torch.rand_like(forward()) / 64

        def backward(mask):
            return torch.ops.aten.convolution_backward(g, x, w, None, *settings, mask)

        passes = {
            "forward": forward,
            "data": lambda: backward([True, False, False]),
            "weight": lambda: backward([False, True, False]),
        }
        operations = 2 * g.numel() * channels_in * kernel * kernel
        for which, run in passes.items():
            seconds = seconds_on_device(ASKED, budget / 3, run)
            emit(f"gpu_products/{name}/{which}", 1e-12 * operations / seconds, "TFLOP/s", name_of(dtype), 1)

    CASES.append((name, measure))


for DTYPE in (F16, BF16, F32):
    for PRODUCT in PRODUCTS:
        product(DTYPE, False, *PRODUCT)
for PRODUCT in PRODUCTS:
    if PRODUCT[0] == PRODUCT[2]:
        product(F32, True, *PRODUCT)
for DTYPE in (F16, BF16):
    for CONVOLUTION in CONVOLUTIONS:
        convolution(DTYPE, *CONVOLUTION)
run_cases(ASKED, CASES)
