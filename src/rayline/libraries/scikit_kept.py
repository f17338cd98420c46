"""A fitted estimator as a skops file, and back: under a list of classes, and with every tree checked before it is used.

skops knows that an object is of a type on the list, and not that what it holds is sound: scikit-learn walks its trees
by the places that stand in them, without a look at their bounds, so that a changed file could read or write any memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rayline.config import Task
from rayline.errors import BundleError, ConfigError
from rayline.libraries.scikit import FORESTS, MODULES, UNKEPT, outputs_of
from rayline.libraries.skops_list import PLAIN_LOADERS, PLAIN_TYPES, Allowed, dumps, loads

WHAT = "the estimator"
TREE = "sklearn.tree._tree.Tree"
# What the modules share: label encoders, losses and their links, bins, checks of parameters.
SHARED = (
    *("sklearn.preprocessing._label.", "sklearn._loss.", "sklearn.utils._bunch.", "sklearn.base."),
    *("sklearn.model_selection._split.", "sklearn.metrics._scorer."),
)
LOSSES = ("sklearn._loss._loss.", "sklearn.linear_model._sgd_fast.")
NUMBERS = frozenset({"numpy.uint64", "numpy.uint32", "numpy.random._generator.Generator", "builtins.slice"})


def packed(estimator: Any, builder: str) -> bytes:
    """Return a fitted estimator as a skops file.

    Raises:
        ConfigError: it holds what the list does not; the message names it.
    """
    try:
        content = dumps(estimator)
        loads(content, ESTIMATORS, WHAT)
    except Exception as error:  # skops raises as many kinds as there are things that it cannot write
        raise ConfigError(
            f"model.builder '{builder}' cannot be kept without pickle with these options: {error} "
            "Choose other options, or another estimator."
        ) from error
    return content


def unpacked(content: bytes, place: str) -> Any:
    """Return an estimator of our own checkpoint. Raises ``BundleError`` where it is damaged or not on the list."""
    try:
        return loads(content, ESTIMATORS, WHAT)
    except BundleError as error:
        raise BundleError(f"{place}: {error} Only estimators that Rayline wrote are loaded.") from error


def checked(content: bytes, width: int, task: Task, outputs: int, place: str) -> Any:
    """Return an estimator that may have come from anywhere, once it is known to answer ``width`` numbers.

    Raises:
        BundleError: the file is damaged, holds what is not on the list, or does not fit the features or the task.
    """
    estimator = unpacked(content, place)
    try:
        _refuse_unsound(estimator, width, outputs)
        _alone(estimator)
        answer = outputs_of(estimator, np.zeros((1, width), dtype=np.float32), task, outputs)
    except BundleError as error:
        raise BundleError(f"{place}: {error}") from error
    except Exception as error:  # a state that was put together wrongly raises whatever its code does
        raise BundleError(f"{place}: the estimator does not answer: {type(error).__name__}: {error}.") from error
    if answer.shape != (1, outputs) or not np.isfinite(answer).all():
        raise BundleError(f"{place}: the estimator gives {answer.tolist()} for a row of zeros.")
    return estimator


def _permits(loader: str, name: str) -> bool:
    if loader == "TreeNode":
        return name == TREE
    if loader == "LossNode":
        return name.startswith(LOSSES)
    if loader != "ObjectNode":
        return name in PLAIN_TYPES or name in NUMBERS
    if name in PLAIN_TYPES:
        return True
    return name.startswith((*MODULES, *SHARED)) and name.rpartition(".")[2] not in UNKEPT


ESTIMATORS = Allowed(PLAIN_LOADERS | {"TreeNode", "LossNode", "RandomGeneratorNode", "SliceNode"}, _permits)


def _refuse_unsound(estimator: Any, width: int, outputs: int) -> None:
    found = getattr(estimator, "n_features_in_", None)
    if found != width:
        raise BundleError(f"the estimator takes {found} numbers, and the features give {width}.")
    for each, inputs in _parts(estimator, width):
        kind = type(each).__name__
        if kind == "Tree":
            _check_tree(each, inputs)
        elif kind == "TreePredictor":
            _check_predictor(each, inputs)
        elif kind in FORESTS:
            _check_forest(each)
        elif kind.startswith("GradientBoosting"):
            _check_stages(each, outputs)


def _parts(root: Any, width: int) -> Iterator[tuple[Any, int]]:
    """Yield every object that can be reached, with how many numbers its input has: a bag may give its own a part."""
    waiting, seen = [(root, width)], {id(root)}
    while waiting:
        node, inputs = waiting.pop()
        yield node, inputs
        for each, given in _inner(node, inputs):
            if id(each) not in seen and not isinstance(each, str | bytes | int | float | bool | type(None)):
                seen.add(id(each))
                waiting.append((each, given))


def _inner(node: Any, inputs: int) -> Iterator[tuple[Any, int]]:
    if isinstance(node, dict):
        yield from ((each, inputs) for each in node.values())
    elif isinstance(node, list | tuple | set):
        yield from ((each, inputs) for each in node)
    elif isinstance(node, np.ndarray):
        if node.dtype == object:
            yield from ((each, inputs) for each in node.ravel().tolist())
    elif type(node).__name__.startswith("Bagging"):
        columns = node.estimators_features_
        yield from ((each, len(chosen)) for each, chosen in zip(node.estimators_, columns, strict=True))
    elif hasattr(node, "__dict__"):
        yield from ((each, inputs) for each in vars(node).values())


def _check_tree(tree: Any, inputs: int) -> None:
    """Check that every path of a tree ends in a leaf of it, and that it asks for inputs that there are."""
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    leaf = left == -1
    _check_nodes(left, right, feature, leaf, min(inputs, tree.n_features))
    _check_values(tree.value)
    if not np.array_equal(leaf, right == -1):
        raise BundleError("a tree has a node with one child.")


def _check_predictor(predictor: Any, inputs: int) -> None:
    nodes = predictor.nodes
    if nodes["is_categorical"].any():
        raise BundleError("a tree has a split by categories, which Rayline does not keep.")
    leaf = nodes["is_leaf"].astype(bool)
    left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
    _check_nodes(left, right, nodes["feature_idx"].astype(np.int64), leaf, inputs)
    _check_values(nodes["value"])


def _check_values(values: Any) -> None:
    if not np.isfinite(values).all():
        raise BundleError("a tree holds a number that is not finite.")


def _check_nodes(left: Any, right: Any, feature: Any, leaf: Any, inputs: int) -> None:
    places, inner = np.arange(len(left)), ~leaf
    if not len(left):
        raise BundleError("a tree has no node.")
    for children in (left[inner], right[inner]):  # a child stands behind its parent, so that there is no way round
        if ((children <= places[inner]) | (children >= len(left))).any():
            raise BundleError("a tree leads out of itself.")
    if ((feature[inner] < 0) | (feature[inner] >= inputs)).any():
        raise BundleError(f"a tree asks for an input that is not among the {inputs}.")


def _check_forest(forest: Any) -> None:
    if not isinstance(forest.estimators_, list) or not forest.estimators_:
        raise BundleError("the estimator holds no trees.")
    if any(type(each.tree_).__name__ != "Tree" for each in forest.estimators_):
        raise BundleError("the estimator holds what is no tree.")


def _check_stages(booster: Any, outputs: int) -> None:
    """Check how many trees there are a stage: scikit-learn writes the answer of each without a look at its bounds."""
    stages = booster.estimators_
    whole = isinstance(stages, np.ndarray) and stages.ndim == 2 and stages.shape[1] == outputs
    if not whole or booster.n_trees_per_iteration_ != outputs:
        raise BundleError(f"the estimator's stages do not give {outputs} numbers each.")
    if any(type(each).__name__ != "DecisionTreeRegressor" for each in stages.ravel()):
        raise BundleError("the estimator's stages hold what is no tree.")


def _alone(estimator: Any) -> None:
    """Let an estimator answer in the thread that asks: a pool costs more than a row, and sums in any order."""
    if hasattr(estimator, "n_jobs"):
        estimator.n_jobs = None
    if hasattr(estimator, "verbose"):
        estimator.verbose = 0
