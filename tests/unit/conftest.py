"""No Ray starts here, not by itself either: a call that needs one fails."""

from __future__ import annotations

import os

os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
