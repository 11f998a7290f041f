"""Prints tests/golden/nn.inc: what PyTorch's layers hold and compute for a given seed. Run: python3 nn.py > nn.inc

A row is a name and samples: of every parameter after manual_seed(0) and construction, of the output for an input drawn
right after, of the input's gradient, and of the parameters' gradients for the sum of squares of the output.
tests/test_nn.cpp builds the same layers under the same names."""
import torch
from torch import nn
import torch.nn.functional as F

SAMPLES = 8


def samples(t):
    flat = t.detach().double().flatten()
    step = max(1, (flat.numel() + SAMPLES - 1) // SAMPLES)
    return flat[::step].tolist() + [flat.sum().item()]


def row(name, tensors):
    values = [v for t in tensors for v in samples(t)]
    print(f'    {{"{name}", {{{", ".join(f"{v:.9g}" for v in values)}}}}},')


def layer(name, make, shape, train=True):
    torch.manual_seed(0)
    module = make()
    module.train(train)
    x = torch.randn(shape, requires_grad=True)
    y = module(x)
    y.square().sum().backward()
    row(name, [*module.parameters(), y, x.grad, *(p.grad for p in module.parameters()), *module.buffers()])


def loss(name, make, x, target):
    x.requires_grad_()
    y = make()(x, target)
    y.sum().backward()
    row(name, [y, x.grad])


def filled(name, shape, fill):
    torch.manual_seed(1)
    row(name, [fill(torch.empty(shape))])


def layers():
    layer("Linear", lambda: nn.Linear(5, 3), (4, 5))
    layer("Linear without bias", lambda: nn.Linear(5, 3, bias=False), (2, 4, 5))
    for d, conv, deconv in ((1, nn.Conv1d, nn.ConvTranspose1d), (2, nn.Conv2d, nn.ConvTranspose2d),
                            (3, nn.Conv3d, nn.ConvTranspose3d)):
        x = (2, 4) + (6,) * d
        layer(f"Conv{d}d", lambda: conv(4, 6, 3), x)
        layer(f"Conv{d}d strided", lambda: conv(4, 6, 3, stride=2, padding=1, groups=2, bias=False), x)
        layer(f"Conv{d}d same", lambda: conv(4, 2, 4, padding="same"), x)
        layer(f"Conv{d}d valid", lambda: conv(4, 2, 2, padding="valid", dilation=2), x)
        layer(f"Conv{d}d circular", lambda: conv(4, 2, 3, padding=1, padding_mode="circular"), x)
        layer(f"Conv{d}d replicate", lambda: conv(4, 2, 3, padding=2, padding_mode="replicate"), x)
        layer(f"Conv{d}d reflect", lambda: conv(4, 2, 4, padding="same", padding_mode="reflect"), x)
        layer(f"ConvTranspose{d}d", lambda: deconv(4, 6, 3), x)
        layer(f"ConvTranspose{d}d strided",
              lambda: deconv(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2), x)
    layer("Conv2d unbatched", lambda: nn.Conv2d(3, 4, (2, 3), stride=(1, 2), padding=(1, 0)), (3, 5, 7))
    layer("MaxPool1d", lambda: nn.MaxPool1d(3, 2, 1), (2, 3, 9))
    layer("MaxPool2d", lambda: nn.MaxPool2d(2), (2, 3, 6, 6))
    layer("MaxPool2d ceil", lambda: nn.MaxPool2d((3, 2), (2, 2), (1, 0), dilation=1, ceil_mode=True), (2, 3, 6, 7))
    layer("MaxPool3d", lambda: nn.MaxPool3d(2), (1, 2, 4, 4, 4))
    layer("AvgPool1d", lambda: nn.AvgPool1d(3, 2, 1), (2, 3, 9))
    layer("AvgPool2d", lambda: nn.AvgPool2d(2), (2, 3, 6, 6))
    layer("AvgPool2d padded", lambda: nn.AvgPool2d(3, 2, 1, True, False), (2, 3, 6, 7))
    layer("AvgPool2d divisor", lambda: nn.AvgPool2d(3, 2, 1, divisor_override=5), (2, 3, 6, 7))
    layer("AvgPool3d", lambda: nn.AvgPool3d(2), (1, 2, 4, 4, 4))
    layer("AdaptiveAvgPool2d", lambda: nn.AdaptiveAvgPool2d((3, 2)), (2, 3, 7, 5))
    layer("AdaptiveAvgPool2d None", lambda: nn.AdaptiveAvgPool2d((None, 2)), (2, 3, 7, 5))
    layer("BatchNorm1d", lambda: nn.BatchNorm1d(3), (5, 3))
    layer("BatchNorm1d 3d", lambda: nn.BatchNorm1d(3), (5, 3, 4))
    layer("BatchNorm2d", lambda: nn.BatchNorm2d(3, eps=1e-3, momentum=0.3), (4, 3, 2, 5))
    layer("BatchNorm2d eval", lambda: nn.BatchNorm2d(3), (4, 3, 2, 5), False)
    layer("BatchNorm2d cumulative", lambda: nn.BatchNorm2d(3, momentum=None), (4, 3, 2, 5))
    layer("BatchNorm2d plain", lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 2, 5), False)
    layer("BatchNorm3d", lambda: nn.BatchNorm3d(2), (2, 2, 2, 3, 2))
    layer("LayerNorm", lambda: nn.LayerNorm([3, 4]), (2, 3, 4))
    layer("LayerNorm plain", lambda: nn.LayerNorm([4], eps=0.1, elementwise_affine=False), (2, 3, 4))
    layer("GroupNorm", lambda: nn.GroupNorm(2, 4), (2, 4, 3, 3))
    layer("GroupNorm plain", lambda: nn.GroupNorm(4, 4, affine=False), (2, 4, 3))
    for name in ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Softplus"):
        layer(name, getattr(nn, name), (3, 7))
    layer("LeakyReLU 0.3", lambda: nn.LeakyReLU(0.3), (3, 7))
    layer("ELU 2", lambda: nn.ELU(2), (3, 7))
    layer("GELU tanh", lambda: nn.GELU("tanh"), (3, 7))
    layer("Softplus 2", lambda: nn.Softplus(2, 1), (3, 7))
    layer("Softmax", lambda: nn.Softmax(1), (3, 7))
    layer("LogSoftmax", lambda: nn.LogSoftmax(0), (3, 7))
    layer("Flatten", nn.Flatten, (2, 3, 4))
    layer("Unflatten", lambda: nn.Unflatten(1, (2, -1)), (3, 8))
    layer("Identity", nn.Identity, (2, 3))


