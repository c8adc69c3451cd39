"""The files of cluster/, as far as they can be checked without a container engine or Kubernetes."""

import json
import re
from pathlib import Path

import compose_spec
import kubernetes_validate
import pytest
import ray
import yaml
from ray.serve.schema import DeploymentSchema, ServeDeploySchema

from deployments.app import build_with
from deployments.fusion_decoder import HEALTH_TIMEOUT_S
from deployments.names import NAMES
from mmrag.config import AppConfig
from mmrag.config_file import read_config, read_options

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERNETES = "1.31"
SERVE_CONFIGS = [ROOT / "serve_config.yaml", CLUSTER / "serve_config.compose.yaml", CLUSTER / "serve_config.gpu.yaml"]
OTHERS_VARIABLES = r"(ELASTIC|REDIS|GRAFANA)_PASSWORD|REDISCLI_AUTH|GF_\w+|ES_JAVA_OPTS|RAY_AUTH_TOKEN"


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((CLUSTER / "docker-compose.yml").read_text())


@pytest.fixture(scope="module")
def kubernetes() -> list[dict]:
    return list(yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text()))


@pytest.fixture(scope="module")
def ray_cluster(kubernetes) -> dict:
    return kubernetes[0]["spec"]["rayClusterConfig"]


@pytest.fixture(scope="module")
def sources() -> str:
    """All code that could read a setting: ours, and Ray's."""
    folders = [ROOT / "mmrag", ROOT / "deployments", Path(ray.__file__).parent / "serve"]
    return "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))


def groups_of(ray_cluster: dict) -> list[dict]:
    return [ray_cluster["headGroupSpec"], *ray_cluster["workerGroupSpecs"]]


def container_of(group: dict) -> dict:
    [container] = group["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("path", SERVE_CONFIGS, ids=lambda path: path.name)
def test_ray_serve_and_the_application_take_each_configuration(path):
    written = yaml.safe_load(path.read_text())
    parsed = ServeDeploySchema.model_validate(written)
    assert [application.import_path for application in parsed.applications] == ["deployments.app:build"]
    assert unknown_keys(written["applications"][0]["deployments"]) == set()
    names = [deployment.name for deployment in parsed.applications[0].deployments]
    assert sorted(names) == sorted(NAMES)
    assert isinstance(read_config(path), AppConfig)
    build_with(read_config(path), read_options(path))


def unknown_keys(entries: list[dict]) -> set[str]:
    return {key for entry in entries for key in entry} - set(DeploymentSchema.model_fields)


def test_the_shared_decoder_has_a_gpu_for_each_of_its_ranks():
    config, options = read_config(SERVE_CONFIGS[2]), read_options(SERVE_CONFIGS[2])["FusionDecoder"]
    bundles = options["placement_group_bundles"]
    assert len(bundles) == config.decoder.tensor_parallel_size > 1
    assert all(bundle["GPU"] == 1 for bundle in bundles)
    assert config.decoder.device == config.text_encoder.device == config.image_encoder.device == "cuda"
    assert not any("num_replicas" in entry for entry in read_options(SERVE_CONFIGS[2]).values())


def test_the_shared_decoder_has_time_for_its_own_check_before_it_is_replaced():
    assert read_options(SERVE_CONFIGS[2])["FusionDecoder"]["health_check_timeout_s"] > HEALTH_TIMEOUT_S


def test_the_compose_file_follows_the_specification(compose):
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose))  # merges undone
    parsed.validate()
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (CLUSTER / source).exists() if source.startswith(".") else source in compose["volumes"]
    seeds = services["elasticsearch-1"]["environment"]["discovery.seed_hosts"].split(",")
    assert seeds == [name for name in services if name.startswith("elasticsearch")] and len(seeds) == 3
    assert {"ray-head", "ray-worker", "redis", "prometheus", "grafana"} <= set(services)


