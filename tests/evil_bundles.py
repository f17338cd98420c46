"""A corpus of evil bundles: each begins as a good one and is changed by who wants code to run, files to leak or memory.

``EVIL`` has one function for each, which changes the files in a bundle's folder. Whatever runs any code of theirs makes
the canary file. ``signed_again`` then writes the manifest of what lies there, as an attacker can who owns the registry.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from rayline.features import packing
from rayline.features.schemas.schema import digest_of

Change = Callable[[Path, Path], None]
EVIL: dict[str, Change] = {}
NETWORKS = ("model.safetensors", "model.pt2", "model.skops", "model.json")


class Payload:
    """Makes the canary file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._canary}",)


def evil(change: Change) -> Change:
    """Take a change into the corpus."""
    EVIL[change.__name__] = change
    return change


def signed_again(folder: Path) -> None:
    """Write the manifest of every file that lies in a folder now, with the fingerprint of its features.

    What no honest tool can read is signed as far as it can be.
    """
    path = folder / "manifest.json"
    with suppress(ValueError, RecursionError, OSError):
        values = json.loads(path.read_bytes()) if path.stat().st_size < 2**26 else None
        if isinstance(values, dict) and "files" in values:
            found = {each.name: signature(each) for each in folder.iterdir() if each.is_file() and each != path}
            strange = {name: entry for name, entry in values["files"].items() if "/" in name or "\\" in name}
            values["files"] = strange | found
            with suppress(Exception):
                values["features"] = fingerprint(folder)
            path.write_text(json.dumps(values))


def fingerprint(folder: Path) -> str:
    arrays = folder / "features.arrow"
    table = packing.from_bytes(arrays.read_bytes()) if arrays.exists() else None
    return digest_of(packing.unpacked(json.loads((folder / "features.json").read_bytes()), table))


def signature(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    content = path.read_bytes() if size < 2**26 else b""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": size}


def with_network(folder: Path, name: str, content: bytes) -> None:
    """Put another network in the place of the one that is there."""
    for each in NETWORKS:
        (folder / each).unlink(missing_ok=True)
    (folder / name).write_bytes(content)


def archive(files: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return buffer.getvalue()


def features(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "features.json"
    values = json.loads(path.read_bytes())
    change(values)
    path.write_text(json.dumps(values))


def manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "manifest.json"
    values = json.loads(path.read_bytes())
    change(values)
    path.write_text(json.dumps(values))


# --- pickles, wherever a network may lie ----------------------------------------------------------------------------


def _pickled(name: str) -> None:
    def change(folder: Path, canary: Path) -> None:
        with_network(folder, name, pickle.dumps(Payload(canary)))

    change.__name__ = f"pickle_as_{name.replace('.', '_')}"
    evil(change)


for _name in NETWORKS:
    _pickled(_name)


@evil
def pickle_beside_the_network(folder: Path, canary: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Payload(canary)))


@evil
def torch_save_as_weights(folder: Path, canary: Path) -> None:
    content = archive({"archive/data.pkl": pickle.dumps(Payload(canary)), "archive/version": b"3\n"})
    with_network(folder, "model.safetensors", content)


@evil
def torch_save_as_program(folder: Path, canary: Path) -> None:
    content = archive({"archive/data.pkl": pickle.dumps(Payload(canary)), "archive/version": b"3\n"})
    with_network(folder, "model.pt2", content)


@evil
def npy_of_objects_as_weights(folder: Path, canary: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    with_network(folder, "model.safetensors", buffer.getvalue())


@evil
def skops_with_an_npy_of_objects(folder: Path, canary: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(canary)], dtype=object), allow_pickle=True)
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "a.npy",
    }
    with_network(
        folder, "model.skops", archive({"schema.json": json.dumps(_skops(node)).encode(), "a.npy": buffer.getvalue()})
    )


# --- code ----------------------------------------------------------------------------------------------------------


def _skops(node: dict[str, Any]) -> dict[str, Any]:
    return {**node, "protocol": 2, "_skops_version": "0.16.0"}


