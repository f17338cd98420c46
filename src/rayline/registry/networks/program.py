"""A user's own module as a ``torch.export`` program: written with the user's code, loaded without it.

The archive of a program may hold pickles and code in seven places: pickled weights, constants and sample inputs, custom
objects, guards that are executed, symbolic expressions that are evaluated, and operators that are looked up by name in
all of torch. An archive is therefore read as plain ZIP and JSON first, against a list of what a program needs, and only
then handed to torch. The checks know the archive format of torch 2.13.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rayline.errors import BundleError, shown

if TYPE_CHECKING:
    import torch

_TRIED_BATCHES = (1, 2, 7)
_TOLERANCE = 1e-5
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_ENTRY = re.compile(
    r"archive_format|archive_version|byteorder|\.data/version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    rf"|{re.escape(_SAMPLE_INPUTS)}"
)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.[a-z0-9_]+\.[A-Za-z0-9_]+"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(max|min|not|float|int|ite|sum)"
)
_FILES = re.compile(r"torch\.ops\.aten\.from_file\b.*")  # the one aten operator that opens a path
_SYMBOL = re.compile(r"[su]\d+")
# An expression as SymPy writes it out: Mul(Integer(8), Symbol('s77', positive=True, integer=True)).
_TOKEN = re.compile(
    r"Symbol\('[su]\d+'(, [a-z_]+=(True|False))*\)"
    r"|(Integer|Rational|Float|Add|Mul|Pow|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Max|Min)\("
    r"|-?\d+(\.\d+)?|, |\)"
)
_REFUSED_KEYS = frozenset({"as_operator", "as_custom_obj", "as_graph", "as_opaque_value"})


@dataclass(frozen=True, slots=True)
class ProgramNetwork:
    """An exported program, run by torch on the CPU."""

    module: torch.nn.Module
    place: str

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]:
        import torch

        with torch.inference_mode():
            out: NDArray[np.float64] = self.module(torch.from_numpy(np.ascontiguousarray(matrix))).double().numpy()
        return out


def export(module: torch.nn.Module, inputs: int, outputs: int, out: Path) -> None:
    """Write a module as a program whose batch size is free.

    Args:
        module: maps float32 (n, inputs) to (n, outputs).
        out: the file to write.

    Raises:
        BundleError: the module cannot be exported, gives another shape, or answers differently once exported.
    """
    import torch

    module = module.cpu().eval()
    name = type(module).__qualname__
    example = torch.linspace(-1.0, 1.0, 4 * inputs).reshape(4, inputs)
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # the tracer runs user code, and has a dozen error types of its own
        raise BundleError(
            f"module '{name}' cannot be exported by torch.export with a free batch size: {_first_line(error)}"
            " Keep Python branches on tensor values and on the batch size out of its forward()."
        ) from error
    _forget_origin(program)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    content = buffer.getvalue()
    network = load(content, f"the program of module '{name}'")
    for rows in _TRIED_BATCHES:
        matrix = np.linspace(-2.0, 2.0, rows * inputs, dtype=np.float32).reshape(rows, inputs)
        found = network(matrix)
        if found.shape != (rows, outputs):
            raise BundleError(
                f"module '{name}' gives shape {found.shape} for {rows} rows, and must give ({rows}, {outputs})."
            )
        with torch.no_grad():
            expected = module(torch.from_numpy(matrix)).double().numpy()
        if not np.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            raise BundleError(
                f"module '{name}' answers differently once exported ({rows} rows, largest difference"
                f" {np.abs(found - expected).max():.3g}): its forward() depends on what torch.export cannot see."
            )
    out.write_bytes(content)


def load(content: bytes, place: str) -> ProgramNetwork:
    """Return the network of a program, once nothing in its archive can run code.

    Raises:
        BundleError: the archive is damaged, or holds a pickle, code or an operator that is not allowed.
    """
    refuse_code(content, place)
    import torch

    try:
        program = torch.export.load(io.BytesIO(content))
        module = program.module(check_guards=False)
    except Exception as error:  # whatever the reader of a damaged archive raises is one error here
        raise BundleError(
            f"{place} cannot be loaded by torch {torch.__version__}: {_first_line(error)}"
            " Make a new version with this torch, or install the one that lineage.json names."
        ) from error
    return ProgramNetwork(module, place)


def refuse_code(content: bytes, place: str) -> None:
    """Raise ``BundleError`` where an archive holds anything but plain tensors and a graph of known operators."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _refuse_bomb(archive, len(content), place)
            entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise BundleError(f"{place} is no archive of torch.export: {error}.") from error
    root = entries[0][0].partition("/")[0] if entries else ""
    seen: set[str] = set()
    for full_name, data in entries:
        folder, _, name = full_name.partition("/")
        if folder != root or name in seen or not _ENTRY.fullmatch(name):
            raise BundleError(f"{place} holds {shown(full_name)}, which no program may hold.")
        seen.add(name)
        if name == _SAMPLE_INPUTS and data:
            raise BundleError(
                f"{place} holds pickled sample inputs ({full_name}). Only Rayline's own export is loaded."
            )
        if name.endswith(".json"):
            _check_json(data, f"{place}, {name}")
    if "models/model.json" not in seen:
        raise BundleError(f"{place} holds no graph (models/model.json).")


def _refuse_bomb(archive: zipfile.ZipFile, size: int, place: str) -> None:
    """Raise ``BundleError`` where an archive would unpack to more than it has bytes: torch compresses nothing."""
    unpacked = 0
    for entry in archive.infolist():
        unpacked += entry.file_size
        if entry.compress_type != zipfile.ZIP_STORED or unpacked > size:
            raise BundleError(f"{place} is packed so that {size:,} bytes become more; torch.export packs nothing.")


def _check_json(data: bytes, place: str) -> None:
    try:
        values = json.loads(data)
        pairs = list(_pairs(values))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{place} is not JSON: {error}.") from error
    for key, value in pairs:
        if key == "use_pickle" and value is not False:
            raise BundleError(f"{place} holds a pickled tensor, and pickles can run any code.")
        if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
            raise BundleError(f"{place} holds {shown(value)}, which is no plain tensor.")
        if key == "target" and isinstance(value, str) and not _allowed(value):
            raise BundleError(
                f"{place} calls {shown(value)}. Only aten operators and arithmetic on sizes may be called."
            )
        if key in _REFUSED_KEYS:
            raise BundleError(f"{place} holds '{key}', which no program may hold.")
        if key in ("guards_code", "metadata") and value:
            raise BundleError(f"{place} holds {key}, which can carry code: {shown(value)}.")
        if key == "expr_str" and not _is_arithmetic(str(value)):
            raise BundleError(f"{place} evaluates {shown(value)}, which is no arithmetic on sizes.")
        if key == "range_constraints" and not all(_SYMBOL.fullmatch(name) for name in value):
            raise BundleError(f"{place} bounds {shown(list(value))}, which are no symbols of sizes.")


def _allowed(operator: str) -> bool:
    return bool(_OPERATOR.fullmatch(operator)) and not _FILES.fullmatch(operator)


def _is_arithmetic(text: str) -> bool:
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return False
        position = token.end()
    return True


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key and value at any depth, but for those of the signature, which only names inputs and outputs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            if key not in ("input_specs", "output_specs"):
                yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _forget_origin(program: Any) -> None:
    """Drop the sample inputs, which are saved as a pickle, and the user's source lines and paths from each node."""
    program._example_inputs = None
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "torch_fn", "source_fn_stack", "from_node", "custom"):
            node.meta.pop(key, None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0].rstrip('.')}."