def test_nothing_but_the_service_and_its_pages_is_open_to_the_machine(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:3000:3000", "127.0.0.1:8000:8000", "127.0.0.1:8265:8265"]


def test_no_secret_is_written_down_and_none_has_a_default(compose):
    text = (CLUSTER / "docker-compose.yml").read_text()
    examples = dict(line.split("=", 1) for line in (CLUSTER / ".env.example").read_text().splitlines() if "=" in line)
    assert set(re.findall(r"\$\{(\w+)", text)) == set(examples)
    assert len(re.findall(r"\$\{\w+:\?", text)) == text.count("${")
    assert all("change-me" in value for value in examples.values())


def test_images_are_pinned(compose, kubernetes):
    stages = re.findall(r"^FROM (\S+)", (CLUSTER / "Dockerfile").read_text(), re.M)
    images = [service["image"] for service in compose["services"].values()]
    images += re.findall(r"image: (\S+)", (CLUSTER / "kuberay.yaml").read_text())
    for image in {*stages, *images}:
        assert re.fullmatch(r"[a-z][a-z/]*:v?\d+\.\d+\.\d+(-[a-z-]+)?", image), image
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)[1]
    assert {image for image in images if image.startswith("mmrag")} == {f"mmrag:{version}"}


def test_the_image_is_not_run_by_root_and_copies_what_is_there():
    text = (CLUSTER / "Dockerfile").read_text()
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "mmrag"
    assert text.index("USER mmrag") < text.index("ENTRYPOINT")
    for line in re.findall(r"^COPY (?!--from)(.*)", text, re.M):
        *copied, _ = [part for part in line.split() if not part.startswith("--")]
        assert all((ROOT / path).exists() for path in copied), line
    allowed = (CLUSTER / "Dockerfile.dockerignore").read_text()
    assert "\n*\n" in allowed and "!.git" not in allowed and "!.env" not in allowed


def test_every_kubernetes_object_is_valid(kubernetes, ray_cluster):
    service, *objects = kubernetes
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    for one in objects:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)
    for group in groups_of(ray_cluster):
        pod = {"metadata": {"name": "pod"} | group["template"].get("metadata", {}), "spec": group["template"]["spec"]}
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod"} | pod, KUBERNETES, strict=True)
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert not container_of(group)["securityContext"]["allowPrivilegeEscalation"]


def test_what_an_object_names_exists(kubernetes, ray_cluster):
    named = {(one["kind"], one["metadata"]["name"]) for one in kubernetes}
    generated = yaml.safe_load((CLUSTER / "kustomization.yaml").read_text())
    named |= {("ConfigMap", one["name"]) for one in generated["configMapGenerator"]}
    text = (CLUSTER / "kuberay.yaml").read_text()
    for claim in re.findall(r"claimName: ([\w-]+)", text):
        assert ("PersistentVolumeClaim", claim) in named
    for name in re.findall(r"configMap: {name: ([\w-]+)", text):
        assert ("ConfigMap", name) in named
    for host in re.findall(r"redis://[^/\s]*?([\w-]+):6379", text):
        assert ("Service", host) in named
    for one in generated["configMapGenerator"]:
        assert all((CLUSTER / file).is_file() for file in one["files"])
    secrets = set(re.findall(r"secretKeyRef: {name: mmrag, key: ([\w-]+)}", text))
    assert secrets == set(re.findall(r"--from-literal=([\w-]+)=", text))


def test_the_ray_cluster_survives_its_head_and_is_of_our_version(ray_cluster):
    assert ray_cluster["rayVersion"] == ray.__version__
    assert ray_cluster["gcsFaultToleranceOptions"]["redisAddress"] == "redis://mmrag-gcs:6379"
    assert ray_cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert "noeviction" in (CLUSTER / "kuberay.yaml").read_text()


def test_kubernetes_serves_what_the_gpu_configuration_says(kubernetes):
    assert kubernetes[0]["spec"]["serveConfigV2"] == (CLUSTER / "serve_config.gpu.yaml").read_text()


