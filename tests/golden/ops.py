"""Writes tests/golden/ops.txt: what PyTorch computes for the rows of tests/op_cases.cpp. Run: python3 ops.py > ops.txt

The inputs are read from those rows; here are the calls, by "op/variant". A line is a tensor of a case: its name, its
sizes, two weighted sums of all its elements and some of the elements. "out" is the result, "grad k" the gradient of the
first sum for input k.
"""
import pathlib
import re

import torch
import torch.nn.functional as F

CASES = pathlib.Path(__file__).parent.parent / "op_cases.cpp"
ROW = re.compile(r'^  \{"(\w+)", "([^"]*)", "([^"]*)", \[\]\(In x\).*\}(, \w+)?(, \w+)?\},$', re.M)
SAMPLES = 6
INF = float("inf")


def hashes(n, k):
    h = [((i + 1 + 1000 * k) * 2654435761) % 2**32 for i in range(n)]
    h = [((v ^ (v >> 15)) * 2246822519) % 2**32 for v in h]
    return [v ^ (v >> 13) for v in h]


def fraction(h):
    return (h >> 8) / 2**24


KINDS = {
    "any": lambda h: 4 * fraction(h) - 2,
    "holed": lambda h: 0.0 if h % 4 == 0 else 4 * fraction(h) - 2,
    "pos": lambda h: 2 * fraction(h) + 0.3,
    "unit": lambda h: 0.9 * fraction(h) + 0.05,
    "whole": lambda h: (h >> 8) % 7 - 3,
    "mask": lambda h: (h >> 8) % 2 == 1,
}


def make_input(word, k):
    kind, _, shape = word.rpartition(":")
    sizes = [] if shape == "-" else [int(s) for s in shape.split("x")]
    n = torch.Size(sizes).numel()
    value = KINDS.get(kind or "any") or (lambda h: (h >> 8) % int(kind[-1]))
    dtype = torch.bool if kind == "mask" else torch.int64 if kind.startswith(("whole", "label")) else torch.float64
    return torch.tensor([value(h) for h in hashes(n, k)], dtype=dtype).reshape(sizes)


def weights(n, k):
    return torch.tensor([KINDS["any"](h) for h in hashes(n, k)], dtype=torch.float64)


