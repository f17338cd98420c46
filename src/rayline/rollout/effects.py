"""What an action of a rollout does to a service. Each may be done twice, and is when a crash hides that it was done."""

from __future__ import annotations

from rayline.rollout.failpoints import reach
from rayline.rollout.ports import ServicePort
from rayline.rollout.state import Action, Load, Place, SetMirror, SetRoutes, SetWeights, Unload


def perform(action: Action, service: ServicePort) -> None:
    """Do one action; return once every replica follows.

    Raises:
        StaleController: another controller has taken over.
        ServiceError: the service did not do as asked, which may pass.
        UsageError, BundleError: trying again cannot help.
    """
    name = NAMES[type(action)]
    reach(f"{name}.before")
    match action:
        case Load(version=version):
            service.load(version)
        case SetWeights(stable=stable, weights=weights):
            service.set_weights(stable=stable, weights=weights)
        case SetMirror(mirror=mirror):
            service.set_mirror(mirror)
        case SetRoutes(routes=routes):
            service.set_routes(routes)
        case Place(number=number, placement=placement):
            service.place(number, placement)
        case Unload(number=number):
            service.unload(number)
    reach(f"{name}.after")


NAMES: dict[type[Action], str] = {
    Load: "load",
    SetWeights: "set_weights",
    SetMirror: "set_mirror",
    SetRoutes: "set_routes",
    Place: "place",
    Unload: "unload",
}
