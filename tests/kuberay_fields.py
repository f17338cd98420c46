"""The fields of KubeRay's resources that may be set here, from its API reference (ray.io/v1); pods apart."""

from __future__ import annotations

from typing import Any

TEXT, WHOLE, NUMBER, TRUTH = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY_OBJECT = {"type": "object"}


def fields(given: dict[str, Any], *needed: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": given, "required": list(needed)}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


AUTOSCALER = fields(
    {
        "version": one_of("v1", "v2"),
        "idleTimeoutSeconds": {"type": "integer", "minimum": 0},
        "upscalingMode": one_of("Default", "Aggressive", "Conservative"),
        "resources": ANY_OBJECT,
        "image": TEXT,
        "imagePullPolicy": TEXT,
        "env": {"type": "array"},
    }
)
GROUP = {"rayStartParams": TEXTS, "template": ANY_OBJECT, "labels": TEXTS, "resources": TEXTS}
HEAD = fields(
    {**GROUP, "serviceType": one_of("ClusterIP", "NodePort", "LoadBalancer"), "enableIngress": TRUTH}, "template"
)
WORKERS = fields(
    {
        **GROUP,
        "groupName": TEXT,
        "replicas": WHOLE,
        "minReplicas": {"type": "integer", "minimum": 0},
        "maxReplicas": {"type": "integer", "minimum": 0},
        "idleTimeoutSeconds": WHOLE,
        "numOfHosts": WHOLE,
        "suspend": TRUTH,
    },
    "groupName",
    "minReplicas",
    "maxReplicas",
    "template",
)
CLUSTER = fields(
    {
        "rayVersion": TEXT,
        "enableInTreeAutoscaling": TRUTH,
        "autoscalerOptions": AUTOSCALER,
        "authOptions": fields({"mode": one_of("token", "disabled"), "secretName": TEXT}),
        "headGroupSpec": HEAD,
        "workerGroupSpecs": {"type": "array", "items": WORKERS},
        "suspend": TRUTH,
        "gcsFaultToleranceOptions": ANY_OBJECT,
        "headServiceAnnotations": TEXTS,
    },
    "headGroupSpec",
)
JOB = fields(
    {
        "entrypoint": TEXT,
        "clusterSelector": TEXTS,
        "rayClusterSpec": CLUSTER,
        "entrypointNumCpus": NUMBER,
        "entrypointNumGpus": NUMBER,
        "entrypointResources": TEXT,
        "runtimeEnvYAML": TEXT,
        "submissionMode": one_of("K8sJobMode", "HTTPMode", "InteractiveMode"),
        "backoffLimit": {"type": "integer", "minimum": 0},
        "ttlSecondsAfterFinished": WHOLE,
        "activeDeadlineSeconds": {"type": "integer", "minimum": 1},
        "shutdownAfterJobFinishes": TRUTH,
        "suspend": TRUTH,
        "jobId": TEXT,
        "metadata": ANY_OBJECT,
        "submitterPodTemplate": ANY_OBJECT,
        "submitterConfig": fields({"backoffLimit": WHOLE}),
    },
    "entrypoint",
)
SERVICE = fields(
    {
        "serveConfigV2": TEXT,
        "rayClusterConfig": CLUSTER,
        "upgradeStrategy": fields({"type": one_of("NewCluster", "None")}, "type"),
        "serveService": ANY_OBJECT,
        "excludeHeadPodFromServeSvc": TRUTH,
    },
    "serveConfigV2",
    "rayClusterConfig",
)


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return fields(
        {"apiVersion": one_of("ray.io/v1"), "kind": one_of(kind), "metadata": ANY_OBJECT, "spec": spec},
        "apiVersion",
        "kind",
        "metadata",
        "spec",
    )


SCHEMAS = {
    "RayCluster": resource("RayCluster", CLUSTER),
    "RayJob": resource("RayJob", JOB),
    "RayService": resource("RayService", SERVICE),
}
