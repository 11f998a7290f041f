"""Prints tests/golden/updates.inc: parameters after steps of PyTorch's optimizers. Run: python3 updates.py > updates.inc"""
import torch

torch.manual_seed(1)
STEPS, COUNT = 4, 6
start = torch.randn(COUNT)
grads = [torch.randn(COUNT) for _ in range(STEPS)]


def numbers(t):
    return "{" + ", ".join(float(x).hex() for x in t) + "}"


def run(make, dtype):
    p = torch.nn.Parameter(start.to(dtype, copy=True))
    optimizer = make([p])
    for g in grads:
        p.grad = g.to(dtype)
        optimizer.step()
    return p.detach()


def row(kind, make, *fields):
    results = ", ".join(numbers(run(make, dtype)) for dtype in (torch.float32, torch.float64))
    print(f"    {{{', '.join(str(f).lower() for f in fields)}, {results}}},")


print(f"// Written by updates.py with torch {torch.__version__.split('+')[0]}.")
print(f"constexpr double kStart[] = {numbers(start)};")
print(f"constexpr double kGradients[][{COUNT}] = {{{', '.join(numbers(g) for g in grads)}}};")
print("// lr, momentum, dampening, weight_decay, nesterov, maximize; parameters in float32, in float64")
print("const SgdCase kSgd[] = {")
for f in ((0.1, 0, 0, 0, False, False), (0.1, 0.9, 0, 0, False, False), (0.1, 0.9, 0, 0.01, True, False),
          (0.05, 0.8, 0.5, 0.1, False, True)):
    lr, momentum, dampening, decay, nesterov, maximize = f
    row("sgd", lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, dampening=dampening, weight_decay=decay,
                                         nesterov=nesterov, maximize=maximize, foreach=False), *f)
print("};")
print("// lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, maximize; parameters in float32, in float64")
print("const AdamCase kAdam[] = {")
for f in ((0.01, 0.9, 0.999, 1e-8, 0, False, False, False), (0.01, 0.9, 0.99, 1e-6, 0.1, False, False, True),
          (0.02, 0.9, 0.999, 1e-8, 0.1, True, False, False), (0.02, 0.8, 0.9, 1e-8, 0, False, True, False),
          (0.02, 0.8, 0.9, 1e-8, 0.1, True, True, False), (0.01, 0.3, 0.9, 1e-8, 0, False, False, False)):
    lr, beta1, beta2, eps, decay, decoupled, amsgrad, maximize = f
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    row("adam", lambda p: kind(p, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, amsgrad=amsgrad,
                               maximize=maximize, foreach=False), *f)
print("};")
