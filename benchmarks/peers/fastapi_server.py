"""FastAPI on uvicorn, one process, as its documentation shows it."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from model import answer, predictor
from pydantic import BaseModel

app = FastAPI()
model = predictor()


class Request(BaseModel):
    """The body."""

    rows: list[dict[str, Any]]


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    """Answer rows."""
    return answer(model, request.rows)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