@evil
def skops_that_calls_a_function(folder: Path, canary: Path) -> None:
    arguments = [
        {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": f'"touch {canary}"'}
    ]
    node = {
        "__class__": "partial",
        "__module__": "functools",
        "__loader__": "PartialNode",
        "content": {
            "func": {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "system"},
            "args": {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": arguments},
        },
    }
    with_network(folder, "model.skops", archive({"schema.json": json.dumps(_skops(node)).encode()}))


@evil
def skops_that_trusts_itself(folder: Path, canary: Path) -> None:
    node = {
        "__class__": "Popen",
        "__module__": "subprocess",
        "__loader__": "ObjectNode",
        "content": {"args": ["touch", str(canary)]},
    }
    with_network(
        folder, "model.skops", archive({"schema.json": json.dumps({**_skops(node), "trusted": True}).encode()})
    )


@evil
def skops_in_a_feature(folder: Path, canary: Path) -> None:
    node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "content": "system"}
    state = base64.b64encode(archive({"schema.json": json.dumps(_skops(node)).encode()})).decode()

    def change(values: dict[str, Any]) -> None:
        column = values["columns"][0]
        values["columns"][0] = {
            "kind": "sklearn", "name": column["name"], "transformer": "os:system",
            "columns": [[column["source"], "numeric"]],
            "suffixes": [""], "blanks": [], "fills": [0.0], "skops": state,
        }  # fmt: skip

    features(folder, change)


@evil
def a_plan_of_unknown_operations(folder: Path, canary: Path) -> None:
    def change(values: dict[str, Any]) -> None:
        column = values["columns"][0]
        plan = {"inputs": 1, "constants": [f"touch {canary}"], "steps": [["os.system", [1]]], "outputs": [2]}
        values["columns"][0] = {
            "kind": "function", "name": column["name"], "function": "x:y", "columns": [[column["source"], "numeric"]],
            "plan": plan, "outputs": [{"suffix": "", "fill": 0.0, "mean": 0.0, "std": 1.0, "bound": 1.0}],
        }  # fmt: skip

    features(folder, change)


@evil
def code_beside_the_network(folder: Path, canary: Path) -> None:
    (folder / "model.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")


@evil
def models_from_code(folder: Path, canary: Path) -> None:
    code_beside_the_network(folder, canary)
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    model_code_path: model.py\n    loader_module: model\n"
    )


@evil
def code_that_python_runs_by_its_name(folder: Path, canary: Path) -> None:
    for name in ("sitecustomize.py", "conftest.py", "__init__.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w').close()\n")


@evil
def a_builder_in_the_manifest(folder: Path, canary: Path) -> None:
    code_beside_the_network(folder, canary)
    manifest(folder, lambda values: values["model"].update(builder="model:build"))


# --- paths ---------------------------------------------------------------------------------------------------------


def _listed(name: str, title: str) -> None:
    def change(folder: Path, canary: Path) -> None:
        manifest(folder, lambda values: values["files"].update({name: values["files"]["lineage.json"]}))

    change.__name__ = title
    evil(change)


_listed("../../../../etc/passwd", "dots_in_the_manifest")
_listed("/etc/passwd", "an_absolute_path_in_the_manifest")
_listed("features.json/../lineage.json", "dots_inside_a_path")
_listed("..\\..\\windows", "backslashes_in_the_manifest")


@evil
def a_link_to_outside(folder: Path, canary: Path) -> None:
    (folder / "lineage.json").unlink()
    (folder / "lineage.json").symlink_to("/etc/hostname")


@evil
def the_network_is_a_link(folder: Path, canary: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder.parent / "elsewhere").write_bytes(content)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")


@evil
def the_manifest_is_a_link(folder: Path, canary: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "elsewhere.json")
    (folder / "manifest.json").symlink_to(folder.parent / "elsewhere.json")


@evil
def a_pipe_that_nobody_writes(folder: Path, canary: Path) -> None:
    (folder / "reference.json").unlink()
    os.mkfifo(folder / "reference.json")


@evil
def a_folder_in_it(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "__init__.py").write_text("")


@evil
def a_folder_for_a_file(folder: Path, canary: Path) -> None:
    (folder / "reference.json").unlink()
    (folder / "reference.json").mkdir()


@evil
def zip_slip_in_a_program(folder: Path, canary: Path) -> None:
    with_network(folder, "model.pt2", archive({f"../../../../../..{canary}": b"x", "archive/models/model.json": b"{}"}))


@evil
def zip_slip_in_skops(folder: Path, canary: Path) -> None:
    node = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "../../x",
    }
    files = {"schema.json": json.dumps(_skops(node)).encode(), f"../../../../../..{canary}": b"x"}
    with_network(folder, "model.skops", archive(files))


# --- sizes ---------------------------------------------------------------------------------------------------------


