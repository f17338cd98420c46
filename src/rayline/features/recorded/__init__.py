"""A user's function over arrays as a plan of NumPy operations: recorded once, kept as JSON, run without their code.

``record`` calls the function with stand-ins for arrays and keeps what it does to them. ``Plan`` is the result.
"""

from rayline.features.recorded.plan import Plan
from rayline.features.recorded.proof import prove
from rayline.features.recorded.recording import Recorded, record

__all__ = ["Plan", "Recorded", "prove", "record"]
