"""Prints tests/golden/random.inc: what PyTorch draws for given seeds. Run: python3 random.py > random.inc"""
import torch

DTYPES = {"kFloat16": torch.float16, "kBFloat16": torch.bfloat16, "kFloat32": torch.float32, "kFloat64": torch.float64,
          "kUInt8": torch.uint8, "kInt8": torch.int8, "kInt16": torch.int16, "kInt32": torch.int32, "kInt64": torch.int64,
          "kBool": torch.bool}
FLOATING = list(DTYPES)[:4]
SAMPLES = 24


def number(v):
    return str(int(v)) if float(v).is_integer() and abs(v) < 2**53 else float(v).hex()


def row(op, dtype, n, a, b, draw):
    """Every value, or samples of a long run; and a word drawn afterwards, which tells how much of the stream was used."""
    torch.manual_seed(len(op) + n)
    y = draw(torch.empty(n, dtype=DTYPES[dtype]))
    word = torch.empty(1, dtype=torch.int32).random_().item()
    step = max(1, n // SAMPLES)
    values = ", ".join(number(v) for v in y.double()[::step].tolist())
    print(f'    {{"{op}", {dtype}, {n}, {number(a)}, {number(b)}, {word}, {{{values}}}}},')


def main():
    print(f"// Written by random.py with torch {torch.__version__.split('+')[0]}.")
    for d in FLOATING:
        for n in (3, 100, 2500):
            row("uniform", d, n, 0, 1, lambda y: y.uniform_())
            row("uniform", d, n, -0.31, 1.43, lambda y: y.uniform_(-0.31, 1.43))
        for n in (1, 3, 15, 16, 19, 1000, 1003):
            row("normal", d, n, 0, 1, lambda y: y.normal_())
            row("normal", d, n, 0.37, 1.3, lambda y: y.normal_(0.37, 1.3))
        row("exponential", d, 200, 1.5, 0, lambda y: y.exponential_(1.5))
    for d in DTYPES:
        row("bernoulli", d, 50, 0.3, 0, lambda y: y.bernoulli_(0.3))
        row("whole", d, 50, 0, 0, lambda y: y.random_())
        if d != "kBool":
            row("random", d, 50, 3, 100, lambda y: y.random_(3, 100))
        if d == "kInt64":
            for high in (2**27, 2**28, 2**32, 2**40):
                row("random", d, 20, -5, high, lambda y: y.random_(-5, high))
        if d in FLOATING:
            row("random", d, 50, -60000, 60000, lambda y: y.random_(-60000, 60000))
            row("bernoulli_of", d, 50, 0, 1, lambda y: y.copy_(torch.bernoulli(torch.linspace(0, 1, 50, dtype=y.dtype))))
    for n in (0, 1, 6, 1000):
        row("permutation", "kInt64", n, 0, 0, lambda y: torch.randperm(n))


main()
