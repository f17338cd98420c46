"""This machine, before a cluster runs on it: what a local head will have."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

from rayline.capacity.values import Capacity, Node

NVIDIA = Path("/proc/driver/nvidia/gpus")
ASK_SECONDS = 5.0


def this_machine() -> Capacity:
    """Return what a local cluster will have here: all CPUs and GPUs, and this machine's memory in bytes."""
    gpus = gpus_here()
    has = {"CPU": float(os.cpu_count() or 1), "GPU": float(gpus), "memory": float(memory_here())}
    return Capacity("this machine", (Node("this machine", "", has, has, head=True),), gpus_here=gpus)


def gpus_here() -> int:
    """Return how many GPUs this process may use, without loading PyTorch or Ray."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = _installed()
    if allowed is None:
        return found
    named = [each for each in allowed.split(",") if each.strip() and each.strip() not in ("-1", "NoDevFiles")]
    return min(found, len(named))


def _installed() -> int:
    if NVIDIA.is_dir():
        return len(list(NVIDIA.iterdir()))
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=ASK_SECONDS, check=False)
        return sum(line.startswith("GPU ") for line in said.stdout.splitlines())
    return 0


def memory_here() -> int:
    """Return the bytes of memory that this process may have: the machine's, or its container's where that is less."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            return min(machine, int(Path(limit).read_text()))
    return machine
