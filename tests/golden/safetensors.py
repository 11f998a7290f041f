"""Prints tests/golden/safetensors.inc: files of Python's safetensors package as hexadecimal text, with what they hold.
Run: python3 safetensors.py > safetensors.inc"""
import sys

sys.path.pop(0)  # this file has the package's name
import torch  # noqa: E402
from safetensors import __version__  # noqa: E402
from safetensors.torch import save  # noqa: E402

DTYPES = {"kBool": torch.bool, "kUInt8": torch.uint8, "kInt8": torch.int8, "kInt16": torch.int16,
          "kInt32": torch.int32, "kInt64": torch.int64, "kFloat16": torch.float16, "kBFloat16": torch.bfloat16,
          "kFloat32": torch.float32, "kFloat64": torch.float64}


def main():
    print(f"// Written by safetensors.py with safetensors {__version__}.")
    tensors = {name: (torch.arange(6).reshape(2, 3) % (2 if name == "kBool" else 7)).to(dtype)
               for name, dtype in DTYPES.items()}
    tensors["layer.0-dim"] = torch.tensor(2.5)
    tensors["layer.empty"] = torch.zeros(0, 4)
    data = save(tensors, metadata={"format": "pt", "note": "caf\u00e9 \"quoted\""})
    for i in range(0, len(data), 60):
        print(f'    "{data[i:i + 60].hex()}"')


main()
