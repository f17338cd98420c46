"""What a rollout is and has done: one value, written whole, from which a restarted controller goes on. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from rayline.config import HookConfig, Placement
from rayline.errors import ServiceError
from rayline.rollout.analysis.analysis import Measurement, Verdict
from rayline.rollout.notes import Note
from rayline.rollout.plans.plan import Plan, PlanStep
from rayline.serving.records.observation import Observation
from rayline.serving.traffic.plan import HeaderRoute, LiveVersion, Mirror

FORMAT = 2
READABLE = (1, FORMAT)

Phase = Literal["Progressing", "Paused", "Healthy", "Degraded", "Concluded"]
"""As in Argo Rollouts. The last three are final: the canary has taken over; was taken back; was only to be asked, and
has answered (``shadow``, ``experiment``): the stable version kept the traffic."""

PausedFor = Literal["time", "promote", "hand", "verdict", "breach"]
"""What ends a pause: the clock; ``promote``; ``resume``; a person's judgement of an analysis that gave none, or that
failed where ``on_breach`` asks for one."""


class Load(Struct, frozen=True, tag="load"):
    """Make a version live at weight 0, in every replica."""

    id: int
    version: LiveVersion
    attempts: int = 0
    not_before: float = 0.0


class SetWeights(Struct, frozen=True, tag="set_weights"):
    """Move the traffic; done once every replica has acknowledged it."""

    id: int
    stable: int
    weights: dict[int, int]
    attempts: int = 0
    not_before: float = 0.0


class Unload(Struct, frozen=True, tag="unload"):
    """Drop a version that has no traffic."""

    id: int
    number: int
    attempts: int = 0
    not_before: float = 0.0


class SetMirror(Struct, frozen=True, tag="set_mirror"):
    """Copy requests to a version; None ends it."""

    id: int
    mirror: Mirror | None
    attempts: int = 0
    not_before: float = 0.0


class SetRoutes(Struct, frozen=True, tag="set_routes"):
    """Route requests by header: these routes and no others."""

    id: int
    routes: tuple[HeaderRoute, ...]
    attempts: int = 0
    not_before: float = 0.0


class Place(Struct, frozen=True, tag="place"):
    """Hold a version in the replicas, or in an application of its own."""

    id: int
    number: int
    placement: Placement
    attempts: int = 0
    not_before: float = 0.0


Action = Load | SetWeights | SetMirror | SetRoutes | Place | Unload


class Tally(Struct, frozen=True):
    """How the measurements of one condition have come out in the running analysis."""

    measure: str
    successful: int = 0
    failed: int = 0
    inconclusive: int = 0
    errors_in_a_row: int = 0
    last: Measurement | None = None
    dry_run: bool = False


class AnalysisRun(Struct, frozen=True):
    """One analysis, running or ended.

    Attributes:
        step: its position in the plan.
        weight: the canary's percent while it ran.
        due: Unix time of the next measurement.
        rounds: measurements taken of each condition.
        baseline: the counts when the step began, which later ones are compared with; None until they could be read,
            and again once it has ended.
        verdict: empty while it runs.
        reason: of the verdict.
        began: Unix time.
    """

    step: int
    weight: int
    due: float
    tallies: tuple[Tally, ...]
    rounds: int = 0
    baseline: Observation | None = None
    verdict: Verdict | Literal[""] = ""
    reason: str = ""
    began: float = 0.0


class Decision(Struct, frozen=True):
    """One decision: when, which, the canary's percent from then on, and why."""

    at: float
    what: str
    weight: int
    reason: str


