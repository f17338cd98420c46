"""``rollout.hooks``: who is told of what a rollout does."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rayline.config.section import Section


class HookConfig(Section, frozen=True, kw_only=True):
    """Somebody who is told what a rollout does; exactly one of ``webhook`` and ``function`` is set.

    ``on`` names the events: ``step`` (a step begins), ``pause``, ``abort`` (traffic goes back, for whatever reason) and
    ``completion`` (the canary has all traffic, or what
    was only to be asked has its answer). ``webhook`` is an http or https address that gets a POST of JSON.
    ``function`` is ``module:name``, importable where the controller runs, and is called with the same mapping.
    ``timeout`` is in seconds. A hook that fails is reported, and never moves traffic.
    """

    on: Annotated[tuple[Literal["step", "pause", "abort", "completion"], ...], Meta(min_length=1)]
    webhook: Annotated[str, Meta(pattern=r"^https?://\S+$")] | None = None
    function: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    timeout: Annotated[float, Meta(gt=0, le=60)] = 5.0

    def __post_init__(self) -> None:
        if (self.webhook is None) == (self.function is None):
            raise ValueError("a hook needs exactly one of 'webhook' and 'function'")
