"""A user's module as a program: what can run code is refused before torch sees it; what cannot be exported is told."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayline.errors import BundleError
from rayline.registry.networks.program import export, load, refuse_code

INPUTS = 6


class Sized(torch.nn.Module):
    """Reads the batch size, so that its graph holds arithmetic on sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(INPUTS, 4)
        self.scale = torch.nn.Buffer(torch.ones(4), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(x) * self.scale).reshape(x.shape[0] * 2, 2).reshape(x.shape[0], 4)


@pytest.fixture(scope="module")
def module() -> Sized:
    torch.manual_seed(0)
    return Sized()


@pytest.fixture(scope="module")
def good(module: Sized, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("program") / "model.pt2"
    export(module, INPUTS, 4, path)
    return path.read_bytes()


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def named(files: dict[str, bytes], ending: str) -> str:
    return next(name for name in files if name.endswith(ending))


@pytest.mark.parametrize("rows", [1, 2, 3, 500])
def test_the_program_gives_what_the_module_gives(module: Sized, good: bytes, rows: int) -> None:
    matrix = np.random.default_rng(rows).normal(size=(rows, INPUTS)).astype(np.float32)

    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(matrix)).numpy()

    np.testing.assert_allclose(load(good, "it")(matrix), expected, rtol=1e-6, atol=1e-6)


def test_repacking_alone_changes_nothing(good: bytes) -> None:
    refuse_code(archive_of(entries(good)), "it")


def in_json(ending: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        name = named(files, ending)
        values = json.loads(files[name])
        change(values)
        files[name] = json.dumps(values).encode()

    return edit


def first_node(values: Any) -> Any:
    return values["graph_module"]["graph"]["nodes"][0]


def pickled_weight(values: Any) -> None:
    next(iter(values["config"].values()))["use_pickle"] = True


def custom_object(values: Any) -> None:
    next(iter(values["config"].values()))["path_name"] = "custom_obj_0"


def evaluated(values: Any) -> None:
    values["graph_module"]["graph"]["sym_int_values"] = {
        "x": {"as_expr": {"expr_str": "__import__('os').system('true')", "hint": None}}
    }


def sample_inputs(files: dict[str, bytes]) -> None:
    files[named(files, "sample_inputs/model.pt")] = pickle.dumps(("x",))


def another_file(files: dict[str, bytes]) -> None:
    files[f"{named(files, 'models/model.json').partition('/')[0]}/data/aotinductor/model/run.so"] = b"\x7fELF"


def another_root(files: dict[str, bytes]) -> None:
    files["elsewhere/models/model.json"] = b"{}"


def old_weights(files: dict[str, bytes]) -> None:
    files[f"{named(files, 'models/model.json').partition('/')[0]}/data/weights/model.pt"] = pickle.dumps({})


def no_graph(files: dict[str, bytes]) -> None:
    del files[named(files, "models/model.json")]


def calling(target: str) -> Callable[[dict[str, bytes]], None]:
    return in_json("models/model.json", lambda values: first_node(values).update(target=target))


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (in_json("weights_config.json", pickled_weight), "holds a pickled tensor"),
        (in_json("constants_config.json", custom_object), "'custom_obj_0', which is no plain tensor"),
        (sample_inputs, "holds pickled sample inputs"),
        (another_file, "which no program may hold"),
        (another_root, "which no program may hold"),
        (old_weights, "which no program may hold"),
        (no_graph, "holds no graph"),
        (calling("torch.hub.load"), r"calls 'torch\.hub\.load'"),
        (calling("torch.ops.aten.from_file.default"), "calls 'torch.ops.aten.from_file.default'"),
        (calling("torch.ops.mine.run.default"), "calls 'torch.ops.mine.run.default'"),
        (calling("_operator.methodcaller"), r"calls '_operator\.methodcaller'"),
        (calling("torch.ops.aten.add.Tensor\n.os"), "calls"),
        (in_json("models/model.json", evaluated), "evaluates .*which is no arithmetic on sizes"),
        (
            in_json("models/model.json", lambda values: values.update(guards_code=["print('hello')"])),
            "holds guards_code",
        ),
        (
            in_json("models/model.json", lambda values: first_node(values).update(metadata={"source_fn": "os,system"})),
            "holds metadata",
        ),
        (
            in_json("models/model.json", lambda values: values.update(range_constraints={"__import__('os')": None})),
            "which are no symbols of sizes",
        ),
        (
            in_json("models/model.json", lambda values: first_node(values).update(x={"as_operator": "os.system"})),
            "holds 'as_operator'",
        ),
        (lambda files: files.update({named(files, "models/model.json"): b"{"}), "is not JSON"),
    ],
)
def test_what_can_run_code_is_refused(good: bytes, damage: Callable[[dict[str, bytes]], None], rule: str) -> None:
    files = entries(good)
    damage(files)

    with pytest.raises(BundleError, match=rule) as refused:
        load(archive_of(files), "the program")

    assert str(refused.value).startswith("the program")


def test_what_torch_saves_by_itself_is_refused(module: Sized) -> None:
    program = torch.export.export(module.eval(), (torch.ones(2, INPUTS),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)

    with pytest.raises(BundleError, match=r"holds metadata|pickled sample inputs"):
        load(buffer.getvalue(), "it")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"a": 1})])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"is no archive of torch\.export"):
        load(content, "it")


def test_a_graph_that_torch_cannot_read_is_one_clear_error(good: bytes) -> None:
    files = entries(good)
    in_json("models/model.json", lambda values: values["graph_module"].pop("graph"))(files)

    with pytest.raises(BundleError, match="cannot be loaded by torch"):
        load(archive_of(files), "it")


class Branching(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


class CountingRows(Sized):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.shape[0] > 3 else -self.layer(x)


@pytest.mark.parametrize("kind", [Branching, CountingRows])
def test_a_module_that_cannot_be_exported_is_told_and_leaves_no_file(kind: type[Sized], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=rf"module '{kind.__name__}' cannot be exported.*out of its forward"):
        export(kind(), INPUTS, 4, tmp_path / "model.pt2")

    assert not list(tmp_path.iterdir())


def test_a_module_of_the_wrong_width_is_told(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gives shape \(1, 4\) for 1 rows, and must give \(1, 3\)"):
        export(Sized(), INPUTS, 3, tmp_path / "model.pt2")
