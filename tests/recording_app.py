"""One replica's application with all that it keeps of its answers, on real bundles, without Ray."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from protocol_app import TAG, App
from rayline.config import CaptureConfig, FeaturesConfig
from rayline.features.feature_set import FeatureSet
from rayline.features.reference import reference_of
from rayline.features.request_rows import request_rows
from rayline.features.schemas.inference import infer
from rayline.features.schemas.schema import Schema
from rayline.features.state import FitState
from rayline.serving.records.feedback import Answers, Feedback
from rayline.serving.records.late_truth import LateTruth
from rayline.serving.records.observation import ArmStats
from rayline.serving.records.recording import Recording
from rayline.serving.records.yardstick import Yardstick, write_yardstick
from rayline.serving.traffic.plan import Mirror
from registry_examples import mixed_table, real_table

SERVICE = "churn"


def table_of(task: str) -> pa.Table:
    return mixed_table() if task == "mixed" else real_table(task)


def state_of(table: pa.Table) -> tuple[Schema, FitState]:
    """What a fit on a table sees."""
    schema = infer(table, "target").schema
    return schema, FeatureSet.from_config(FeaturesConfig(target="target"), schema).observe(table)


@cache
def yardstick_of(task: str) -> Yardstick:
    """Of the statistics of the very table that the bundles were made from."""
    schema, state = state_of(table_of(task))
    return Yardstick.of(reference_of(schema, state), schema.names)


class RecordingApp(App):
    """An application whose answers are counted by their inputs, captured and mirrored; all traffic is version 1's."""

    def __init__(
        self, folder: Path, task: str, *, slices: Sequence[str] = (), storage: Path | None = None, **capture: Any
    ) -> None:
        super().__init__(folder, task)
        self.storage = storage = storage or folder
        write_yardstick(storage, SERVICE, yardstick_of(task))
        self.table = table_of(task)
        self.asked = request_rows(self.table, self.bundles[0].features.schema, self.bundles[0].features.input_columns)
        self.plan = self.plan.weighing(1, {1: 100})
        self.host.apply(self.plan)
        self.answers: Answers = self.endpoint.answering._answers
        self.recording = Recording.of(
            SERVICE, str(storage), TAG, self.host, self.answers, slices=slices, capture=CaptureConfig(**capture)
        )
        self.feedback = Feedback(self.host, self.answers, self.log, TAG, self.recording.recorder.slices_of)
        self.endpoint._feedback = self.feedback
        self.late = LateTruth(storage, SERVICE, self.feedback, self.recording.recorder.slicers)
        self.feedback.look_up = self.late.offer
        self.endpoint.answering.listeners.append(self.recording.recorder.answered)

    def mirror(self, percent: int | None, number: int = 2) -> None:
        self.plan = self.plan.mirroring(Mirror(number, percent) if percent else None)
        self.host.apply(self.plan)

    def told(self, request_id: str, label: object) -> Any:
        return self.ask("POST", f"/{SERVICE}/feedback", {"request_id": request_id, "label": label}).json["status"]

    def stats(self, number: int = 1) -> ArmStats:
        self.recording.settle()
        return ArmStats.from_json(self.host.report()["stats"][str(number)])