def embeddings():
    index = torch.tensor([[1, 2, 2], [4, 0, 9]])
    for name, kwargs in (("Embedding", {}), ("Embedding padding", {"padding_idx": 2}),
                         ("Embedding negative padding", {"padding_idx": -1}), ("Embedding max_norm", {"max_norm": 0.5}),
                         ("Embedding by frequency", {"scale_grad_by_freq": True})):
        torch.manual_seed(0)
        module = nn.Embedding(10, 3, **kwargs)
        y = module(index)
        y.square().sum().backward()
        row(name, [module.weight, y, module.weight.grad])


def losses():
    def pair():
        torch.manual_seed(2)
        return torch.randn(4, 3), torch.randn(4, 3)

    def probabilities():
        a, b = pair()
        return a.sigmoid(), b.sigmoid()

    def logarithms():
        a, b = pair()
        return a.log_softmax(1), b.softmax(1)

    def classes():
        a, _ = pair()
        return a, torch.tensor([0, 2, 1, -100])

    weight = torch.tensor([0.5, 1.0, 2.0])
    for r in ("mean", "sum", "none"):
        loss(f"MSELoss {r}", lambda: nn.MSELoss(reduction=r), *pair())
        loss(f"L1Loss {r}", lambda: nn.L1Loss(reduction=r), *pair())
        loss(f"SmoothL1Loss {r}", lambda: nn.SmoothL1Loss(reduction=r, beta=0.5), *pair())
        loss(f"HuberLoss {r}", lambda: nn.HuberLoss(reduction=r, delta=0.7), *pair())
        loss(f"BCELoss {r}", lambda: nn.BCELoss(weight, reduction=r), *probabilities())
        a, b = pair()
        loss(f"BCEWithLogitsLoss {r}", lambda: nn.BCEWithLogitsLoss(weight, reduction=r, pos_weight=2 * weight), a,
             b.sigmoid())
        loss(f"KLDivLoss {r}", lambda: nn.KLDivLoss(reduction=r), *logarithms())
        a, b = classes()
        loss(f"NLLLoss {r}", lambda: nn.NLLLoss(weight, reduction=r), a.log_softmax(1), b)
        loss(f"CrossEntropyLoss {r}", lambda: nn.CrossEntropyLoss(weight, reduction=r, label_smoothing=0.1), *classes())
    loss("KLDivLoss batchmean", lambda: nn.KLDivLoss(reduction="batchmean"), *logarithms())
    a, b = logarithms()
    loss("KLDivLoss log target", lambda: nn.KLDivLoss(reduction="sum", log_target=True), a, b.log())
    a, b = classes()
    loss("CrossEntropyLoss ignored", lambda: nn.CrossEntropyLoss(ignore_index=2), a, b.clamp(min=0))
    a, b = pair()
    loss("CrossEntropyLoss probabilities", lambda: nn.CrossEntropyLoss(), a, b.softmax(1))


