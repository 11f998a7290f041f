"""Prints tests/golden/optim.inc and schedulers.inc: what PyTorch's optimizers and schedules do.
Run: python3 optim.py optim > optim.inc; python3 optim.py schedulers > schedulers.inc"""
import itertools
import math
import sys

import torch

STEPS, SIZE, EPOCHS = 6, 5, 26


def gradient(step, dtype):
    return torch.tensor([math.sin(0.7 * i + 0.9 * step) * (1 + step) / 3 for i in range(SIZE)], dtype=dtype)


def trajectory(make, dtype):
    """All values of a parameter after each step."""
    p = torch.tensor([0.5 * i - 1 for i in range(SIZE)], dtype=dtype).requires_grad_()
    optimizer = make([p])
    values = []
    for step in range(STEPS):
        p.grad = gradient(step, dtype)
        optimizer.step()
        values += p.detach().double().tolist()
    return values


def number(v):
    return {True: "true", False: "false"}[v] if isinstance(v, bool) else repr(v)


def row(kind, dtype, options):
    make = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[kind]
    values = trajectory(lambda ps: make(ps, **options), dtype)
    if "betas" in options:
        options["beta1"], options["beta2"] = options.pop("betas")
    fields = ", ".join(f".{key} = {number(options[key])}" for key in ORDER if key in options)
    print(f'    {{"{kind}", {"kFloat64" if dtype == torch.float64 else "kFloat32"}, {{{fields}}},')
    print("     {" + ", ".join(v.hex() for v in values) + "}},")


ORDER = ["lr", "momentum", "dampening", "nesterov", "beta1", "beta2", "eps", "weight_decay", "amsgrad", "maximize"]


def optimizers():
    print(f"// Written by optim.py with torch {torch.__version__.split('+')[0]}.")
    for dtype in (torch.float32, torch.float64):
        for momentum, dampening, decay, maximize in itertools.product((0, 0.9), (0, 0.3), (0, 0.05), (False, True)):
            if momentum or not dampening:
                row("SGD", dtype, dict(lr=0.1, momentum=momentum, dampening=dampening, weight_decay=decay,
                                       maximize=maximize))
        row("SGD", dtype, dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05))
        for kind, amsgrad, decay, maximize in itertools.product(("Adam", "AdamW"), (False, True), (0, 0.1), (False, True)):
            row(kind, dtype, dict(lr=0.02, weight_decay=decay, amsgrad=amsgrad, maximize=maximize))
        row("Adam", dtype, dict(lr=0.02, betas=(0.3, 0.8), eps=0.1))
        row("AdamW", dtype, dict(lr=0.02, betas=(0.0, 0.99), weight_decay=0.01))


def schedule(name, make, epochs=EPOCHS):
    """The rates of two groups, at epoch 0 and after each step."""
    ps = [torch.zeros(1).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.SGD([dict(params=[ps[0]], lr=0.4), dict(params=[ps[1]], lr=0.05)])
    scheduler = make(optimizer)
    values = []
    for epoch in range(epochs):
        values += [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        if epoch + 1 < epochs:
            scheduler.step()
    print(f'    {{"{name}", {{{", ".join(float(v).hex() for v in values)}}}}},')


def schedulers():
    s = torch.optim.lr_scheduler
    print(f"// Written by optim.py with torch {torch.__version__.split('+')[0]}.")
    schedule("step", lambda o: s.StepLR(o, 7, 0.5))
    schedule("multi step", lambda o: s.MultiStepLR(o, [3, 9, 9, 20], 0.3))
    schedule("exponential", lambda o: s.ExponentialLR(o, 0.9))
    schedule("cosine", lambda o: s.CosineAnnealingLR(o, 10, 0.01))
    schedule("cosine to zero", lambda o: s.CosineAnnealingLR(o, 4))
    schedule("linear", lambda o: s.LinearLR(o, 0.25, 0.75, 8))
    schedule("linear by default", lambda o: s.LinearLR(o))
    schedule("lambda", lambda o: s.LambdaLR(o, lambda epoch: 0.95**epoch))
    schedule("lambdas", lambda o: s.LambdaLR(o, [lambda epoch: 1 / (1 + epoch), lambda epoch: 1 + epoch]))
    schedule("one cycle", lambda o: s.OneCycleLR(o, 0.8, total_steps=EPOCHS, cycle_momentum=False))
    schedule("one linear cycle", lambda o: s.OneCycleLR(o, 0.8, total_steps=20, pct_start=0.4, anneal_strategy="linear",
                                                        div_factor=10, final_div_factor=100, cycle_momentum=False), 20)


{"optim": optimizers, "schedulers": schedulers}[sys.argv[1]]()
