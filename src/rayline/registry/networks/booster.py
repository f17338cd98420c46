"""An XGBoost model as a bundle's network: its JSON is read and checked by us before XGBoost sees it.

XGBoost walks its trees by the places that stand in them; so each child, feature and group is checked here, and every
number must be finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rayline.config import Task
from rayline.errors import BundleError, shown
from rayline.libraries.boosting import OBJECTIVES, outputs_of, xgboost

NO_PARENT = 2**31 - 1
LARGEST = float(np.finfo(np.float32).max)
PER_NODE = (
    *("base_weights", "default_left", "left_children", "loss_changes", "parents", "right_children"),
    *("split_conditions", "split_indices", "split_type", "sum_hessian"),
)
BY_CATEGORY = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


@dataclass(frozen=True, slots=True)
class BoosterNetwork:
    """Gives a booster's margins. See ``Network``."""

    booster: Any

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[np.float64]:
        return outputs_of(self.booster, np.ascontiguousarray(matrix))

    @classmethod
    def from_json(cls, content: bytes, inputs: int, outputs: int, task: Task, place: str) -> BoosterNetwork:
        """Return the network of XGBoost's JSON model; ``place`` names it in messages.

        Raises:
            BundleError: the file is no such model, or does not fit the features or the task.
            EnvironmentFailed: XGBoost is not installed.
        """
        library = xgboost()
        refuse_unsound(content, inputs, outputs, task, place)
        booster = library.Booster()
        try:
            booster.load_model(bytearray(content))
            # A thread pool costs a single row 20 times its answer; many rows come in several processes.
            booster.set_param({"nthread": 1, "verbosity": 0})
            answer = outputs_of(booster, np.zeros((1, inputs), dtype=np.float32))
        except (library.core.XGBoostError, ValueError, TypeError) as error:
            raise BundleError(f"{place} cannot be loaded by XGBoost {library.__version__}: {_first(error)}.") from error
        if answer.shape != (1, outputs) or not np.isfinite(answer).all():
            raise BundleError(f"{place} gives {answer.tolist()} for a row of zeros.")
        return cls(booster)


def refuse_unsound(content: bytes, inputs: int, outputs: int, task: Task, place: str) -> None:
    """Raise ``BundleError`` for what is not the JSON of a tree booster with this input and this output."""
    try:
        model = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{place} is no JSON model of XGBoost: {error}.") from error
    try:
        _check(model["learner"], inputs, outputs, task)
    except BundleError as error:
        raise BundleError(f"{place}: {error}") from error
    except (KeyError, TypeError, ValueError, OverflowError, IndexError, AttributeError, RecursionError) as error:
        raise BundleError(f"{place} is no JSON model of XGBoost: {type(error).__name__} {error}.") from error


def _check(learner: Mapping[str, Any], inputs: int, outputs: int, task: Task) -> None:
    objective = learner["objective"]["name"]
    if objective not in OBJECTIVES[task]:
        raise BundleError(f"the objective {shown(objective)} does not fit a {task} task.")
    given = learner["learner_model_param"]
    if int(given["num_feature"]) != inputs:
        raise BundleError(f"the model takes {given['num_feature']} numbers, and the features give {inputs}.")
    if max(int(given["num_class"]), 1) != outputs or int(given["num_target"]) != 1:
        raise BundleError(f"the model does not give {outputs} numbers.")
    scores = json.loads(given["base_score"])
    if not all(math.isfinite(float(each)) for each in (scores if isinstance(scores, list) else [scores])):
        raise BundleError("the model's base score is not finite.")
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree":
        raise BundleError(f"the booster {shown(booster['name'])} is no 'gbtree'.")
    _check_forest(booster["model"], inputs, outputs)


def _check_forest(model: Mapping[str, Any], inputs: int, outputs: int) -> None:
    trees, groups, ends = model["trees"], np.array(model["tree_info"]), np.array(model["iteration_indptr"])
    if int(model["gbtree_model_param"]["num_trees"]) != len(trees) or len(groups) != len(trees) or not trees:
        raise BundleError("the model has not as many trees as it says.")
    if groups.dtype.kind != "i" or ((groups < 0) | (groups >= outputs)).any():
        raise BundleError(f"a tree is for an output that is not among the {outputs}.")
    if ends.dtype.kind != "i" or ends[0] != 0 or ends[-1] != len(trees) or (np.diff(ends) < 1).any():
        raise BundleError("the model's rounds do not hold all its trees in order.")
    if any(model.get("cats", {}).get(name) for name in ("enc", "feature_segments", "sorted_idx")):
        raise BundleError("the model splits by categories, which Rayline does not keep.")
    for tree in trees:
        _check_tree(tree, inputs)


def _check_tree(tree: Mapping[str, Any], inputs: int) -> None:
    nodes = int(tree["tree_param"]["num_nodes"])
    arrays = {name: np.array(tree[name]) for name in PER_NODE}
    if nodes < 1 or any(array.shape != (nodes,) or array.dtype.kind not in "if" for array in arrays.values()):
        raise BundleError("a tree has not as many nodes as it says.")
    if int(tree["tree_param"]["size_leaf_vector"]) not in (0, 1) or int(tree["tree_param"]["num_feature"]) != inputs:
        raise BundleError(f"a tree is not for {inputs} numbers and one answer.")
    if any(tree[name] for name in BY_CATEGORY) or arrays["split_type"].any():
        raise BundleError("a tree splits by categories, which Rayline does not keep.")
    values = np.abs(np.concatenate([arrays["base_weights"], arrays["split_conditions"]]).astype(np.float64))
    if not (values <= LARGEST).all():
        raise BundleError("a tree holds a number that is not finite.")
    _check_paths(arrays, nodes, inputs)


def _check_paths(arrays: Mapping[str, NDArray[Any]], nodes: int, inputs: int) -> None:
    """Check that every path ends in a leaf of the tree: each node but the root is the child of one node before it."""
    left, right, split = (arrays[name] for name in ("left_children", "right_children", "split_indices"))
    if any(array.dtype.kind != "i" for array in (left, right, split, arrays["parents"])):
        raise BundleError("a tree leads to places that are no whole numbers.")
    inner = left != -1
    if not np.array_equal(inner, right != -1):
        raise BundleError("a tree has a node with one child.")
    children = np.concatenate([left[inner], right[inner]])
    if not np.array_equal(np.sort(children), np.arange(1, nodes)):
        raise BundleError("a tree leads out of itself.")
    parents = np.full(nodes, NO_PARENT, dtype=np.int64)
    parents[left[inner]] = parents[right[inner]] = np.flatnonzero(inner)
    if not np.array_equal(parents, arrays["parents"]) or (parents[1:] >= np.arange(1, nodes)).any():
        raise BundleError("a tree leads back into itself.")
    if ((split[inner] < 0) | (split[inner] >= inputs)).any():
        raise BundleError(f"a tree asks for an input that is not among the {inputs}.")


def _first(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
