"""The skew test: training rows sent through a bundle's serving path must give what they gave offline.

A fresh interpreter, which has neither the training side nor the user's code on its path, loads the bundle from disk,
decodes the rows from JSON with the service's own decoder and answers them. What it gives is compared with the features
that the batch path made of the same rows, and with what the network says to those.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.errors import SkewFound, shown

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from rayline.features.transform import FittedFeatureSet
    from rayline.registry.bundle import Bundle
    from rayline.serving.versions.rehearsal import Rehearsed

FEATURES_WITHIN = 1e-6  # of a feature's value, or absolute
PREDICTIONS_WITHIN = 1e-5  # of a probability or of the target's standard deviation: a network amplifies its input
MOST_NUMBERS = 10_000_000  # of all rows together: as JSON about 200 MB; rows of large images are fewer for it
SECONDS = 300.0
NOTHING = "Nothing was registered."
WAY_OUT = (
    "What a column's row path and its batch path make of one value must agree: the code and the versions here must be "
    "those that serve. Correct the column, or leave it out with features.drop."
)

# The folder of this package comes last on the path, so that it hides nothing there.
_START = (
    "import sys; sys.path.append(sys.argv.pop(1)); "
    "from rayline.serving.versions.rehearsal import main; main(sys.argv[1:])"
)


@dataclass(frozen=True, slots=True)
class Skew:
    """What a skew test found.

    Attributes:
        rows: how many rows were compared.
        largest: the largest absolute difference of a feature, a probability, or a value in standard deviations of the
            target.
        message: the first difference that is not allowed, and how many more there are; empty where there is none.
    """

    rows: int
    largest: float
    message: str = ""

    def refuse(self) -> None:
        """Raise ``SkewFound`` where serving and offline differ."""
        if self.message:
            raise SkewFound(self.message)


def skew_of(path: Path, table: pa.Table, offline: NDArray[np.float32]) -> Skew:
    """Compare a bundle's serving path with what was recorded offline.

    Args:
        path: the bundle's directory.
        table: raw training rows; of very wide ones only the first are sent.
        offline: float32 (n, width), what the batch path made of these rows, not as of training rows.

    Raises:
        BundleError: the bundle does not load here.
    """
    import msgspec

    from rayline.features.request_rows import request_rows
    from rayline.registry.bundle import Bundle

    bundle = Bundle.load(path)
    features = bundle.features
    sent = min(table.num_rows, max(1, MOST_NUMBERS // features.width))
    table, offline = table[:sent], offline[:sent]
    rows = request_rows(table, features.schema, features.input_columns)
    served = _in_a_fresh_process(path, msgspec.json.encode({"rows": rows}))
    if isinstance(served, str):
        return Skew(len(rows), 0.0, f"the bundle '{path}' does not serve its own training rows: {served} {NOTHING}")
    return compared(bundle, rows, offline, served)


def compared(bundle: Bundle, rows: list[dict[str, Any]], offline: NDArray[np.float32], served: Rehearsed) -> Skew:
    """Compare what was served with what is expected, features first."""
    import numpy as np

    from rayline.serving.versions.rehearsal import outcomes

    features = bundle.features
    expected = outcomes(bundle.predictor().predict_matrix(offline))
    scale = features.target_std if features.task == "regression" else 1.0
    apart = np.abs(served.features.astype(np.float64) - offline)
    answers_apart = np.abs(served.outcomes - expected) / scale
    largest = float(max(apart.max(initial=0.0), answers_apart.max(initial=0.0)))
    # Not "larger than", so that NaN is a difference too.
    wrong = ~(apart <= FEATURES_WITHIN * np.maximum(1.0, np.abs(offline)))
    if wrong.any():
        message = _feature_message(features, rows, wrong, served.features, offline)
        return Skew(len(rows), largest, message)
    wrong = ~(answers_apart <= PREDICTIONS_WITHIN)
    message = _answer_message(features, rows, wrong, served.outcomes, expected) if wrong.any() else ""
    return Skew(len(rows), largest, message)


def _feature_message(
    features: FittedFeatureSet,
    rows: list[dict[str, Any]],
    wrong: NDArray[np.bool_],
    served: NDArray[np.float32],
    offline: NDArray[np.float32],
) -> str:
    import numpy as np

    row, place = _first(wrong)
    owners = [column for column in features.columns for _ in column.output_names]
    column, output = owners[place], features.output_names[place]
    of = f" (feature '{output}')" if output != column.name else ""
    values = ", ".join(f"{name} = {shown(rows[row][name])}" for name in column.inputs)
    names = sorted({owners[each].name for each in np.flatnonzero(wrong.any(axis=0))})
    return (
        f"serving and offline features differ: row {row}, column '{column.name}'{of}: serving gives "
        f"{served[row, place]:.9g} and offline gave {offline[row, place]:.9g}, where {values}. They may differ by "
        f"{FEATURES_WITHIN:g}. {int(wrong.any(axis=1).sum()):,} of {len(rows):,} training rows differ, in "
        f"{', '.join(names)}. {NOTHING} {WAY_OUT}"
    )


def _answer_message(
    features: FittedFeatureSet,
    rows: list[dict[str, Any]],
    wrong: NDArray[np.bool_],
    served: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> str:
    row, place = _first(wrong)
    what = f"probability of '{features.classes[place]}'" if features.classes else f"'{features.schema.target}'"
    return (
        f"serving and offline predictions differ, though the features agree: row {row}, {what}: serving gives "
        f"{served[row, place]:.9g} and offline gave {expected[row, place]:.9g}. They may differ by "
        f"{PREDICTIONS_WITHIN:g}{'' if features.classes else ' standard deviations of the target'}. "
        f"{int(wrong.any(axis=1).sum()):,} of {len(rows):,} training rows differ. {NOTHING} The network must give the "
        "same for the same numbers: no randomness, and nothing kept between calls."
    )


def _first(wrong: NDArray[np.bool_]) -> tuple[int, int]:
    """Return row and place of the first difference, row by row."""
    row, place = divmod(int(wrong.argmax()), int(wrong.shape[1]))
    return row, place


def _in_a_fresh_process(bundle: Path, body: bytes) -> Rehearsed | str:
    """Return what a process of its own answers, or why it did not."""
    import numpy as np

    import rayline
    from rayline.serving.versions.rehearsal import ANSWERS, REFUSAL, Rehearsed

    home = Path(rayline.__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="rayline-skew-") as temporary:
        folder = Path(temporary)
        (folder / "body.json").write_bytes(body)
        given = [str(home), str(bundle.resolve()), str(folder / "body.json"), str(folder)]
        try:
            # -P keeps the current folder, where a user's code may lie, off the path.
            done = subprocess.run(
                [sys.executable, "-P", "-c", _START, *given],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"a fresh process gave no answer within {SECONDS:g} s."
        if (folder / REFUSAL).exists():
            return f"{json.loads((folder / REFUSAL).read_text(encoding='utf-8'))['error']}."
        if done.returncode or not (folder / ANSWERS).exists():
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return f"a fresh process without the training code ended with {last}."
        with np.load(folder / ANSWERS) as found:
            return Rehearsed(found["features"], found["outcomes"])
