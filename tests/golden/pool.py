"""Prints tests/golden/pool.inc: PyTorch's pools of small planes. Run: python3 pool.py > pool.inc"""
import torch
import torch.nn.functional as F

MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVG = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
ADAPTIVE = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
BATCH, CHANNELS = 2, 3


def plane(sizes):
    """Small whole numbers with many ties."""
    count = BATCH * CHANNELS * torch.Size(sizes).numel()
    return ((torch.arange(count) * 7 + torch.arange(count) // 5) % 11 - 5).double().view(BATCH, CHANNELS, *sizes)


def listed(values):
    if isinstance(values, torch.Tensor):
        values = [repr(v).removesuffix(".0") for v in values.flatten().tolist()]
    return "{" + ", ".join(str(v).lower() for v in values) + "}"


print(f"// Written by pool.py with torch {torch.__version__.split('+')[0]}.")
print("// in, kernel, stride, padding, dilation, ceil_mode; maxima, their positions, the gradient of sum(y * y)")
print("const MaxCase kMax[] = {")
for c in (((6,), (2,), (2,), (0,), (1,), False), ((7,), (3,), (2,), (1,), (2,), True), ((6, 8), (2, 2), (2, 2), (0, 0), (1, 1), False),
          ((5, 7), (3, 3), (1, 1), (1, 1), (1, 1), False), ((7, 5), (3, 2), (2, 3), (1, 1), (2, 1), True),
          ((1, 1), (3, 3), (1, 1), (1, 1), (1, 1), False), ((5, 4), (4, 3), (3, 2), (2, 1), (1, 1), True),
          ((4, 5, 3), (2, 3, 2), (2, 1, 1), (1, 1, 0), (1, 1, 2), False), ((3, 4, 5), (2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), True)):
    x = plane(c[0]).requires_grad_()
    y, i = MAX[len(c[0]) - 1](x, *c[1:5], ceil_mode=c[5], return_indices=True)
    (y * y).sum().backward()
    print("    {" + ", ".join(listed(v) for v in c[:5]), str(c[5]).lower(), listed(y.detach()), listed(i), listed(x.grad), sep=", ", end="},\n")
print("};")
print("// in, kernel, stride, padding, ceil_mode, count_padding, divisor; averages, the gradient of sum(y * y)")
print("const AverageCase kAverage[] = {")
for c in (((6,), (2,), (2,), (0,), False, True, 0), ((7,), (3,), (2,), (1,), True, False, 0), ((6, 8), (2, 2), (2, 2), (0, 0), False, True, 0),
          ((5, 7), (3, 3), (1, 1), (1, 1), False, True, 0), ((5, 7), (3, 3), (1, 1), (1, 1), False, False, 0),
          ((7, 5), (3, 2), (2, 3), (1, 1), True, True, 0), ((7, 5), (3, 2), (2, 3), (1, 1), True, False, 0),
          ((5, 4), (4, 3), (3, 2), (2, 1), True, True, 5), ((4, 5, 3), (2, 3, 2), (2, 1, 1), (1, 1, 0), False, False, 0)):
    x = plane(c[0]).requires_grad_()
    extra = {} if len(c[0]) == 1 else {"divisor_override": c[6] or None}
    y = AVG[len(c[0]) - 1](x, *c[1:4], ceil_mode=c[4], count_include_pad=c[5], **extra)
    (y * y).sum().backward()
    print("    {" + ", ".join(listed(v) for v in c[:4]), *(str(v).lower() for v in c[4:]), listed(y.detach()), listed(x.grad), sep=", ", end="},\n")
print("};")
print("// in, out; averages, the gradient of sum(y * y)")
print("const AdaptiveCase kAdaptive[] = {")
for size, out in (((7,), (3,)), ((5, 7), (3, 2)), ((6, 4), (1, 1)), ((3, 2), (5, 4)), ((4, 5, 3), (2, 3, 2)), ((1, 1), (1, 1))):
    x = plane(size).requires_grad_()
    y = ADAPTIVE[len(size) - 1](x, out)
    (y * y).sum().backward()
    print("    {" + listed(size), listed(out), listed(y.detach()), listed(x.grad), sep=", ", end="},\n")
print("};")
