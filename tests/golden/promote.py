"""Prints tests/golden/promote.inc: torch.promote_types of every pair. Run: python3 promote.py > promote.inc"""
import torch

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]

print(f"// Written by promote.py with torch {torch.__version__.split('+')[0]}.")
for a in NAMES:
    for b in NAMES:
        c = torch.promote_types(getattr(torch, a), getattr(torch, b))
        print(f'    {{"{a}", "{b}", "{str(c).removeprefix("torch.")}"}},')
