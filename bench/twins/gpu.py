"""What the twins of the GPU programs share: options, timing on a device, cases. The C++ side is bench/gpu.h."""

import argparse
import json
import os
import statistics
import sys
import time

import torch


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default=os.environ.get("HALFTONE_TEST_DEVICE", "cuda"))
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--only", default="")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--prepare", action="store_true", help="compile what is to be compiled, and end")
    asked = parser.parse_args()
    if asked.prepare:
        return asked
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"{sys.argv[0]}: PyTorch sees no CUDA device")
    torch.set_default_device(asked.device)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True  # its best algorithms
    return asked


def wait(asked):
    if asked.device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds_on_device(asked, budget, f):
    """The median over blocks of 20 ms and more of the time one call takes; as seconds_on_device of bench/gpu.h."""

    def block(calls):
        wait(asked)
        start = time.perf_counter()
        for _ in range(calls):
            f()
        wait(asked)
        return time.perf_counter() - start

    if asked.smoke:
        return block(1)
    calls = 1
    while (took := block(calls)) < 0.02:
        calls = max(2 * calls, int(calls * min(0.025 / took, 20)))
    times = []
    start = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - start < budget and len(times) < 25):
        times.append(block(calls) / calls)
    return statistics.median(times)


def report_failure(name, why):
    print(f"{name}: FAILED: {why}", file=sys.stderr)
    print(json.dumps({"name": name, "failed": str(why)}), flush=True)


def device_works(asked):
    """Whether the device is still there: after some errors every call of this process fails."""
    try:
        wait(asked)
        if asked.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return True
    except Exception as error:
        print(f"device lost: {error}", file=sys.stderr)
        return False


def run_cases(asked, cases):
    """Cases are pairs of a name and a function of the seconds it may take. One that fails does not stop the others,
    unless the device is lost with it."""
    prefix = os.path.splitext(os.path.basename(sys.argv[0]))[0] + "/"
    cases = [case for case in cases if asked.only in case[0]]
    failures = 0
    for name, measure in cases:
        try:
            measure(asked.seconds / len(cases))
        except Exception as error:
            report_failure(prefix + name, error)
            failures += 1
        if not device_works(asked):
            report_failure(prefix + name, "device lost, and with it the cases after this one")
            os._exit(3)
    sys.exit(1 if failures else 0)
