"""Tell how much the suite over the kinds of columns has tried."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    from column_cases import CASES, EXAMPLES

    if EXAMPLES:
        told = ", ".join(f"{count:,} of '{name}'" for name, count in sorted(EXAMPLES.items()))
        total = sum(EXAMPLES.values())
        terminalreporter.write_line(f"column kinds: {len(CASES)} cases, {total:,} property-based examples ({told})")