def functions():
    torch.manual_seed(3)
    x = torch.randn(2, 3, 5)
    for mode in ("constant", "reflect", "replicate", "circular"):
        row(f"pad {mode}", [F.pad(x, (2, 1), mode, **({"value": 0.5} if mode == "constant" else {}))])
    row("pad crop", [F.pad(x, (-1, 2, 1, -1))])
    row("normalize", [F.normalize(x), F.normalize(x, 1, 2), F.normalize(x, 3, dim=0, eps=2)])
    row("one_hot", [F.one_hot(torch.tensor([[0, 2], [1, 3]])), F.one_hot(torch.tensor([1, 0]), 5)])
    row("cosine_similarity", [F.cosine_similarity(x, x.flip(0)), F.cosine_similarity(x, x.flip(2), dim=2, eps=5)])


def inits():
    i = nn.init
    filled("constant_", (2, 3), lambda t: i.constant_(t, 7))
    filled("ones_", (2, 3), i.ones_)
    filled("zeros_", (2, 3), i.zeros_)
    filled("eye_", (3, 5), i.eye_)
    filled("normal_", (5, 7), lambda t: i.normal_(t, 2, 3))
    filled("uniform_", (5, 7), lambda t: i.uniform_(t, -1, 2))
    filled("dirac_ 3", (3, 2, 3), i.dirac_)
    filled("dirac_ 4", (2, 3, 3, 4), i.dirac_)
    filled("dirac_ 5", (2, 2, 2, 3, 1), i.dirac_)
    for shape in ((4, 6), (4, 3, 2, 5)):
        n = len(shape)
        filled(f"xavier_normal_ {n}", shape, lambda t: i.xavier_normal_(t, 1.5))
        filled(f"xavier_uniform_ {n}", shape, lambda t: i.xavier_uniform_(t, 1.5))
        for mode in ("fan_in", "fan_out"):
            filled(f"kaiming_normal_ {n} {mode}", shape, lambda t: i.kaiming_normal_(t, 0.2, mode))
            filled(f"kaiming_uniform_ {n} {mode}", shape, lambda t: i.kaiming_uniform_(t, 0.2, mode, "tanh"))
        filled(f"kaiming_normal_ {n} relu", shape, lambda t: i.kaiming_normal_(t, nonlinearity="relu"))
    filled("orthogonal_ tall", (5, 3), i.orthogonal_)
    filled("orthogonal_ wide", (3, 2, 4), lambda t: i.orthogonal_(t, 2))
    for name in ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
                 "sigmoid", "tanh", "relu", "leaky_relu"):
        row(f"calculate_gain {name}", [torch.tensor(i.calculate_gain(name))])
    row("calculate_gain leaky 0.5", [torch.tensor(i.calculate_gain("leaky_relu", 0.5))])


print(f"// Written by nn.py with torch {torch.__version__.split('+')[0]}.")
layers()
embeddings()
losses()
functions()
inits()
