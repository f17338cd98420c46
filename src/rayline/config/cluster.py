"""``cluster``: who yields to whom, and on which nodes work runs."""

from __future__ import annotations

from typing import Literal

from rayline.config.section import NonNegative, Section

Labels = dict[str, str]


class ClusterConfig(Section, frozen=True, kw_only=True):
    """How a project shares a cluster.

    Attributes:
        reserve_cpus: CPUs that Studies and training workers leave free for the service; None means what the service may
            grow to (``service.autoscaling.max_replicas``) beyond what it has, and nothing where it does not scale.
        priority: of training and trials on a node that others work on: ``low`` lets the operating system serve replicas
            first; ``normal``.
        train_on: labels that a node must carry to run training workers and trials (Ray's label selector).
        serve_on: labels that a node must carry to run replicas.
        remote_on: labels that a node must carry to run versions that are placed ``remote``; None means ``serve_on``.
        gcs_storage: where a local head keeps the cluster's state: ``memory``, or ``rocksdb`` to survive its own death.
    """

    reserve_cpus: NonNegative | None = None
    priority: Literal["low", "normal"] = "low"
    train_on: Labels = {}
    serve_on: Labels = {}
    remote_on: Labels | None = None
    gcs_storage: Literal["memory", "rocksdb"] = "memory"
