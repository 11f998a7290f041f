"""Bytes a second of PyTorch's kernels that memory limits; the work and the counting are those of bench/gpu_kernels.h."""

import torch
import torch.nn.functional as F

from common import emit, name_of
from gpu import options, run_cases, seconds_on_device

ASKED = options()
BYTES = 1 << 13 if ASKED.smoke else 1 << 28
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
ATEN = torch.ops.aten
LIST_LENGTH = 64
CASES = []


def add(name, dtype, make):
    """make() gives the bytes that have to move, and the call."""

    def measure(budget):
        moved, call = make()
        seconds = seconds_on_device(ASKED, budget, call)
        emit("gpu_kernels/" + name, 1e-9 * moved / seconds, "GB/s", name_of(dtype), 1)

    CASES.append((name, measure))


def size_of(*tensors):
    return sum(t.numel() * t.element_size() for t in tensors)


def matrix(dtype, width=1024):
    return torch.randn(max(2, BYTES // dtype.itemsize // width), width, dtype=dtype)


def width(wanted):
    return wanted // 16 if ASKED.smoke else wanted


def image_batch(dtype):
    side = 4 if ASKED.smoke else 56
    batch = max(2, BYTES // dtype.itemsize // (64 * side * side))
    return torch.randn(batch, 64, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)


def copy(name, count):
    def make():
        source = torch.rand(count // 4)
        target = torch.empty_like(source)
        return 2 * size_of(source), lambda: target.copy_(source)

    add(name, F32, make)


def binary_add(dtype):
    def make():
        a, b = matrix(dtype), matrix(dtype)
        y = torch.empty_like(a)
        return 3 * size_of(a), lambda: torch.add(a, b, out=y)

    add("add", dtype, make)


def unary(name, dtype, f):
    def make():
        x = matrix(dtype)
        return 2 * size_of(x), lambda: f(x)

    add(name, dtype, make)


def unary_grad(name, dtype, f):
    def make():
        g, x = matrix(dtype), matrix(dtype)
        return 3 * size_of(x), lambda: f(g, x)

    add(name, dtype, make)


def pointwise(dtype):
    binary_add(dtype)
    unary("relu", dtype, torch.relu)
    unary_grad("relu_grad", dtype, lambda g, y: ATEN.threshold_backward(g, y, 0))
    unary("gelu", dtype, F.gelu)
    unary_grad("gelu_grad", dtype, ATEN.gelu_backward)
    unary("dropout", dtype, lambda x: F.dropout(x, 0.5))


def cast(name, source, target):
    def make():
        x = matrix(source)
        y = torch.empty(x.shape, dtype=target)
        return size_of(x, y), lambda: y.copy_(x)

    add(name, source, make)


def sum_over(name, dtype, dims):
    def make():
        x = matrix(dtype).abs()
        return size_of(x), lambda: x.sum(dims)

    add(name, dtype, make)


def softmax(dtype, wanted, log):
    name = "log_softmax" if log else "softmax"
    forward = torch.log_softmax if log else torch.softmax
    backward = ATEN._log_softmax_backward_data if log else ATEN._softmax_backward_data

    def make():
        x = matrix(dtype, width(wanted))
        return 2 * size_of(x), lambda: forward(x, 1)

    def make_grad():
        g, x = matrix(dtype, width(wanted)), matrix(dtype, width(wanted))
        y = forward(x, 1)
        return 3 * size_of(g), lambda: backward(g, y, 1, dtype)

    add(f"{name}_{wanted}", dtype, make)
    add(f"{name}_grad_{wanted}", dtype, make_grad)


def layer_norm(dtype, wanted):
    def make():
        x = matrix(dtype, width(wanted))
        shape = (x.shape[1],)
        w, b = torch.rand(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
        return 2 * size_of(x), lambda: torch.native_layer_norm(x, shape, w, b, 1e-5)

    def make_grad():
        g, x = matrix(dtype, width(wanted)), matrix(dtype, width(wanted))
        shape = (x.shape[1],)
        w, b = torch.rand(shape, dtype=dtype), torch.randn(shape, dtype=dtype)
        _, mean, rstd = torch.native_layer_norm(x, shape, w, b, 1e-5)
        wanted_grads = [True, True, True]
        return 3 * size_of(x), lambda: ATEN.native_layer_norm_backward(g, x, shape, mean, rstd, w, b, wanted_grads)

    add(f"layer_norm_{wanted}", dtype, make)
    add(f"layer_norm_grad_{wanted}", dtype, make_grad)


def cross_entropy(dtype, classes):
    def inputs():
        x = matrix(dtype, width(classes))
        return x, torch.randint(x.shape[1], (x.shape[0],))

    def make():
        x, labels = inputs()
        return size_of(x), lambda: F.cross_entropy(x, labels, reduction="none")

    def make_grad():
        x, labels = inputs()
        x.requires_grad_()
        loss = F.cross_entropy(x, labels, reduction="none")
        g = torch.rand_like(loss)
        return 2 * size_of(x), lambda: torch.autograd.grad(loss, x, g, retain_graph=True)

    add(f"cross_entropy_{classes}", dtype, make)
    add(f"cross_entropy_grad_{classes}", dtype, make_grad)


def batch_norm(dtype):
    def make():
        x = image_batch(dtype)
        w, b, mean, variance = (torch.rand(x.shape[1]) for _ in range(4))
        return 3 * size_of(x), lambda: F.batch_norm(x, mean, variance, w, b, True)

    def make_grad():
        g, x = image_batch(dtype), image_batch(dtype).requires_grad_()
        w, b = torch.rand(x.shape[1], requires_grad=True), torch.rand(x.shape[1], requires_grad=True)
        y = F.batch_norm(x, None, None, w, b, True)
        return 5 * size_of(x), lambda: torch.autograd.grad(y, (x, w, b), g, retain_graph=True)

    add("batch_norm", dtype, make)
    add("batch_norm_grad", dtype, make_grad)


def max_pool(dtype):
    def make():
        x = image_batch(dtype)
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        return size_of(x, y, indices), lambda: F.max_pool2d(x, 2, return_indices=True)

    def make_grad():
        x = image_batch(dtype)
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        g = torch.randn_like(y)
        backward = ATEN.max_pool2d_with_indices_backward
        return size_of(x, y, indices), lambda: backward(g, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices)

    add("max_pool", dtype, make)
    add("max_pool_grad", dtype, make_grad)


def to_channels_last(dtype):
    def make():
        y = image_batch(dtype)
        x = y.contiguous(memory_format=torch.contiguous_format)
        return 2 * size_of(x), lambda: y.copy_(x)

    add("to_channels_last", dtype, make)


def lists_of(count):
    return [[torch.rand(BYTES // 4 // LIST_LENGTH) for _ in range(LIST_LENGTH)] for _ in range(count)]


def lists():
    def unscale():
        (x,) = lists_of(1)
        found, factor = torch.zeros(1), torch.full((1,), 1 - 2.0**-10)
        return 2 * size_of(*x), lambda: torch._amp_foreach_non_finite_check_and_unscale_(x, found, factor)

    def sgd():
        p, g, v = lists_of(3)
        settings = dict(weight_decay=1e-4, momentum=0.9, lr=1e-3, dampening=0.0, nesterov=False, maximize=False)
        return 5 * size_of(*p), lambda: torch._fused_sgd_(p, g, v, is_first_step=False, **settings)

    def adamw():
        p, g, m, v = lists_of(4)
        steps = [torch.ones(()) for _ in p]
        settings = dict(lr=1e-3, beta1=0.9, beta2=0.999, weight_decay=1e-2, eps=1e-8, amsgrad=False, maximize=False)
        return 7 * size_of(*p), lambda: torch._fused_adamw_(p, g, m, v, [], steps, **settings)

    def norm():
        (x,) = lists_of(1)
        return size_of(*x), lambda: torch.linalg.vector_norm(torch.stack(torch._foreach_norm(x)))

    for name, make in (("unscale_and_check", unscale), ("sgd_momentum", sgd), ("adamw", adamw), ("gradient_norm", norm)):
        add(name, F32, make)


SCALE = 1 << 16 if ASKED.smoke else 1
copy("copy_256MB", (1 << 28) // SCALE)
copy("copy_1GB", (1 << 30) // SCALE)
for DTYPE in (F32, F16):
    pointwise(DTYPE)
    if DTYPE == F32:
        sum_over("sum", DTYPE, (0, 1))
    sum_over("sum_of_rows", DTYPE, 1)
    if DTYPE == F32:
        sum_over("sum_of_columns", DTYPE, 0)
    for WANTED in (1024, 8192):
        softmax(DTYPE, WANTED, False)
        softmax(DTYPE, WANTED, True)
        layer_norm(DTYPE, WANTED)
    for CLASSES in (1000, 32768):
        cross_entropy(DTYPE, CLASSES)
    batch_norm(DTYPE)
    max_pool(DTYPE)
    to_channels_last(DTYPE)
unary("gelu", BF16, F.gelu)
binary_add(BF16)
cast("cast_to_float16", F32, F16)
cast("cast_to_bfloat16", F32, BF16)
cast("cast_to_float32", F16, F32)
lists()
run_cases(ASKED, CASES)