def line(name, t):
    flat = t.detach().double().contiguous().reshape(-1)
    n = flat.numel()
    samples = flat[:: max(1, n // SAMPLES)][: SAMPLES + 1].tolist()
    numbers = [float(flat @ weights(n, 90)), float(flat @ weights(n, 91))] + samples
    return f"{name} | {' '.join(map(str, t.shape))} | {' '.join(f'{v:.12g}' for v in numbers)}"


def into(f):
    """A call that writes into x[0]'s clone and returns it."""
    def run(*x):
        y = x[0] * 1
        f(y, *x)
        return y
    return run


def cl(f):
    return lambda x, *rest: f(x.contiguous(memory_format=torch.channels_last), *rest)


def bn(x, w=None, b=None, training=True):
    stats = [torch.full((x.size(1),), v, dtype=x.dtype) for v in (0.25, 1.5)]
    return F.batch_norm(x, *stats, w, b, training, 0.1, 1e-5)


def at(f, *index):
    return lambda x, *rest: f(x)[index]


W3 = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
CALLS = {
    "bmm": torch.bmm, "mv": torch.mv, "dot": torch.dot, "outer": torch.outer, "mm": torch.mm, "matmul": torch.matmul,
    "matmul/transposed batch": lambda a, b: a.transpose(1, 2) @ b,
    "mm/both transposed": lambda a, b: a.t() @ b.t(),
    "addmm": torch.addmm, "addmm/scaled": lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2), "linear": F.linear,
    "einsum/product": lambda a, b: torch.einsum("ij,jk->ik", a, b),
    "einsum/implied": lambda a, b: torch.einsum("bij,jk", a, b),
    "einsum/trace": lambda a: torch.einsum("ii->", a), "einsum/diagonal": lambda a: torch.einsum("ii->i", a),
    "einsum/ellipsis": lambda a, b: torch.einsum("...ij,jk->...ki", a, b),
    "einsum/attention": lambda a, b: torch.einsum("bqhd,bkhd->bhqk", a, b),
    "einsum/three": lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c),
    "einsum/elementwise and sum": lambda a, b, c: torch.einsum("ab,ab,b->a", a, b, c),
    "einsum/transpose": lambda a: torch.einsum("ij->ji", a),
    "scaled_dot_product_attention": F.scaled_dot_product_attention,
    "scaled_dot_product_attention/causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),

    "conv1d": lambda x, w, b: F.conv1d(x, w, b, 2, 1), "conv1d/unbatched": F.conv1d, "conv2d": F.conv2d,
    "conv2d/stride and padding": lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 2)),
    "conv2d/groups and dilation": lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2), 2),
    "conv2d/depthwise": lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 3),
    "conv2d/channels last": lambda x, w, b: F.conv2d(x, w, b, 1, 1),
    "conv3d": lambda x, w, b: F.conv3d(x, w, b, 1, (1, 0, 1)),
    "conv_transpose1d": lambda x, w, b: F.conv_transpose1d(x, w, b, 2, 1, 1),
    "conv_transpose2d": lambda x, w, b: F.conv_transpose2d(x, w, b, 2, 1, (1, 0)),
    "conv_transpose2d/groups and dilation": lambda x, w, b: F.conv_transpose2d(x, w, b, 1, 0, 0, 2, (2, 1)),
    "conv_transpose2d/unbatched": F.conv_transpose2d,
    "conv_transpose3d": lambda x, w, b: F.conv_transpose3d(x, w, b, (1, 2, 1)),

    "add/broadcast": lambda a, b: torch.add(a, b, alpha=2.5), "add/number": lambda a: a + 1.5,
    "sub/broadcast": lambda a, b: torch.sub(a, b, alpha=0.5), "sub/from number": lambda a: 3 - a,
    "mul/broadcast": torch.mul, "mul/number": lambda a: a * -0.5, "div/broadcast": torch.div,
    "div/number by": lambda a: 2 / a, "remainder": torch.remainder, "remainder/number": lambda a: a % 0.75,
    "pow/number": lambda a: a**2.5, "pow/square": lambda a: a**2, "pow/tensors": torch.pow,
    "pow/of number": lambda a: 1.5**a, "lerp/number": lambda a, b: torch.lerp(a, b, 0.3), "lerp/tensor": torch.lerp,
    "addcmul": lambda x, a, b: torch.addcmul(x, a, b, value=0.5),
    "addcdiv": lambda x, a, b: torch.addcdiv(x, a, b, value=0.5),
    "where/number": lambda c, a: torch.where(c, a, 0.5), "gt": lambda a: a > 0.25, "isnan": lambda a: a.log().isnan(),
    "isinf": lambda a: (1 / a).isinf(), "isfinite": lambda a: (1 / a).isfinite(),

    "clamp/both": lambda a: a.clamp(-1, 0.5), "clamp/below": lambda a: a.clamp_min(0.25),
    "clamp/above": lambda a: a.clamp_max(0.25), "leaky_relu": lambda a: F.leaky_relu(a, 0.2),
    "elu": lambda a: F.elu(a, 1.5), "gelu": F.gelu, "gelu/tanh": lambda a: F.gelu(a, approximate="tanh"), "silu": F.silu,
    "softplus": lambda a: F.softplus(a, 2, 3),

    "sum": torch.sum, "sum/axes": lambda a: a.sum((0, -1)), "sum/keepdim": lambda a: a.sum(1, True),
    "sum/nothing": lambda a: a.sum(1), "mean": torch.mean, "mean/axes": lambda a: a.mean((1, 2), True),
    "prod": torch.prod, "prod/axis": lambda a: a.prod(1), "prod/zeros": lambda a: a.prod(1), "amax": lambda a: a.amax(1),
    "amax/ties": torch.amax, "amin": lambda a: a.amin(0, True), "max/all": torch.max, "max/axis": lambda a: a.max(1)[0],
    "max/indices": lambda a: a.max(0)[1], "min/all": torch.min, "min/axis": lambda a: a.min(0, True)[0],
    "argmax/axis": lambda a: a.argmax(1), "argmax/all": torch.argmax, "argmin/axis": lambda a: a.argmin(0, True),
    "all": lambda a: a.all(1), "any": lambda a: a.any(0), "var": torch.var,
    "var/biased": lambda a: a.var((0, 2), unbiased=False), "std": torch.std, "std/axis": lambda a: a.std(1, keepdim=True),
    "norm/2": torch.norm, "norm/axis": lambda a: a.norm(2, 1), "norm/1": lambda a: a.norm(1, 0, True),
    "norm/3": lambda a: a.norm(3, 1), "norm/1.5": lambda a: a.norm(1.5), "norm/0": lambda a: a.norm(0, 1),
    "norm/infinity": lambda a: a.norm(INF, 1), "norm/minus infinity": lambda a: a.norm(-INF, 1),
    "logsumexp/axis": lambda a: a.logsumexp(1), "logsumexp/axes": lambda a: a.logsumexp((0, 2), True),
    "cumsum": lambda a: a.cumsum(1), "cumsum/first axis": lambda a: a.cumsum(0), "cumprod": lambda a: a.cumprod(1),
    "softmax": lambda a: a.softmax(1), "softmax/first axis": lambda a: a.softmax(0), "softmax/0-dim": lambda a: a.softmax(0),
    "log_softmax": lambda a: a.log_softmax(-1), "log_softmax/middle axis": lambda a: a.log_softmax(1),
    "cosine_similarity": F.cosine_similarity,

    "batch_norm": bn, "batch_norm/evaluation": lambda x, w, b: bn(x, w, b, False),
    "layer_norm": lambda x, w=None, b=None: F.layer_norm(x, x.shape[-1:] if w is None else w.shape, w, b),
    "group_norm": lambda x, w, b: F.group_norm(x, 2, w, b),

    "cross_entropy_loss": F.cross_entropy,
    "cross_entropy_loss/sum": lambda x, t: F.cross_entropy(x, t, reduction="sum"),
    "cross_entropy_loss/none": lambda x, t: F.cross_entropy(x, t, reduction="none"),
    "cross_entropy_loss/weight, ignored label and smoothing":
        lambda x, t: F.cross_entropy(x, t, W3, ignore_index=1, label_smoothing=0.2),
    "cross_entropy_loss/smoothing": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.3),
    "cross_entropy_loss/images, none": lambda x, t: F.cross_entropy(x, t, ignore_index=0, reduction="none"),
    "cross_entropy_loss/probabilities, weight and smoothing": lambda x, t: F.cross_entropy(x, t, W3, label_smoothing=0.2),
    "nll_loss": F.nll_loss, "nll_loss/weight and ignored label": lambda x, t: F.nll_loss(x, t, W3, ignore_index=1),
    "nll_loss/images": lambda x, t: F.nll_loss(x, t, reduction="none"),
    "mse_loss": F.mse_loss, "mse_loss/none": lambda x, t: F.mse_loss(x, t, reduction="none"),
    "l1_loss": lambda x, t: F.l1_loss(x, t, reduction="sum"),
    "smooth_l1_loss": lambda x, t: F.smooth_l1_loss(x, t, beta=0.7), "huber_loss": lambda x, t: F.huber_loss(x, t, delta=0.7),
    "kl_div": lambda x, t: F.kl_div(x, t, reduction="sum") / x.numel(), "kl_div/log target": lambda x, t: F.kl_div(x, t, reduction="sum", log_target=True),
    "binary_cross_entropy": F.binary_cross_entropy,
    "binary_cross_entropy/weight": lambda x, t, w: F.binary_cross_entropy(x, t, w.detach(), reduction="none"),
    "binary_cross_entropy_with_logits": F.binary_cross_entropy_with_logits,
    "binary_cross_entropy_with_logits/weights":
        lambda x, t, w, p: F.binary_cross_entropy_with_logits(x, t, w.detach(), pos_weight=p.detach(), reduction="sum"),

    "max_pool1d": lambda x: F.max_pool1d(x, 3, 2, 1), "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d/dilation and ceil": lambda x: F.max_pool2d(x, (3, 2), (2, 2), (1, 0), (1, 2), True),
    "max_pool2d/channels last": lambda x: F.max_pool2d(x, 3, 1, 1),
    "max_pool2d/indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[1], "max_pool3d": lambda x: F.max_pool3d(x, 2),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 3, 2, 1), "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "avg_pool2d/no padding counted": lambda x: F.avg_pool2d(x, 3, 2, 1, True, False),
    "avg_pool2d/divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, True, True, 5), "avg_pool3d": lambda x: F.avg_pool3d(x, 2, 2),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive_avg_pool2d/global": lambda x: F.adaptive_avg_pool2d(x, 1),
    "pad/constant": lambda x: F.pad(x, (1, 2, 0, 1), "constant", 0.5), "pad/cropping": lambda x: F.pad(x, (-1, 2, 1, -1)),
    "pad/reflect": lambda x: F.pad(x, (2, 1), "reflect"), "pad/replicate": lambda x: F.pad(x, (2, 1, 0, 2), "replicate"),
    "pad/circular": lambda x: F.pad(x, (1, 3), "circular"),

    "view": lambda x: x.view(4, -1), "expand": lambda x: x.expand(2, 2, 4, 3), "permute": lambda x: x.permute(2, 0, 1),
    "slice": lambda x: x[1:6:2], "select": lambda x: x.select(1, -2),
    "as_strided": lambda x: x.as_strided((3, 2), (1, 2), 1), "to": torch.clone,
    "copy": into(lambda y, x, v: y.select(0, 1).copy_(v)), "fill": into(lambda y, x: y.select(1, 2).fill_(0.5)),
    "cat": lambda *x: torch.cat(x, 1), "stack": lambda *x: torch.stack(x, 1), "gather": lambda x, i: x.gather(0, i),
    "scatter": lambda x, i, v: x.scatter(0, i, v), "scatter/number": lambda x, i: x.scatter(0, i, 0.5),
    "scatter_add": lambda x, i, v: x.scatter_add(0, i, v), "index/vector": lambda x, i: x[i],
    "index/adjacent": lambda x, i, j: x[:, i, j], "index/apart": lambda x, i, j: x[i, :, j],
    "index/mixed": lambda x, i: x[1::2, None, i, ...], "index/mask": lambda x, m: x[m],
    "index/mask of rows": lambda x, m: x[m, 0:2], "index/nothing": lambda x, i: x[i],
    "index/index_select": lambda x, i: x.index_select(1, i), "index/masked_select": torch.masked_select,
    "index_put/set": lambda x, v: x.index_put((torch.tensor([3, 1]),), v),
    "index_put/add": lambda x, i, v: x.index_put((i,), v, True),
    "index_put/broadcast value":
        lambda x, v: torch.cat([x[i : i + 1].index_put((torch.tensor([0, 0]), torch.tensor([0, 3]), torch.tensor([1, 0])), v)
                                for i in range(len(x))]),
    "index_put/index_add": lambda x, i, v: x.index_add(1, i, v), "embedding": lambda w, i: F.embedding(i, w),
    "embedding/padding": lambda w, i: F.embedding(i, w, 2),
    "embedding/by frequency": lambda w, i: F.embedding(i, w, None, None, 2.0, True),
    "masked_fill": lambda x, m: x.masked_fill(m, 0.5),
}


def put_into_a_view(y, x, v):
    y[1:4, torch.tensor([0, 2]), 1] = v[0]


CALLS["index_put/into a view"] = into(put_into_a_view)


def call_for(op, variant):
    return CALLS.get(f"{op}/{variant}") or CALLS.get(op) or getattr(torch, op)


def main():
    print(f"# Written by ops.py with torch {torch.__version__.split('+')[0]}.")
    for op, variant, words, derivatives, golden in ROW.findall(CASES.read_text()):
        if golden == ", false":
            continue
        x = [make_input(w, k) for k, w in enumerate(words.split())]
        differentiable = [t for t in x if t.is_floating_point() and derivatives != ", 0"]
        for t in differentiable:
            t.requires_grad_()
        y = call_for(op, variant)(*x)
        print(f"{op}/{variant}")
        print(line("out", y))
        if not differentiable:
            continue
        (y.reshape(-1) @ weights(y.numel(), 90)).backward()
        for k, t in enumerate(x):
            if t.requires_grad and t.grad is not None:
                print(line(f"grad {k}", t.grad))


if __name__ == "__main__":
    main()