@evil
def a_zip_bomb_as_program(folder: Path, canary: Path) -> None:
    files = {f"p/data/weights/weight_{index}": bytes(2**27) for index in range(2)}
    with_network(folder, "model.pt2", archive(files | {"p/models/model.json": b"{}"}, zipfile.ZIP_DEFLATED))


@evil
def a_zip_bomb_as_skops(folder: Path, canary: Path) -> None:
    with_network(folder, "model.skops", archive({"schema.json": b"[" + b" " * 2**27 + b"]"}, zipfile.ZIP_DEFLATED))


def _safetensors(header: bytes | dict[str, Any], tail: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + tail


def _weights(title: str, content: bytes) -> None:
    def change(folder: Path, canary: Path) -> None:
        with_network(folder, "model.safetensors", content)

    change.__name__ = f"weights_with_{title}"
    evil(change)


def _tensor(shape: list[int], first: int, last: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


_KEYS = ("layers.0.weight", "layers.0.bias")
_weights("an_endless_header", _safetensors(b"{}", length=2**63))
_weights("a_long_header_that_is_not_there", _safetensors(b"{}", length=90_000_000))
_weights("nothing", b"")
_weights("a_deep_header", _safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000))
_weights(
    "overlapping_tensors", _safetensors({_KEYS[0]: _tensor([1, 4], 0, 16), _KEYS[1]: _tensor([1], 8, 12)}, bytes(16))
)
_weights(
    "a_shape_beyond_its_bytes",
    _safetensors({_KEYS[0]: _tensor([2**40, 2**20], 0, 16), _KEYS[1]: _tensor([1], 16, 20)}, bytes(20)),
)
_weights(
    "a_shape_that_overflows",
    _safetensors({_KEYS[0]: _tensor([2**63, 2], 0, 0), _KEYS[1]: _tensor([1], 0, 4)}, bytes(4)),
)
_weights("a_huge_shape_of_nothing", _safetensors({_KEYS[0]: _tensor([0, 2**50], 0, 0), _KEYS[1]: _tensor([0], 0, 0)}))
_weights(
    "a_negative_shape", _safetensors({_KEYS[0]: _tensor([-1, 4], 0, 16), _KEYS[1]: _tensor([1], 16, 20)}, bytes(20))
)
_weights("offsets_beyond_the_file", _safetensors({_KEYS[0]: _tensor([1, 4], 2**40, 2**40 + 16)}, bytes(16)))
_weights(
    "an_unknown_type",
    _safetensors({_KEYS[0]: _tensor([1, 4], 0, 16, "X99"), _KEYS[1]: _tensor([1], 16, 20)}, bytes(20)),
)
_weights(
    "a_type_that_numpy_lacks",
    _safetensors({_KEYS[0]: _tensor([1, 4], 0, 8, "BF16"), _KEYS[1]: _tensor([1], 8, 10, "BF16")}, bytes(10)),
)
_weights("a_million_layers", _safetensors({f"layers.{i}.weight": _tensor([0], 0, 0) for i in range(20_000)}))

BOMBS = {
    "nested_deep": b"[" * 200_000 + b"]" * 200_000,
    "objects_nested_deep": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "no_number": b'{"a": NaN}',
    "infinite": b'{"a": 1e999999}',
    "a_number_of_a_million_digits": b'{"a": ' + b"9" * 1_000_000 + b"}",
    "no_text": b"\xff\xfe\x00",
    "a_list": b"[1, 2, 3]",
    "nothing": b"",
}


def _bombed(file: str, title: str, content: bytes) -> None:
    def change(folder: Path, canary: Path) -> None:
        (folder / file).write_bytes(content)

    change.__name__ = f"{title}_in_{file.replace('.', '_')}"
    evil(change)


for _file in ("features.json", "reference.json", "input_example.json", "lineage.json", "manifest.json"):
    for _title, _content in BOMBS.items():
        harmless = _file in ("reference.json", "lineage.json") and _title in (
            "infinite",
            "a_number_of_a_million_digits",
        )
        if not harmless and (_file, _title) != ("input_example.json", "a_list"):
            _bombed(_file, _title, _content)


@evil
def rows_that_are_no_rows(folder: Path, canary: Path) -> None:
    (folder / "input_example.json").write_text("[1, [2], null]")


@evil
def a_file_larger_than_the_disk(folder: Path, canary: Path) -> None:
    with (folder / "lineage.json").open("wb") as file:
        file.truncate(2**40)


@evil
def a_manifest_larger_than_memory(folder: Path, canary: Path) -> None:
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(2**40)


def _sized(title: str, values: dict[str, Any]) -> None:
    def change(folder: Path, canary: Path) -> None:
        def put(state: dict[str, Any]) -> None:
            first = state["columns"][0]
            state["columns"][0] = {"name": first["name"], "source": first["source"], **values}

        features(folder, put)

    change.__name__ = f"features_with_{title}"
    evil(change)


_ARRAY = {"means": [0.0], "stds": [1.0], "bound": 1.0}
_sized("a_vector_of_a_billion", {"kind": "vector", "shape": [10**9], **_ARRAY})
_sized("a_picture_beyond_any", {"kind": "image", "shape": [10**6, 10**6, 4], **_ARRAY})
_sized("a_negative_shape", {"kind": "vector", "shape": [-4], **_ARRAY})
_sized("a_shape_of_words", {"kind": "vector", "shape": ["a"], **_ARRAY})
_sized("a_billion_buckets", {"kind": "categorical", "encode": "hashing", "buckets": 10**9})
_sized("an_unknown_kind", {"kind": "os.system"})
_sized("an_encoding_unknown", {"kind": "categorical", "encode": "eval"})
_sized(
    "endless_ngrams",
    {"kind": "text", "analyzer": "char", "ngrams": [1, 10**9], "buckets": 4, "lowercase": True, "rarity": [1.0] * 4},
)


# --- Arrow -----------------------------------------------------------------------------------------------------------


def _arrow(title: str, make: Callable[[], bytes]) -> None:
    def change(folder: Path, canary: Path) -> None:
        (folder / "features.arrow").write_bytes(make())

    change.__name__ = f"arrow_{title}"
    evil(change)


def ipc(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _long_list(values: Any) -> pa.Table:
    return pa.table({"columns.0.levels": pa.array([values], pa.large_list(pa.int64()))})


def _lying(content: bytes, size: int) -> bytes:
    """Say another uncompressed length in front of the largest compressed buffer."""
    honest = struct.pack("<q", 8 * 100_000)
    assert honest in content
    return content.replace(honest, struct.pack("<q", size), 1)


_arrow("compressed", lambda: ipc(_long_list([0] * 10_000_000), "zstd"))
_arrow("compressed_with_a_lie", lambda: _lying(ipc(_long_list([0] * 100_000), "zstd"), 2**45))
_arrow("of_nulls_without_end", lambda: ipc(pa.table({"x": pa.nulls(10**7)})))
_arrow("of_runs_without_end", lambda: ipc(pa.table({"x": pa.RunEndEncodedArray.from_arrays([2**31 - 1], [1])})))
_arrow(
    "of_views",
    lambda: ipc(
        pa.table({"x": pa.ListViewArray.from_arrays([0] * 100_000, [100_000] * 100_000, pa.array(range(100_000)))})
    ),
)
_arrow("of_empty_binaries", lambda: ipc(pa.table({"x": pa.array([b""] * 4, pa.binary(0))})))
_arrow("of_dictionaries", lambda: ipc(pa.table({"x": pa.array(["a" * 1000] * 10).dictionary_encode()})))
_arrow("cut_short", lambda: ipc(_long_list(list(range(1000))))[:-40])
_arrow("of_magic_alone", lambda: b"ARROW1\0\0" + struct.pack("<i", 2**31 - 1) + b"ARROW1")
_arrow("with_a_footer_before_the_file", lambda: b"ARROW1\0\0" + bytes(40) + struct.pack("<i", -5) + b"ARROW1")


@evil
def a_pointer_that_leads_nowhere(folder: Path, canary: Path) -> None:
    features(folder, lambda values: values["columns"][0].update(name={"$arrow": "x", "type": "int64", "length": 2**50}))


# --- XGBoost and look-ups ---------------------------------------------------------------------------------------------


@evil
def a_booster_nested_deep(folder: Path, canary: Path) -> None:
    learner = {
        "objective": {"name": "reg:squarederror"},
        "learner_model_param": {"num_feature": "1", "num_class": "0", "num_target": "1", "base_score": "[" * 100_000},
    }
    with_network(folder, "model.json", json.dumps({"learner": learner}).encode())


@evil
def a_lookup_that_is_none(folder: Path, canary: Path) -> None:
    (folder / "history.json").write_bytes(
        msgspec.json.encode({"format": 1, "store": ["x"], "tables": {}, "windows": 7})
    )
