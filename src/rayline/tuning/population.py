"""The plan of population-based training (Jaderberg et al. 2017): trials side by side, the worst learn from the best.

All members train ``tune.grace_epochs`` epochs, pause, and are compared. Each of the worst quarter then goes on from the
checkpoint of one of the best quarter, with parameters that are changed a little; and so on to the last epoch. A
generation waits for its slowest member: what follows is decided by what was measured and by the seed, never by who was
first, so that a killed Study resumes to the same end.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayline import storage
from rayline.config import Config, TuneConfig
from rayline.errors import ConfigError, RaylineError
from rayline.model import family_of
from rayline.training.spec import EpochReport
from rayline.tuning.inherit import inherit
from rayline.tuning.job_maker import JobMaker
from rayline.tuning.jobs import Job, Outcome
from rayline.tuning.ledger import Event, Ledger, Trial, as_json, ended_of, seconds_of, trial_of
from rayline.tuning.limits import Limits, Stopwatch
from rayline.tuning.perturb import Move, moves_of

if TYPE_CHECKING:
    from rayline.tuning.samplers import Suggester

PAUSED, MOVED, GENERATION = "paused", "moved", "generation"


@dataclass
class Population:
    """Trains the members of a population by generations; see ``rayline.tuning.jobs.Plan``.

    Attributes:
        epochs: that a member trains in all.
        metric: by which members are compared, and ``limits.sign`` its direction.
        hand_over: gives one training's checkpoints to another.
        on_trial: hears each member that has come to its end, those of earlier attempts too.
        ended_by: why it ended; None while it goes on.
    """

    tune: TuneConfig
    suggester: Suggester
    jobs: JobMaker
    ledger: Ledger
    limits: Limits
    epochs: int
    metric: str
    on_trial: Callable[[Trial], None] = lambda trial: None
    hand_over: Callable[[Path, Path], None] = inherit
    ended_by: str | None = field(default=None, init=False)
    _params: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)
    _moves: dict[int, tuple[tuple[int, int], ...]] = field(default_factory=dict, init=False)
    _paused: dict[int, Trial] = field(default_factory=dict, init=False)
    _ended: dict[int, Trial] = field(default_factory=dict, init=False)
    _running: set[int] = field(default_factory=set, init=False)
    _waiting: deque[int] = field(default_factory=deque, init=False)
    _generation: int = field(default=0, init=False)
    _planned: list[Move] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        past = self.ledger.past
        self._watch = Stopwatch(seconds_of(past))
        for event in past:
            self._replay(event)
        size = min(self.limits.trials, self.suggester.size or self.limits.trials)
        for _ in range(size - len(self._params)):
            number, params = self.suggester.ask()
            self._params[number] = params
            self.ledger.suggested(number, params)
            storage.forget(self.jobs.folder_of(number))
            shutil.rmtree(self.jobs.folder_of(number), ignore_errors=True)  # of a member that the ledger lost
        for trial in ended_of(past):
            self.on_trial(trial)
        if self._planned:
            self._go_on(self._planned)
        self._waiting.extend(sorted(set(self._params) - set(self._ended) - set(self._paused)))
        self._advance()

    @property
    def done(self) -> bool:
        """Whether every member has come to its end."""
        return len(self._ended) == len(self._params)

    @property
    def waiting(self) -> int:
        """How many members could train now."""
        return len(self._waiting)

    def next(self) -> Job | None:
        """Return the next epochs of a member that has not come to the end of the generation."""
        while self._waiting:
            number = self._waiting.popleft()
            self._running.add(number)
            try:
                return self.jobs.job(number, self._params[number], self._until)
            except RaylineError as error:
                self.ended(number, Outcome("failed", {}, (), None, str(error)))
        return None

    def reported(self, number: int, reports: Sequence[EpochReport], asks: bool) -> bool:
        """Let every member train to the end of its generation."""
        return True

    def ended(self, number: int, outcome: Outcome) -> None:
        """Keep how a member came through its generation; the last one brings the next."""
        self._running.discard(number)
        member = Trial(
            number=number,
            params=self._params[number],
            metrics=outcome.metrics,
            history=outcome.history,
            status="failed" if outcome.status == "failed" else "finished",
            checkpoint=outcome.checkpoint,
            error=outcome.error,
            moves=self._moves.get(number, ()),
        )
        if outcome.status == "paused":
            self.ledger.happened(PAUSED, number, **as_json(member))
            self._paused[number] = member
        else:
            self._end(member)
        self._advance()

    @property
    def _until(self) -> int:
        return min((self._generation + 1) * self.tune.grace_epochs, self.epochs)

    def _advance(self) -> None:
        """Begin the next generation where this one is over."""
        if self._running or self._waiting or not self._paused:
            return
        members = [*self._ended.values(), *self._paused.values()]
        values = [member.metrics.get(self.metric) for member in members]
        self.ended_by = self.limits.reached(values, self._watch.seconds())
        if self.ended_by is not None:
            for member in sorted(self._paused.values(), key=lambda each: each.number):
                self._end(replace(member, status="stopped"))
            self._paused.clear()
            return
        last = {number: member.history[-1].metrics[self.metric] for number, member in self._paused.items()}
        params = {number: self._params[number] for number in self._paused}
        seeds = (self.tune.seed, self._generation)
        moves = moves_of(last, params, self.tune.space, self.limits.sign, seeds)
        self.ledger.happened(MOVED, -1, moves=[[move.number, move.source, move.params] for move in moves])
        self._waiting.extend(sorted(self._paused))
        self._go_on(moves)

    def _go_on(self, moves: Sequence[Move]) -> None:
        """Give each member that moves its new checkpoint; only then is the generation written down as begun."""
        for move in moves:
            self.hand_over(self.jobs.folder_of(move.source), self.jobs.folder_of(move.number))
        self.ledger.happened(GENERATION, -1)
        self._begin(moves)

    def _begin(self, moves: Sequence[Move]) -> None:
        epoch = self._until
        for move in moves:
            before = self._moves.get(move.source, ())
            self._params[move.number] = dict(move.params)
            self._moves[move.number] = (*before, (epoch, move.source))
        self._generation += 1
        self._paused.clear()

    def _end(self, member: Trial) -> None:
        self._ended[member.number] = member
        self.ledger.ended(member)
        self.on_trial(member)
        if self.ended_by is None and self.done:
            self.ended_by = f"all {self.limits.trials} trials are done"

    def _replay(self, event: Event) -> None:
        number, values = event.number, event.values
        if event.kind == "suggested":
            at, params = self.suggester.ask(values["params"])
            self._params[at] = params
        elif event.kind == PAUSED:
            self._paused[number] = trial_of(event)
        elif event.kind == "ended":
            self._paused.pop(number, None)
            self._ended[number] = trial_of(event)
        elif event.kind == MOVED:
            self._planned = [Move(*move) for move in values["moves"]]
        elif event.kind == GENERATION:
            self._begin(self._planned)
            self._planned = []


def check_movable(config: Config) -> None:
    """Refuse a space that a population cannot search: a member goes on with other parameters and the same weights.

    Raises:
        ConfigError: a key decides what a checkpoint looks like, is conditional, or the model cannot go on.
    """
    assert config.tune is not None
    family = family_of(config.model.builder)
    if family == "sklearn":
        raise ConfigError(
            f"tune.scheduler 'pbt' needs a model whose training goes on with other parameters, and "
            f"'{config.model.builder}' starts over. Choose another scheduler."
        )
    for key, space in config.tune.space.items():
        if key not in MOVABLE and not (family == "xgboost" and key.startswith("model.options.")):
            raise ConfigError(
                f"tune.scheduler 'pbt' cannot search '{key}': it may not change in the middle of a training. "
                f"It can search: {', '.join(sorted(MOVABLE))}."
            )
        if space.when:
            raise ConfigError(f"tune.scheduler 'pbt' cannot search '{key}' with a 'when'. Choose another scheduler.")


MOVABLE = frozenset(
    {
        "model.dropout",
        "train.accumulate",
        "train.batch_size",
        "train.clip_norm",
        "train.learning_rate",
        "train.momentum",
        "train.weight_decay",
    }
)
"""Keys that may change in the middle of a training, with the same weights and the same optimizer."""
