"""Values that a space lets choose from: lists, mappings, None, anything that YAML has. Pure."""

from __future__ import annotations

import json
from typing import Any


def as_value(value: Any) -> Any:
    """Return a value as JSON has it: what the ledger keeps, and what a configuration is made of."""
    return json.loads(json.dumps(value))


def same_value(one: Any, other: Any) -> bool:
    """Compare as JSON: true is not 1, and a tuple is a list."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
