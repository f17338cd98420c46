"""The pure policy with a simulated service: any order of verbs, answers, losses and clocks, and what may never happen.

No engine, no disk and no time: a step is one rule. ``tests/unit/rollout/test_rollout_policy_machine.py`` runs some of
them with every change, ``benchmarks/verdicts.py`` 100,000.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from rayline.config import RolloutConfig, parse
from rayline.errors import RolloutRefused, UsageError
from rayline.rollout.notes import SetAlias
from rayline.rollout.plans.plan import Analyse, Ask, Bake, Plan, SetWeight
from rayline.rollout.policy import verbs
from rayline.rollout.policy.moves import acknowledged, begin, failed
from rayline.rollout.policy.policy import Seen, decide, tended, wants_external, wants_observation
from rayline.rollout.state import Action, Load, Place, RolloutState, SetMirror, SetRoutes, SetWeights
from rayline.serving.records.observation import ArmStats, Observation, ShadowStats
from rayline.serving.traffic.plan import LiveVersion, TrafficPlan
from rollout_doubles import arm

SERVICE = "bikes"
RATES = {"good": 0.95, "bad": 0.2}


def section(**rollout: Any) -> RolloutConfig:
    """Return the configuration of a rollout."""
    raw = {"name": "x", "data": {"source": "x"}, "features": {"target": "x"}, "rollout": rollout}
    return parse(raw).rollout


LOOK = {
    "interval": 5,
    "count": 2,
    "inconclusive_limit": 2,
    "metrics": [
        {"measure": "error_rate", "max": 0.1, "minimum_samples": 20},
        {"measure": "accuracy", "max_decrease": 0.1, "minimum_samples": 20},
        {"measure": "prometheus", "query": "x{version='{version}'}", "max_increase": 1, "dry_run": True},
    ],
}
COPIES = {"interval": 5, "count": 2, "metrics": [{"measure": "agreement", "min": 0.5, "minimum_samples": 20}]}
BESIDE = {"interval": 4, "metrics": [{"measure": "error_rate", "max": 0.2, "minimum_samples": 20}]}
ASKED = {"measure": "accuracy", "interval": 5, "minimum_samples": 20, "max_samples": 2000, "max_duration": 100}

CONFIGS: dict[str, RolloutConfig] = {
    "all_at_once": section(strategy="all_at_once", bake=20, background_analysis=BESIDE),
    "blue_green": section(
        strategy="blue_green", blue_green={"pre_promotion": COPIES, "scale_down_delay": 30}, progress_deadline=60
    ),
    "blue_green by itself": section(
        strategy="blue_green",
        blue_green={"auto_promotion": 15, "post_promotion": {**BESIDE, "on_breach": "freeze"}},
        placement="remote",
    ),
    "canary": section(strategy="canary", analysis=LOOK, bake=10, placement="remote"),
    "canary step by step": section(
        steps=[
            {"set_header_route": {"header": "x-try", "value": "me"}},
            {"set_mirror": 50},
            {"analysis": COPIES},
            {"set_weight": 5},
            {"set_mirror": 0},
            {"pause": 7},
            {"set_weight": 20},
            {"analysis": {**LOOK, "on_breach": "step_down"}},
            {"set_header_route": None},
            {"pause": {}},
            {"set_weight": 60},
            {"analysis": {**LOOK, "on_breach": "freeze"}},
            {"set_weight": 100},
            {"bake": {"duration": 12, "analysis": BESIDE}},
        ],
        background_analysis={**BESIDE, "from_step": 4},
        progress_deadline=40,
    ),
    "linear": section(strategy="linear", linear={"step_weight": 30, "interval": 5, "analysis": True}, analysis=LOOK),
    "shadow": section(strategy="shadow", analysis=COPIES),
    "shadow that promotes": section(strategy="shadow", shadow={"promote": True}, analysis=COPIES, bake=5),
    "experiment": section(strategy="experiment", experiment=ASKED),
    "experiment that promotes": section(
        strategy="experiment", experiment={**ASKED, "winner": "promote", "minimum_effect": 0.05}, bake=5
    ),
}
PLANS = {name: Plan.from_config(config, "binary") for name, config in CONFIGS.items()}


def version(number: int) -> LiveVersion:
    """Return a version whose bundle is nowhere."""
    return LiveVersion(number, f"/bundles/{number}", f"digest-{number}")


class PolicyMachine(RuleBasedStateMachine):
    """A person, a service that may lose or refuse anything, and a clock that jumps.

    Attributes:
        steps: rules run by all machines so far, with every invariant checked after each.
        done: what they did, by kind.
        ends: rollouts that ended, by strategy and phase.
    """

    steps: ClassVar[int] = 0
    done: ClassVar[Counter[str]] = Counter()
    ends: ClassVar[Counter[tuple[str, str]]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 1e6
        self.plan = TrafficPlan.first(SERVICE, version(1))
        self.counts: dict[int, ArmStats] = {}
        self.history: list[RolloutState] = []
        self.state: RolloutState | None = None
        self.ids = itertools.count(1)
        self._begin_watching()

    def _begin_watching(self) -> None:
        self.aborted = False
        self.helped = False
        self.fed = False
        self.overtaken = False
        self.jumped = False
        self.forced = False  # a person ended the bake
        self.since = self.now  # when an action was last begun or acknowledged
        self.whole_at: float | None = None
        self.ended_in: str | None = None

    # What happens -----------------------------------------------------------------------------------------------

    @initialize(name=st.sampled_from(sorted(PLANS)))
    def first(self, name: str) -> None:
        """A first rollout begins."""
        self._start(PLANS[name], version(2), "rollout")

    @rule(name=st.sampled_from(sorted(PLANS)), number=st.integers(1, 4))
    def start(self, name: str, number: int) -> None:
        """A person starts a rollout."""
        self.done["start"] += 1
        if self._settled() and number != self.plan.stable and number not in self.plan.numbers:
            plan, _ = verbs.shortened(PLANS[name], self._history(), number, self.plan.stable)
            self._start(plan, version(number), "rollout")

    @rule(to=st.none() | st.integers(1, 4))
    def undo(self, to: int | None) -> None:
        """A person goes back to an earlier version."""
        self.done["undo"] += 1
        if self._settled():
            try:
                chosen = verbs.returning(self._history(), SERVICE, self.plan.stable, to)
            except RolloutRefused:
                return
            if chosen.number not in self.plan.numbers:
                self._start(Plan.at_once(), chosen, "undo")

    @rule()
    def retry(self) -> None:
        """A person tries again what was taken back."""
        self.done["retry"] += 1
        if self.state is not None and self._settled():
            try:
                plan, canary = verbs.retried(self.state)
            except RolloutRefused:
                return
            if canary.number not in self.plan.numbers:
                self._start(plan, canary, "rollout")

    @rule(verb=st.sampled_from(["promote", "promote in full", "pause", "resume", "abort"]))
    def ask(self, verb: str) -> None:
        """A person asks for something."""
        self.done["ask"] += 1
        before = self.state
        if before is None:
            return
        try:
            match verb:
                case "abort":
                    after = verbs.abort(before, self.now, reason="a person said so")
                    self.aborted = True
                case "promote in full":
                    after = verbs.promote(before, self.now, full=True)
                    self.helped = True
                    self.forced |= before.weight == 100
                case "promote":
                    after = verbs.promote(before, self.now)
                    self.helped = True
                    self.forced |= before.weight == 100
                case _:
                    after = getattr(verbs, verb)(before, self.now)
        except RolloutRefused:
            return
        self._become(after)

    @rule(how=st.sampled_from(["done", "done", "done", "done", "lost", "refused", "hopeless", "done twice"]))
    def act(self, how: str) -> None:
        """The controller does the next action: it works, its answer is lost, or it fails."""
        self.done["act"] += 1
        state = self.state
        if state is None or not state.actions:
            return
        action = state.actions[0]
        if how in ("done", "lost", "done twice"):
            for _ in range(2 if how == "done twice" else 1):
                self._perform(action)
        if how.startswith("done"):
            self.since = self.now
            self._become(acknowledged(state, action, self.now))
        else:
            self._become(failed(state, action, self.now, "no answer", permanent=how == "hopeless"))

    @rule(
        seconds=st.sampled_from([0.2, 5.0, 5.0, 31.0, 90.0]),
        kind=st.sampled_from(["good", "better", "bad", "none", "few", "unreadable"]),
        blind=st.sampled_from([False, False, False, True]),
    )
    def look(self, seconds: float, kind: str, blind: bool) -> None:
        """Time goes by with some traffic, and the controller looks and decides; some of it may not be readable."""
        self.done["look"] += 1
        self.now += seconds
        if self.state is None:
            return
        self._serve(kind)
        state = self.state
        observation, error = None, ""
        if wants_observation(state, self.now):
            if kind == "unreadable":
                error = "no answer"
            else:
                observation = Observation(self.now, self.plan.generation, {"replica": dict(self.counts)})
        external: dict[str, float | str] = {
            each.key: "no answer" if kind == "unreadable" else 1.0 for each in wants_external(state, self.now)
        }
        seen = Seen(None if blind else self.plan, observation, error, external)
        after = decide(state, seen, self.now)
        self._become(after)
        self._check_deadline()

    @rule(rounds=st.integers(1, 12), seconds=st.sampled_from([4.0, 11.0]), kind=st.sampled_from(["good", "better"]))
    def run(self, rounds: int, seconds: float, kind: str) -> None:
        """All goes well for a while: each action is done, the canary is fine, and time goes by."""
        for _ in range(rounds):
            while self.state is not None and self.state.actions:
                self.act("done")
            self.look(seconds, kind, blind=False)

    @rule(rounds=st.integers(1, 30), seconds=st.sampled_from([6.0, 31.0]), kind=st.sampled_from(["good", "better"]))
    def run_to_its_end(self, rounds: int, seconds: float, kind: str) -> None:
        """All goes well, and a person promotes where one is waited for."""
        for _ in range(rounds):
            self.run(1, seconds, kind)
            if self.state is not None and self.state.waiting:
                self.ask("promote")

    @rule(seconds=st.sampled_from([-86_400.0, -30.0, 30.0, 86_400.0]))
    def jump(self, seconds: float) -> None:
        """The clock is set, and the controller looks at it."""
        self.done["jump"] += 1
        self.now += seconds
        self.jumped = True
        self.since = min(self.since, self.now)
        if self.whole_at is not None:
            self.whole_at = min(self.whole_at, self.now)
        if self.state is not None:
            self._become(tended(self.state, self.now))
            self._check_deadline()

    @rule()
    def restart(self) -> None:
        """The controller is gone, and another one reads what is on disk."""
        self.done["restart"] += 1
        if self.state is not None:
            again = RolloutState.from_json(json.loads(json.dumps(self.state.to_json())))
            assert again == self.state, "what is read back is what was written"
            self.state = again

    @rule(share=st.sampled_from([None, None, 0, 40, 100]))
    def meddle(self, share: int | None) -> None:
        """Somebody else sets the weights, or makes another version stable."""
        self.done["meddle"] += 1
        state = self.state
        if share is None:
            self._take_over()
        elif state is not None and not state.final and state.canary in self.plan.numbers and state.step >= 0:
            self.plan = self.plan.weighing(state.stable, {state.stable: 100 - share, state.canary: share})

    def _take_over(self) -> None:
        state = self.state
        if (
            state is not None
            and state.step >= 2
            and not state.final
            and not state.actions
            and 7 not in self.plan.numbers
        ):
            plan = self.plan.mirroring(None).routing(()).adding(version(7)).weighing(7, {7: 100})
            for number in (state.stable, state.canary):
                plan = plan.removing(number)
            self.plan, self.overtaken = plan, True
            self._become(decide(state, Seen(plan), self.now))

    # What must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def count(self) -> None:
        """Count the step."""
        type(self).steps += 1

    @invariant()
    def weights_are_whole(self) -> None:
        """0 to 100, together 100, and only on versions that are loaded."""
        assert sum(self.plan.weights.values()) == 100
        assert all(0 <= weight <= 100 for weight in self.plan.weights.values())
        assert all(number in self.plan.numbers for number, weight in self.plan.weights.items() if weight)
        assert self.plan.stable in self.plan.numbers
        if self.state is not None:
            assert 0 <= self.state.weight <= 100
            assert 0 <= self.state.mirror <= 100
            for action in self.state.actions:
                if isinstance(action, SetWeights):
                    assert sum(action.weights.values()) == 100

    @invariant()
    def abort_wins(self) -> None:
        """After an abort nothing gives the canary traffic, whatever comes, and the stable version is desired."""
        state = self.state
        if state is None or not self.aborted:
            return
        assert state.phase == "Degraded"
        assert (state.weight, state.mirror, state.routes) == (0, 0, ())
        assert state.desired == state.stable
        for action in state.actions:
            if isinstance(action, SetWeights):
                assert action.weights == {state.stable: 100}
        if state.kind == "rollout" and not self.overtaken:
            assert verbs.taken_back(self._history(), state.canary)

    @invariant()
    def what_has_ended_stays_ended(self) -> None:
        """A final phase is final; once all is acknowledged, the traffic is where the phase says."""
        state = self.state
        if state is None or not state.final:
            return
        assert self.ended_in in (None, state.phase)
        self.ended_in = state.phase
        gave_up = any(decision.what == "gave up" for decision in state.decisions)
        if state.settled and not self.overtaken and not gave_up:
            assert {key: value for key, value in self.plan.weights.items() if value} == {state.desired: 100}
            assert self.plan.stable == state.desired
            assert (self.plan.mirror, self.plan.routes) == (None, ())
            assert state.desired in self.plan.numbers
            assert {state.stable, state.canary} - set(self.plan.numbers) == {state.stable, state.canary} - {
                state.desired
            }
            assert self.plan.version(state.desired).placement == "inline"

    @invariant()
    def missing_data_never_promotes(self) -> None:
        """Without a request of the canary, or a person, nothing gets past the first look."""
        state = self.state
        if state is None:
            return
        for run in state.analyses:
            step = state.plan.steps[run.step] if 0 <= run.step < len(state.plan.steps) else None
            if run.verdict == "Successful" and isinstance(step, Analyse | Ask):
                assert all(tally.dry_run or (tally.last and tally.last.value is not None) for tally in run.tallies)
        looks = [place for place, step in enumerate(state.plan.steps) if isinstance(step, Analyse | Ask)]
        if looks and not self.fed and not self.helped:
            before = [step.weight for step in state.plan.steps[: looks[0]] if isinstance(step, SetWeight)]
            assert state.weight <= max(before, default=0)
            assert state.phase != "Healthy"

    # How it is done ---------------------------------------------------------------------------------------------

    def _start(self, plan: Plan, canary: LiveVersion, kind: Any) -> None:
        if self.state is not None:
            self.history.insert(0, self.state)
        self._begin_watching()
        stable = self.plan.version(self.plan.stable)
        self.state = begin(
            id=f"{next(self.ids):06d}",
            kind=kind,
            plan=plan,
            service=SERVICE,
            stable=stable,
            canary=canary,
            now=self.now,
            experiment="x",
            tracking_uri=None,
        )

    def _settled(self) -> bool:
        return self.state is None or self.state.settled

    def _history(self) -> list[RolloutState]:
        return [*([self.state] if self.state is not None else []), *self.history]

    def _become(self, after: RolloutState) -> None:
        before = self.state
        assert before is not None
        if after.actions and (not before.actions or after.actions[0].id != before.actions[0].id):
            self.since = self.now
        if before.final:
            assert after.phase == before.phase
        self._check_alias(before, after)
        if after.final and not before.final:
            type(self).ends[after.plan.strategy, after.phase] += 1
        self.state = after

    def _check_alias(self, before: RolloutState, after: RolloutState) -> None:
        """The alias moves only after all traffic has, and after the bake."""
        champion = SetAlias("champion", after.canary)
        if champion not in after.notes or champion in before.notes:
            return
        assert self.plan.stable == after.canary
        assert self.plan.weights.get(after.canary) == 100
        assert after.phase == "Healthy"
        bakes = [step.seconds for step in after.plan.steps if isinstance(step, Bake)]
        if bakes and not self.forced and not self.jumped:
            assert self.whole_at is not None
            assert self.now - self.whole_at >= bakes[0] - 1e-6

    def _check_deadline(self) -> None:
        """Nothing is waited for longer than the deadline says."""
        state = self.state
        assert state is not None
        if state.actions and not state.final:
            assert self.now - self.since <= state.plan.progress_deadline

    def _perform(self, action: Action) -> None:
        state = self.state
        assert state is not None
        match action:
            case Load(version=loaded):
                self.plan = self.plan.adding(loaded)
            case SetWeights(stable=stable, weights=weights):
                for number, weight in weights.items():
                    assert not weight or number in self.plan.numbers, "no weight before a version is ready"
                self.plan = self.plan.weighing(stable, weights)
                if weights.get(state.canary) == 100 and self.whole_at is None:
                    self.whole_at = self.now
            case SetMirror(mirror=mirror):
                self.plan = self.plan.mirroring(mirror)
            case SetRoutes(routes=routes):
                self.plan = self.plan.routing(routes)
            case Place(number=number, placement=placement):
                self.plan = self.plan.placing(number, placement)
            case _:
                if not self.overtaken:
                    assert not self.plan.weights.get(action.number), "what has weight keeps its capacity"
                    assert state.final, "nothing is unloaded while it may be needed"
                try:
                    self.plan = self.plan.removing(action.number)
                except UsageError:
                    assert self.overtaken

    def _serve(self, kind: str) -> None:
        state = self.state
        assert state is not None
        if kind in ("none", "unreadable"):
            return
        for number, weight in self.plan.weights.items():
            requests = {"few": 1}.get(kind, weight * 2)
            rate = RATES["bad"] if kind == "bad" and number == state.canary else RATES["good"]
            if kind == "better" and number == state.stable:
                rate = RATES["bad"]
            self._count(number, arm(requests, feedback=requests, correct=round(requests * rate)))
            self.fed |= number == state.canary and requests > 0
        if self.plan.mirror is not None:
            rows = 2 if kind == "few" else 100
            shadow = ShadowStats(rows=rows, agreed=0 if kind == "bad" else rows)
            self._count(self.plan.mirror.number, ArmStats(shadow=shadow))
            self.fed = True

    def _count(self, number: int, more: ArmStats) -> None:
        self.counts[number] = self.counts[number].plus(more) if number in self.counts else more
