"""Prints tests/golden/print.inc: how libtorch and Python print tensors. Run: python3 print.py > print.inc"""
import contextlib
import io
import math
import warnings

import torch

warnings.simplefilter("ignore")
NAMES = {torch.float16: "kFloat16", torch.bfloat16: "kBFloat16", torch.float32: "kFloat32", torch.float64: "kFloat64",
         torch.uint8: "kUInt8", torch.int8: "kInt8", torch.int16: "kInt16", torch.int32: "kInt32", torch.int64: "kInt64",
         torch.bool: "kBool"}
nan, inf = math.nan, math.inf


class Print(torch.nn.Module):
    def forward(self, x):
        print(x)
        return x


script = torch.jit.script(Print())  # TorchScript prints with the C++ operator


def shortest(x):
    """The double with the fewest digits that rounds to the same number of x's dtype."""
    return next(d for d in (float(f"{x.item():.{n}e}") for n in range(17)) if torch.tensor(d, dtype=x.dtype) == x)


def cpp(x):
    """Differs from the newest release in two points, where older ones are better: a single float is printed as 0.1 and
    not as the 0.10000000149011612 that it is in double, and the first row of a matrix among several is indented."""
    y = torch.tensor(shortest(x), dtype=torch.float64) if x.dim() == 0 and x.isfinite() and x.is_floating_point() else x
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        script(y)
    text = out.getvalue().removesuffix("\n").replace(",.) = \n", ",.) = \n ")
    name = {torch.float16: "CPUHalfType", torch.bfloat16: "CPUBFloat16Type", torch.float32: "CPUFloatType"}
    return text if y is x else text.replace("CPUDoubleType", name.get(x.dtype, "CPUDoubleType"))


def literal(text):
    return "\n".join('     "' + line.replace('"', '\\"') + '"' for line in
                     [part + "\\n" for part in text.split("\n")[:-1]] + [text.split("\n")[-1]])


def number(v):
    if math.isnan(v):
        return "kNan"
    if math.isinf(v):
        return "kInf" if v > 0 else "-kInf"
    return str(int(v)) if float(v).is_integer() and abs(v) < 2**31 and not (v == 0 and math.copysign(1, v) < 0) \
        else float(v).hex()


CASES = [
    torch.ones(2, 2), torch.tensor(2.5), torch.tensor([1.5, 2e5, 1e-3]), torch.tensor([123456789, 3]),
    torch.arange(24.0).reshape(2, 3, 4) / 7, torch.empty(0, 3), torch.empty(0), torch.empty(2, 0, 3),
    torch.tensor([True, False]), torch.tensor(True), torch.tensor([0.1, 0.25]).half(), torch.tensor([0.1, 0.25]).bfloat16(),
    torch.tensor([1e5 + 0.5]), torch.tensor(123456789), torch.tensor([nan, 1, inf]), torch.tensor([nan, inf, -inf]),
    torch.tensor([nan, 1.5, -inf]), torch.tensor([1000000, 2]), torch.tensor([[1, -2], [3, 4]]),
    torch.tensor(1.23456789, dtype=torch.float64), torch.tensor([-1.5, 100.25]), torch.tensor(0.1), torch.tensor(1e10),
    torch.tensor(1e-10), torch.tensor(-0.0), torch.tensor(nan), torch.tensor(inf), torch.tensor(3.0), torch.tensor(1234567.0),
    torch.tensor(1e16, dtype=torch.float64), torch.tensor(2**53), torch.tensor(-7, dtype=torch.int8),
    torch.tensor(0.1).half(), torch.tensor(0.1).bfloat16(), torch.tensor(65504.0).half(), torch.tensor(1 / 3, dtype=torch.float64),
    torch.tensor([0.0, 0.0]), torch.tensor([-0.0, 0.5]), torch.tensor([1e-5, 2e-5]), torch.tensor([1e-3, 2e-3]),
    torch.tensor([0.01, 0.02]), torch.tensor([1e-38, 1e38]), torch.tensor([1e-200, 1e200], dtype=torch.float64),
    torch.tensor([1.0, 1e9]), torch.tensor([1.0, 1e10]), torch.tensor([12345.678, 1.5]), torch.tensor([123456.78, 99999.0]),
    torch.tensor([[1e6, 2.5e6], [1.5e6 + 0.5, 3e6]]), torch.tensor([1e-6, 1.0]), torch.tensor([99999.5, 10.25]),
    torch.arange(40.0).reshape(2, 20), torch.arange(60.0).reshape(2, 30) * 1.5, torch.arange(90).reshape(1, 2, 45) * 1000,
    (torch.arange(60.0).reshape(2, 30) + 0.5) * 1e5, torch.arange(16.0).reshape(2, 2, 2, 2), torch.arange(6).reshape(1, 6, 1),
    torch.tensor([[[1e6 + 0.5, 2e6]], [[1.5, 2.5]]]), torch.tensor([255, 0], dtype=torch.uint8),
    torch.tensor([-128, 127], dtype=torch.int8), torch.tensor([-32768, 5], dtype=torch.int16), torch.tensor([7], dtype=torch.int32),
    torch.tensor([[0.5, -0.25], [1e-3, 3]], dtype=torch.float64), torch.arange(12.0).reshape(3, 4).t(),
    torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 3.0]), torch.tensor([1e8, 1.0]), torch.tensor([1e8 + 8, 0.5]),
    torch.arange(1001), torch.arange(1001.0), torch.arange(1002.0).reshape(2, 501), torch.arange(3000.0).reshape(10, 300),
    torch.arange(8000).reshape(20, 20, 20), torch.arange(2000).reshape(1000, 2), torch.arange(1000),
    torch.arange(27.0).reshape(3, 3, 3), torch.arange(25) * 100, torch.linspace(0, 1, 30),
    torch.tensor([[True, False], [False, True]]), torch.zeros(3, 0), torch.zeros(0, 0, dtype=torch.int64),
    torch.arange(1200.0).half(), torch.full((1500,), nan), torch.tensor([0.1, 1000.25, -3]), torch.tensor([1e4, 1e-4]),
    torch.tensor([1e3, 1.5e-1]), torch.arange(1024).reshape(1, 1, 32, 32), torch.tensor([[[[1.5]]]]),
]

print(f"// Written by print.py with torch {torch.__version__.split('+')[0]}.")
for x in CASES:
    flat = x.contiguous().double().flatten().tolist()
    counts = len(flat) > 100 and flat == list(map(float, range(len(flat))))  # written as an empty list
    if len(flat) > 100 and not counts:
        flat = flat[:1]  # all the same
    values = "" if counts else ", ".join(map(number, flat))
    sizes = ", ".join(map(str, x.shape))
    transposed = "true" if x.dim() == 2 and not x.is_contiguous() else "false"
    print(f"    {{{NAMES[x.dtype]}, {{{sizes}}}, {transposed}, {{{values}}},\n{literal(cpp(x)) if x.numel() <= 100 else '     ' + chr(34) * 2},"
          f"\n{literal(repr(x))}}},")
