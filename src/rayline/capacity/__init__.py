"""What there is to run on: nodes, what is free on them, and what an autoscaler can still add."""

from __future__ import annotations

from rayline.capacity.here import this_machine
from rayline.capacity.values import Capacity, Node, NodeKind, matches, whole

__all__ = ["Capacity", "Node", "NodeKind", "matches", "this_machine", "whole"]
