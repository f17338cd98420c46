"""All checks, in the order in which the table shows them."""

from __future__ import annotations

from rayline.doctor.cluster_check import ClusterCheck
from rayline.doctor.configuration import ConfigCheck
from rayline.doctor.gpus import GpuCheck
from rayline.doctor.haproxy import HaproxyCheck
from rayline.doctor.machine import DiskCheck, FilesCheck, MemoryCheck, PathCheck, SharedMemoryCheck
from rayline.doctor.manifests import ManifestCheck
from rayline.doctor.mlflow_check import MlflowCheck
from rayline.doctor.ports import PortCheck
from rayline.doctor.seam import Check
from rayline.doctor.storage_check import StorageCheck
from rayline.doctor.tokens import TokenCheck
from rayline.doctor.versions import VersionCheck

FAMILY: tuple[Check, ...] = (
    ConfigCheck(),
    VersionCheck(),
    PortCheck(),
    HaproxyCheck(),
    TokenCheck(),
    ClusterCheck(),
    StorageCheck(),
    MlflowCheck(),
    DiskCheck(),
    SharedMemoryCheck(),
    MemoryCheck(),
    GpuCheck(),
    FilesCheck(),
    PathCheck(),
    ManifestCheck(),
)
