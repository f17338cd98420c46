"""A bundle as an MLflow model: how it is logged, and how ``mlflow.pyfunc.load_model`` reads it; no pickle."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline.features.schemas.schema import ColumnSchema
from rayline.registry.bundle import Bundle
from rayline.registry.networks import PACKAGES
from rayline.registry.predictor import Predictor
from rayline.registry.provenance import package_version
from rayline.registry.store import DIGEST_TAG

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import Model, ModelSignature

DATA = "data/bundle"  # where the bundle lies in the MLflow model


class BundleModel:
    """What MLflow calls: raw rows in, one row of answers each out."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer a frame of raw input columns.

        Returns:
            The column ``prediction``, or ``label`` and one ``probability_CLASS`` for each class; the frame's own index.

        Raises:
            SchemaError: an input column is missing.
            RowError: a value has the wrong type.
        """
        import pandas as pd
        import pyarrow as pa

        table = pa.Table.from_pandas(model_input, preserve_index=False)
        found = self._predictor.predict_table(table)
        if found.probabilities is None or found.labels is None:
            return pd.DataFrame({"prediction": found.values}, index=model_input.index)
        columns: dict[str, Any] = {"label": [found.labels[index] for index in found.values]}
        columns |= {f"probability_{label}": found.probabilities[:, at] for at, label in enumerate(found.labels)}
        return pd.DataFrame(columns, index=model_input.index)


def _load_pyfunc(path: str) -> BundleModel:
    """Load the model for MLflow, which finds this function by its name. Raises ``BundleError``."""
    return BundleModel(Bundle.load(path).predictor())


def log(client: MlflowClient, bundle: Bundle, run_id: str) -> LoggedModel:
    """Keep a bundle, with its files, as a logged model of its run; return MLflow's record of it."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    logged = client.create_logged_model(
        run.info.experiment_id, name=bundle.name, source_run_id=run_id, tags={DIGEST_TAG: bundle.digest}
    )
    model = Model(
        artifact_path=logged.artifact_location, run_id=run_id, model_uuid=logged.model_id, model_id=logged.model_id
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        save(bundle, folder, model)
        client.log_model_artifacts(logged.model_id, str(folder))
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return client.finalize_logged_model(logged.model_id, "READY")


def save(bundle: Bundle, out: Path, model: Model) -> None:
    """Write a bundle as an MLflow model directory with its signature, input example and requirements.

    Args:
        out: a directory that does not exist yet.
        model: MLflow's description of it, which is completed and written with it.
    """
    import mlflow.pyfunc

    requirements = [f"rayline=={version('rayline')}"]
    requirements += [_pinned(name) for name in PACKAGES.get(bundle.manifest.network, ())]
    with tempfile.TemporaryDirectory() as temporary:
        staged = Path(temporary) / Path(DATA).name  # MLflow keeps the folder's own name
        shutil.copytree(bundle.path, staged)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Operation with range is deprecated")  # MLflow's use of pandas
            # Requirements are given, since MLflow would otherwise load the model in another process to infer them.
            mlflow.pyfunc.save_model(
                path=str(out),
                loader_module=__name__,
                data_path=str(staged),
                mlflow_model=model,
                signature=signature(bundle),
                input_example=_example(bundle),
                pip_requirements=requirements,
            )


def _pinned(name: str) -> str:
    installed = package_version(name)
    return name if installed is None else f"{name}=={installed.partition('+')[0]}"  # no index has a build's own name


def signature(bundle: Bundle) -> ModelSignature:
    """Return the raw input columns and the answers' columns, in MLflow's types."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import AnyType

    features = bundle.features
    kinds = {name: _kind(features.schema.column(name), bundle) for name in features.input_columns}
    inputs = Schema([ColSpec(AnyType() if kind is None else kind, name) for name, kind in kinds.items()])
    if features.task == "regression":
        return ModelSignature(inputs, Schema([ColSpec("double", "prediction")]))
    answers = [ColSpec("string", "label"), *(ColSpec("float", f"probability_{each}") for each in features.classes)]
    return ModelSignature(inputs, Schema(answers))


def _kind(column: ColumnSchema, bundle: Bundle) -> str | None:
    """Return MLflow's type of a column, or None where the frames of one table differ in how they hold it.

    Pandas holds integers with a gap as floats, and MLflow refuses a float where it expects an integer. It also refuses
    numbers for a text, and many a category or flag is written as a number, which only the example's values tell; so is
    many a whole number held as a float.
    """
    if column.kind == "datetime":
        return "datetime"
    seen = {type(row[column.name]) for row in bundle.example if row.get(column.name) is not None}
    if column.kind == "numeric":
        if not column.integer or float in seen:
            return "double"
        return "long" if not column.nullable else None
    if seen == {str}:
        return "string"
    return (
        {frozenset({int}): "long", frozenset({bool}): "boolean"}.get(frozenset(seen)) if not column.nullable else None
    )


def _example(bundle: Bundle) -> pd.DataFrame | None:
    import pandas as pd

    if not bundle.example:
        return None
    columns = bundle.features.input_columns
    frame = pd.DataFrame([{name: row[name] for name in columns} for row in bundle.example])
    for name in columns:
        if bundle.features.schema.column(name).kind == "datetime":
            frame[name] = pd.to_datetime(frame[name], format="ISO8601")
    return frame
