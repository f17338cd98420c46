"""Do the driver, PyTorch and Ray see the same GPUs?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from rayline.capacity.here import gpus_here
from rayline.doctor.seam import Finding, Subject

ASK_SECONDS = 35.0
ASK = "import torch; print(torch.cuda.device_count(), torch.version.cuda or 'none')"


class GpuCheck:
    """Counts the GPUs of this machine, and those that PyTorch can use. PyTorch is loaded only where there are any."""

    name = "GPUs"

    def look(self, subject: Subject) -> Sequence[Finding]:
        """Return what is seen."""
        found = gpus_here()
        asked = subject.config is not None and subject.config.train.use_gpu is True
        if not found:
            if asked and subject.address is None:
                way_out = "Set train.use_gpu to auto, or run on a cluster with GPUs."
                return [Finding("failed", "train.use_gpu is true, and there is no GPU here", way_out)]
            return [Finding("ok", "none here: PyTorch computes on CPUs")]
        done = subprocess.run(
            [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=ASK_SECONDS, check=False
        )
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            return [Finding("failed", f"PyTorch does not load: {last}", "Install PyTorch anew.")]
        usable, built = done.stdout.split()
        seen = f"{found} here, and PyTorch (built for CUDA {built}) sees {usable}"
        if int(usable) == found:
            return [Finding("ok", seen)]
        way_out = "Install the PyTorch that was built for the driver's CUDA (nvidia-smi), see CUDA_VISIBLE_DEVICES."
        return [Finding("failed" if asked else "notice", seen, way_out)]