class RolloutState(Struct, frozen=True, kw_only=True):
    """A rollout.

    Attributes:
        id: unique; sorts by time within a service.
        kind: ``undo`` where it returns to what was stable before.
        service: whose traffic it moves, and the name of the registered model.
        plan: its steps.
        stable_version: what had the traffic when it began.
        canary_version: what is to take over.
        phase: see ``Phase``.
        paused_for: what ends the pause; empty while not paused.
        step: position in the plan's steps; -1 before the first.
        step_done: the step needs nothing more, but for actions that are open.
        step_began: Unix time.
        weight: the canary's percent, as last decided.
        mirror: the percent of the requests that it gets copies of, as last decided.
        routes: what sends requests to it by a header, as last decided.
        message: the reason of the last decision, for people.
        began: Unix time.
        updated: Unix time of the last decision.
        progressed: Unix time of the last action that was acknowledged.
        actions: decided and not yet acknowledged, in order; done one by one.
        next_action: the id of the next action.
        analysis: the running one.
        background: the one that runs beside the steps.
        analyses: those that have ended.
        decisions: all of them.
        requests: ids of the last verbs, so that one that is sent twice acts once.
        notes: what the tracking store has not taken yet.
        runs: rollout id to MLflow run id, of this rollout and of earlier ones with notes.
        points: how many metric points were noted, which numbers them.
        tracking_uri: of MLflow; None is the one under ``storage``.
        experiment: that the rollout's run belongs to.
        hooks: who is told of what happens.
    """

    id: str
    kind: Literal["rollout", "undo"]
    service: str
    plan: Plan
    stable_version: LiveVersion
    canary_version: LiveVersion
    phase: Phase
    began: float
    updated: float
    progressed: float = 0.0
    experiment: str
    tracking_uri: str | None = None
    paused_for: PausedFor | Literal[""] = ""
    step: int = -1
    step_done: bool = True
    step_began: float = 0.0
    weight: int = 0
    mirror: int = 0
    routes: tuple[HeaderRoute, ...] = ()
    message: str = ""
    actions: tuple[Action, ...] = ()
    next_action: int = 1
    analysis: AnalysisRun | None = None
    background: AnalysisRun | None = None
    analyses: tuple[AnalysisRun, ...] = ()
    decisions: tuple[Decision, ...] = ()
    requests: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    runs: dict[str, str] = {}
    points: int = 0
    hooks: tuple[HookConfig, ...] = ()
    format: int = FORMAT

    @property
    def stable(self) -> int:
        """The number of the version that had the traffic when it began."""
        return self.stable_version.number

    @property
    def canary(self) -> int:
        """The number of the version that is to take over."""
        return self.canary_version.number

    @property
    def desired(self) -> int:
        """The version that is to have the traffic, once nobody moves it: after an abort the stable one."""
        return self.canary if self.phase == "Healthy" else self.stable

    @property
    def seconds(self) -> float:
        """From its beginning to its last decision."""
        return self.updated - self.began

    @property
    def final(self) -> bool:
        """Whether it is decided: nothing but cleaning up can follow."""
        return self.phase in ("Healthy", "Degraded", "Concluded")

    @property
    def settled(self) -> bool:
        """Whether it is decided and all its actions are acknowledged."""
        return self.final and not self.actions

    @property
    def waiting(self) -> bool:
        """Whether it waits for a person."""
        return self.phase == "Paused" and self.paused_for != "time"

    @property
    def current(self) -> PlanStep | None:
        """The step that it is at; None before the first and after the last."""
        return self.plan.steps[self.step] if 0 <= self.step < len(self.plan.steps) else None

    @property
    def place(self) -> str:
        """Where it stands, in words: ``Progressing, 10 %, step 2 of 5``."""
        return f"{self.phase}, {self.weight} %, step {max(0, self.step) + 1} of {len(self.plan.steps)}"

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        raw: dict[str, Any] = msgspec.to_builtins(self, str_keys=True)
        return raw

    @classmethod
    def from_json(cls, raw: Any) -> RolloutState:
        """Return the state that ``to_json`` wrote, or format 1 of it. Raises ``ServiceError`` for anything else."""
        found = raw.get("format") if isinstance(raw, dict) else None
        if found not in READABLE:
            readable = " and ".join(map(str, READABLE))
            raise ServiceError(f"a rollout's state has format {found!r}; this version of Rayline reads {readable}.")
        try:
            return msgspec.convert({**raw, "format": FORMAT}, cls, str_keys=True)
        except msgspec.ValidationError as error:
            raise ServiceError(f"a rollout's state is damaged: {error}.") from error
