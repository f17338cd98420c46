"""What kserve's own client says to a service: run by the interpreter of kserve's environment, and answers as JSON.

It takes the service's address, its name and, on standard input, ``{"inputs": [{name, datatype, shape, data}]}``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def request_of(name: str, inputs: list[dict[str, Any]], *, binary: bool) -> InferRequest:
    """Build kserve's request, its tensors in JSON or as binary data."""
    import numpy as np

    kinds = {"FP64": np.float64, "FP32": np.float32, "BOOL": np.bool_, "BYTES": np.object_}
    tensors = []
    for each in inputs:
        tensor = InferInput(each["name"], each["shape"], each["datatype"])
        values = np.array(each["data"], dtype=kinds[each["datatype"]]).reshape(each["shape"])
        tensor.set_data_from_numpy(values, binary_data=binary)
        tensors.append(tensor)
    outputs = None
    if binary:
        outputs = [RequestedOutput(each, parameters={"binary_data": True}) for each in ("label", "probabilities")]
    return InferRequest(name, tensors, request_id="k-1", request_outputs=outputs)


async def talk(url: str, name: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask everything that the client can ask."""
    said: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        said["live"] = await client.is_server_live(url)
        said["ready"] = await client.is_server_ready(url)
        said["model_ready"] = await client.is_model_ready(url, name)
        said["other_ready"] = await client.is_model_ready(url, "other")
        for binary in (False, True):
            answer = await client.infer(url, request_of(name, inputs, binary=binary), model_name=name)
            said["binary" if binary else "json"] = {
                "id": answer.id,
                "model": [answer.model_name, answer.model_version],
                "outputs": {each.name: each.as_numpy().tolist() for each in answer.outputs},
            }
        try:
            await client.infer(url, request_of(name, inputs[1:], binary=False), model_name=name)
        except httpx.HTTPStatusError as error:
            said["refused"] = str(error)
    return said


if __name__ == "__main__":
    found = asyncio.run(talk(sys.argv[1], sys.argv[2], json.load(sys.stdin)["inputs"]))
    print(json.dumps(found, default=lambda value: value.decode() if isinstance(value, bytes) else str(value)))