def test_every_replica_fits_into_a_pod_of_its_group(ray_cluster):
    pods = [capacity(group) for group in ray_cluster["workerGroupSpecs"]]
    assert sum("GPU" in pod for pod in pods) == 3
    used = set()
    for name, options in read_options(CLUSTER / "serve_config.gpu.yaml").items():
        fitting = [i for i, pod in enumerate(pods) if fits(claim(options), pod)]
        assert len(fitting) == 1, f"{name} fits into {len(fitting)} groups"
        used.add(fitting[0])
    assert used == set(range(len(pods)))


def capacity(group: dict) -> dict[str, float]:
    requests = container_of(group)["resources"]["requests"]
    pod = {"CPU": float(requests["cpu"]), **json.loads(json.loads(group["rayStartParams"]["resources"]))}
    return pod | ({"GPU": float(requests["nvidia.com/gpu"])} if "nvidia.com/gpu" in requests else {})


def claim(options: dict) -> dict[str, float]:
    """What a replica takes of one pod: all of its bundles, for they are packed strictly."""
    if bundles := options.get("placement_group_bundles"):
        assert options["placement_group_strategy"] == "STRICT_PACK"
        return {key: sum(bundle.get(key, 0) for bundle in bundles) for key in bundles[0]}
    actor = options["ray_actor_options"]
    return {"CPU": actor["num_cpus"], "GPU": actor.get("num_gpus", 0)} | actor.get("resources", {})


def fits(claim: dict[str, float], pod: dict[str, float]) -> bool:
    return all(amount <= pod.get(name, 0) for name, amount in claim.items())


def test_every_variable_is_one_that_something_reads(compose, ray_cluster, sources):
    names = {env["name"] for group in groups_of(ray_cluster) for env in container_of(group)["env"]}
    names |= {name for service in compose["services"].values() for name in service.get("environment", {})}
    core = (Path(ray.__file__).parent / "_raylet.so").read_bytes()
    for name in names:
        if "." in name or re.fullmatch(OTHERS_VARIABLES, name):
            continue  # settings of Elasticsearch, Redis and Grafana
        known = name in sources or name.removeprefix("RAY_").encode() in core
        assert known, f"nothing reads {name}"


def test_the_dashboard_draws_what_is_exported(sources):
    dashboard = json.loads((CLUSTER / "grafana" / "mmrag.json").read_text())
    datasource = yaml.safe_load((CLUSTER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    metrics = [path.read_text() for path in (ROOT / "deployments").glob("*metrics.py")]
    ours = set(re.findall(r'meters\.\w+\("(\w+)"', "".join(metrics)))
    drawn = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"ray_(\w+)", " ".join(expressions))}
    assert {name for name in drawn if name.startswith("mmrag")} == ours
    reporter = (Path(ray.__file__).parent / "dashboard/modules/reporter/reporter_agent.py").read_text()
    assert all(name.removeprefix("node_") in reporter or name in sources for name in drawn - ours)
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {datasource["datasources"][0]["uid"]}


def test_prometheus_and_grafana_find_what_the_compose_file_starts(compose):
    [job] = yaml.safe_load((CLUSTER / "prometheus.yml").read_text())["scrape_configs"]
    [found] = job["dns_sd_configs"]
    for name in found["names"]:
        assert f"--metrics-export-port={found['port']}" in compose["services"][name]["command"]
    mounts = compose["services"]["grafana"]["volumes"]
    [provider] = yaml.safe_load((CLUSTER / "grafana/provisioning/dashboards/mmrag.yaml").read_text())["providers"]
    assert any(mount.split(":")[1].startswith(provider["options"]["path"]) for mount in mounts)


@pytest.mark.redis
def test_redis_takes_its_settings(redis):
    settings = dict(re.findall(r"^([a-z-]+) (\S+)$", (CLUSTER / "redis.conf").read_text(), re.M))
    in_force = redis.admin.config_get("*")
    for name in ("maxmemory-policy", "appendonly", "lazyfree-lazy-eviction", "lazyfree-lazy-expire", "tcp-keepalive"):
        assert in_force[name] == settings[name]
    assert int(in_force["maxmemory"]) == 2**30 and in_force["save"] == ""
