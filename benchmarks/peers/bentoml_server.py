"""BentoML, one worker."""

from __future__ import annotations

from typing import Any

import bentoml
from model import answer, predictor


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Rows:
    """Answers rows."""

    def __init__(self) -> None:
        self.model = predictor()

    @bentoml.api
    async def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer rows."""
        return answer(self.model, rows)


if __name__ == "__main__":
    import sys

    bentoml.serve("bentoml_server:Rows", host="127.0.0.1", port=int(sys.argv[1]), blocking=True)
