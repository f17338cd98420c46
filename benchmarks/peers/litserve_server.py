"""LitServe, one worker; its HTTP server is a process beside it."""

from __future__ import annotations

import sys
from typing import Any

import litserve
from model import answer, predictor


class Rows(litserve.LitAPI):
    """Answers rows."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.model = predictor()

    # LitServe reads the annotation to find out where the request stands: without one, it is the body.
    def decode_request(self, request):
        """Return the rows of a body."""
        return request["rows"]

    def predict(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer rows."""
        return answer(self.model, rows)

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the body of an answer."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Rows(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False, access_log=False
    )
