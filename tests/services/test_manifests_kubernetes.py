"""``kuberay/``: Kubernetes' own schemas, Ray's reader of a RayCluster, the documented fields, and Serve's schema."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from cluster_files import CHANGE_ME, document, documents
from kuberay_fields import SCHEMAS
from rayline.config import load

kubernetes_validate = pytest.importorskip("kubernetes_validate")

VERSION = "1.34"
CLUSTERS = {"raycluster.yaml": (), "rayservice.yaml": ("rayClusterConfig",)}


def checked(resource: dict[str, Any]) -> None:
    kubernetes_validate.validate(resource, VERSION, strict=True)


def custom(path: str) -> dict[str, Any]:
    return next(each for each in documents(f"kuberay/{path}") if each["apiVersion"] == "ray.io/v1")


def cluster_spec(path: str) -> dict[str, Any]:
    spec: dict[str, Any] = custom(path)["spec"]
    for key in CLUSTERS[path]:
        spec = spec[key]
    return spec


def shared(kind: str, name: str) -> dict[str, Any]:
    return next(
        each for each in documents("kuberay/rayline.yaml") if (each["kind"], each["metadata"]["name"]) == (kind, name)
    )


def filled_in(text: str) -> str:
    """A text as a user leaves it."""
    return text.replace(CHANGE_ME, "churn")


@pytest.mark.parametrize("path", ["rayline.yaml", "raycluster.yaml", "rayservice.yaml", "rayjob.yaml"])
def test_kubernetes_takes_every_resource_of_its_own(path: str) -> None:
    for resource in documents(f"kuberay/{path}"):
        if not resource["apiVersion"].startswith("ray.io/"):
            checked(resource)


@pytest.mark.parametrize("path", CLUSTERS)
def test_kubernetes_takes_every_pod(path: str) -> None:
    spec = cluster_spec(path)
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        checked({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": group["template"]})
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        mounts = {each["name"] for container in pod["containers"] for each in container["volumeMounts"]}
        assert mounts <= {each["name"] for each in pod["volumes"]}


@pytest.mark.parametrize(
    ("path", "kind"), [("raycluster.yaml", "RayCluster"), ("rayservice.yaml", "RayService"), ("rayjob.yaml", "RayJob")]
)
def test_only_documented_fields_are_used(path: str, kind: str) -> None:
    resource = custom(path)
    assert resource["kind"] == kind
    jsonschema.validate(resource, SCHEMAS[kind])
    resource["spec"]["rayClusterSpeck"] = {}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(resource, SCHEMAS[kind])


@pytest.mark.parametrize("path", CLUSTERS)
def test_rays_autoscaler_reads_the_groups(path: str) -> None:
    resource = {"metadata": {"name": "rayline", "namespace": "default"}, "spec": cluster_spec(path)}
    found = _derive_autoscaling_config_from_ray_cr(resource)
    groups = {
        name: (group["min_workers"], group["max_workers"], group["resources"].get("CPU"), group["resources"].get("GPU"))
        for name, group in found["available_node_types"].items()
    }
    assert groups == {
        "headgroup": (0, 0, 0, None),
        "serve": (1, 8, 4, None),
        "train-cpu": (0, 10, 16, None),
        "train-gpu": (0, 4, 8, 1),
    }
    roles = {name: group["labels"]["rayline-role"] for name, group in found["available_node_types"].items()}
    assert set(roles.values()) == {"head", "serve", "train"}
    assert found["idle_timeout_minutes"] == 5


@pytest.mark.parametrize("path", CLUSTERS)
def test_tokens_and_versions(path: str) -> None:
    import ray

    spec = cluster_spec(path)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["rayVersion"] == ray.__version__


def test_serve_takes_the_service(tmp_path: Path) -> None:
    from ray.serve.schema import ServeDeploySchema  # warns of its own code where nothing silences it

    raw = yaml.safe_load(filled_in(custom("rayservice.yaml")["spec"]["serveConfigV2"]))
    schema = ServeDeploySchema.model_validate(raw)
    application = schema.applications[0]
    assert application.import_path == "rayline.declared:service"
    project = tmp_path / "rayline.yaml"
    project.write_text(filled_in(shared("ConfigMap", "rayline-project")["data"]["rayline.yaml"]))
    config = load(project)
    assert (application.name, application.route_prefix) == (config.name, f"/{config.name}")
    assert (schema.http_options.host, schema.http_options.port) == (config.service.host, config.service.port)
    assert application.args == {"config": "/etc/rayline/rayline.yaml"}


def test_the_project_of_the_config_map_fits_the_cluster(tmp_path: Path) -> None:
    project = tmp_path / "rayline.yaml"
    project.write_text(filled_in(shared("ConfigMap", "rayline-project")["data"]["rayline.yaml"]))
    config = load(project)
    server = shared("Service", "rayline-mlflow")
    assert config.registry.tracking_uri == f"http://{server['metadata']['name']}:{server['spec']['ports'][0]['port']}"
    groups = cluster_spec("raycluster.yaml")["workerGroupSpecs"]
    for wanted in (config.cluster.train_on, config.cluster.serve_on):
        assert any(wanted.items() <= group["labels"].items() for group in groups), wanted
    folder = str(config.service.access.token_file).rpartition("/")[0]
    pod = cluster_spec("raycluster.yaml")["headGroupSpec"]["template"]["spec"]
    assert {"name": "tokens", "mountPath": folder, "readOnly": True} in pod["containers"][0]["volumeMounts"]
    copied = pod["initContainers"][0]["command"]
    assert copied[:3] == ["install", "-m", "600"]
    assert set(copied[3:5]) == {f"/secret/{key}" for key in shared("Secret", "rayline-tokens")["stringData"]}


def test_the_job_runs_on_the_cluster_and_is_not_tried_again() -> None:
    job = document("kuberay/rayjob.yaml")["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": custom("raycluster.yaml")["metadata"]["name"]}
    assert job["backoffLimit"] == 0
    mounts = cluster_spec("raycluster.yaml")["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert job["entrypoint"].split()[-1] in {each["mountPath"] for each in mounts}


def test_the_merged_keys_are_plain_yaml() -> None:
    for path in CLUSTERS:
        again = yaml.safe_load(io.StringIO(yaml.safe_dump(custom(path))))
        assert again == custom(path)
