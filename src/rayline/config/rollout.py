"""``rollout``: how a new version takes over from the stable one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from rayline.config.analysis import AnalysisConfig, BackgroundConfig
from rayline.config.duration import Duration, Wait, as_seconds
from rayline.config.hooks import HookConfig
from rayline.config.section import NonNegative, Percent, Positive, Section, Share
from rayline.config.service import Placement

Strategy = Literal["all_at_once", "blue_green", "canary", "linear", "shadow", "experiment"]


class PauseConfig(Section, frozen=True, kw_only=True):
    """A pause of ``duration``; without one, until ``promote``."""

    duration: Duration | None = None

    def __post_init__(self) -> None:
        as_seconds(self, "duration")


class MirrorConfig(Section, frozen=True, kw_only=True):
    """The share of the requests that the canary gets copies of, in percent; 0 ends it. Its answers are dropped."""

    percent: Percent = 100


class RouteConfig(Section, frozen=True, kw_only=True):
    """Requests whose ``header`` is exactly ``value`` go to the canary, whatever the weights say."""

    header: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]+$")]
    value: Annotated[str, Meta(min_length=1)] = "canary"


class BakeConfig(Section, frozen=True, kw_only=True):
    """With all traffic on the canary, ``duration`` in which the old version stays loaded, to return to at once.

    ``analysis`` watches meanwhile, with limits on the canary itself: there is no traffic to compare with.
    """

    duration: Duration
    analysis: AnalysisConfig | None = None

    def __post_init__(self) -> None:
        as_seconds(self, "duration")


class Step(Section, frozen=True, kw_only=True):
    """One step of a plan: exactly one key is set.

    ``pause`` takes a duration, ``{duration: 5m}``, or ``{}`` or ``true`` to wait for ``promote``. ``set_mirror`` takes
    a percent or ``{percent: 100}``; 0 ends it. ``set_header_route: null`` ends the route. ``bake`` takes a duration.
    """

    set_weight: Percent | None = None
    pause: NonNegative | bool | Wait | PauseConfig | None = None
    analysis: AnalysisConfig | bool | None = None
    set_mirror: MirrorConfig | Percent | None = None
    set_header_route: RouteConfig | UnsetType | None = UNSET
    bake: NonNegative | Wait | BakeConfig | None = None

    def __post_init__(self) -> None:
        keys = ("set_weight", "pause", "analysis", "set_mirror", "bake")
        given = [key for key in keys if getattr(self, key) is not None]
        if len(given) + (self.set_header_route is not UNSET) != 1:
            raise ValueError(f"a step needs exactly one of {', '.join((*keys, 'set_header_route'))}")
        if self.pause is False or self.analysis is False:
            raise ValueError("'false' means nothing here: leave the step out")
        for key in ("pause", "bake"):
            if isinstance(getattr(self, key), str):
                as_seconds(self, key)


class BlueGreenConfig(Section, frozen=True, kw_only=True):
    """Two versions side by side: all traffic moves at once, after a look at the new one under its preview address.

    Requests with the ``preview`` header reach the new version before anybody else does. ``pre_promotion`` judges it on
    copies of all requests. ``auto_promotion`` is true, a duration to wait before, or false to wait for ``promote``.
    The old version stays loaded for ``scale_down_delay``; ``post_promotion`` watches meanwhile.
    """

    preview: RouteConfig = RouteConfig(header="x-rayline-preview", value="true")
    pre_promotion: AnalysisConfig | None = None
    auto_promotion: bool | NonNegative | Wait = False
    scale_down_delay: Duration = 30.0
    post_promotion: AnalysisConfig | None = None

    def __post_init__(self) -> None:
        as_seconds(self, "scale_down_delay")
        if isinstance(self.auto_promotion, str):
            as_seconds(self, "auto_promotion")


class LinearConfig(Section, frozen=True, kw_only=True):
    """``step_weight`` percent more every ``interval``; with ``analysis`` each step is judged before the next."""

    step_weight: Annotated[int, Meta(ge=1, le=99)] = 10
    interval: Duration = 60.0
    analysis: bool = False

    def __post_init__(self) -> None:
        as_seconds(self, "interval")


class ShadowConfig(Section, frozen=True, kw_only=True):
    """Copies of ``percent`` of the requests go to the new version, and what it says is compared row by row.

    It ends there, with no traffic moved, unless ``promote`` is true.
    """

    percent: Annotated[int, Meta(ge=1, le=100)] = 100
    promote: bool = False


class ExperimentConfig(Section, frozen=True, kw_only=True):
    """A question with an answer: is the new version better at ``measure``, by feedback?

    Both versions answer, the new one ``weight`` percent of the requests, until a confidence sequence that holds at all
    times together with ``confidence`` leaves out zero, or lies within ``minimum_effect`` of it, or ``max_samples`` rows
    of feedback or ``max_duration`` are reached. It may be looked at as often as one likes. ``minimum_samples`` are
    needed in each arm first. A winner takes over with ``winner: promote``, and is only told with ``report``.
    """

    measure: Literal["accuracy", "mean_absolute_error"]
    minimum_effect: NonNegative = 0.0
    confidence: Share = 0.95
    weight: Annotated[int, Meta(ge=1, le=99)] = 50
    interval: Duration = 10.0
    minimum_samples: Positive = 100
    max_samples: Positive = 100_000
    max_duration: Duration = 7 * 86_400.0
    winner: Literal["promote", "report"] = "report"

    def __post_init__(self) -> None:
        as_seconds(self, "interval", above_zero=True)
        as_seconds(self, "max_duration", above_zero=True)


class RolloutConfig(Section, frozen=True, kw_only=True):
    """How a new version takes over. ``analysis: true`` in a step uses the ``analysis`` given here.

    A strategy's own settings stand under its name. ``bake`` is the time after 100 % in which the old version stays
    loaded. ``placement`` is the canary's while it is tried; it gets the stable version's once it has taken over.
    Nothing may stand still for longer than ``progress_deadline``, or the canary goes back. By chance alone, a canary
    as good as its limits is taken back in at most ``1 - confidence`` of rollouts. Going back to one of the last
    ``rollback_window`` stable versions skips the steps. ``hooks`` are told of what happens.
    """

    strategy: Strategy = "canary"
    steps: tuple[Step, ...] = ()
    analysis: AnalysisConfig | None = None
    background_analysis: BackgroundConfig | None = None
    blue_green: BlueGreenConfig | None = None
    linear: LinearConfig | None = None
    shadow: ShadowConfig | None = None
    experiment: ExperimentConfig | None = None
    bake: Duration = 0.0
    placement: Placement | None = None
    progress_deadline: Duration = 600.0
    confidence: Share = 0.95
    rollback_window: Annotated[int, Meta(ge=0)] = 3
    hooks: tuple[HookConfig, ...] = ()

    def __post_init__(self) -> None:
        as_seconds(self, "bake")
        as_seconds(self, "progress_deadline", above_zero=True)
