"""Renders the Helm chart with each of its options, and holds what comes out against Kubernetes.

Helm is its own library, so neither the `helm` binary nor a cluster is needed. Each case is
linted, rendered, and validated strictly for the newest versions of Kubernetes. What the chart
must refuse is refused with the right words.

    target/test-tools/checks/bin/python tests/tools/chart.py deploy/helm/clerkcast OUT

OUT receives, for each case, the configuration and the environment that the gateway would
have (`CASE.toml`, `CASE.env`), for `clerkcast config check`.
"""

import re
import sys
from pathlib import Path

# Its bytecode would stand beside the sources.
sys.dont_write_bytecode = True

import helm_python as helm
from kubernetes_validate import utils as kubernetes
import yaml

from chart_values import CASES, INGRESS, MINIMAL, NAMES, NAMES_REFUSED, PASSWORD, REFUSED

# Of the operator for Prometheus, whose kinds Kubernetes does not know.
FOREIGN_KINDS = {"ServiceMonitor", "PrometheusRule"}
# A Service's name. The schemas of Kubernetes only know that it is a text.
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
# To its name, a StatefulSet adds a hash that has to fit into a label.
STATEFUL_SET_NAME_MAX = 52
VERSIONS = list(dict.fromkeys(kubernetes.all_versions()))[-3:]


def main():
    chart_path, out = sys.argv[1], Path(sys.argv[2])
    manifests = 0
    with helm.Chart.load(chart_path) as chart:
        for name, values in CASES.items():
            objects = rendered(chart, chart_path, name, values)
            manifests += len(objects)
            hold(name, values, objects)
            write_for_the_gateway(out, name, objects)
        for release, values, name in NAMES:
            objects = objects_of(chart.render({**MINIMAL, **values}, name=release, namespace="prod"))
            names = {each["metadata"]["name"] for each in objects.values()}
            assert names == {name, f"{name}-webhook", f"{name}-grpc"}, f"{release}: {names}"
        for release in NAMES_REFUSED:
            expect_refusal(chart, MINIMAL, "set fullnameOverride", release)
        for values, words in REFUSED:
            expect_refusal(chart, values, words)
    print(f"{len(CASES)} cases, {manifests} manifests valid for Kubernetes {', '.join(VERSIONS)}, {len(REFUSED)} refusals")


def rendered(chart, chart_path, name, values):
    report = helm.lint(chart_path, values, strict=True)
    worst = [message for message in report["messages"] if message["severity"] > 1]
    assert not worst and not report["errors"], f"{name}: {worst} {report['errors']}"
    # Releases may be called so. Unquoted, their labels would be a number and a truth value.
    release = "007" if "fullnameOverride" in values else "on"
    texts = chart.render(values, name=release, namespace="prod")
    assert "NOTES.txt" in "".join(texts), "the notes are missing"
    objects = objects_of(texts)
    for (kind, _), each in objects.items():
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == release, f"{name}: {labels}"
        if kind not in FOREIGN_KINDS:
            for version in VERSIONS:
                kubernetes.validate(each, version, strict=True)
    return objects


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands in a map twice, of which others take the last."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key twice: {keys}"
        return super().construct_mapping(node, deep)


def objects_of(texts):
    yamls = [text for path, text in texts.items() if path.endswith(".yaml")]
    objects = {}
    for each in [each for text in yamls for each in yaml.load_all(text, StrictLoader) if each]:
        kind, name = each["kind"], each["metadata"]["name"]
        assert SERVICE_NAME.fullmatch(name), f"{kind} {name}"
        assert kind != "StatefulSet" or len(name) <= STATEFUL_SET_NAME_MAX, f"{kind} {name}"
        assert (kind, name) not in objects, f"{kind} {name} twice"
        objects[kind, name] = each
    return objects


def hold(name, values, objects):
    """What the schemas of Kubernetes cannot know."""
    kinds = sorted(kind for kind, _ in objects)
    gateway = pod_owner(objects)
    spec = gateway["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    if values.get("log") == "nats":
        assert gateway["kind"] == "Deployment" and "PodDisruptionBudget" in kinds, kinds
        assert spec["replicas"] == values["replicas"]
        spread = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
        assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}, spread
        [budget] = [each for (kind, _), each in objects.items() if kind == "PodDisruptionBudget"]
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow", budget["spec"]
    else:
        assert gateway["kind"] == "StatefulSet" and "PodDisruptionBudget" not in kinds, kinds
        assert spec["replicas"] == 1 and spec["volumeClaimTemplates"]
        assert spec["podManagementPolicy"] == "Parallel"
    hold_given(values, spec["template"])
    hold_secrets(name, values, pod)
    hold_services(name, values, objects)
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["fsGroup"] == 65532
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert mounts == volumes, f"{name}: mounts {mounts}, volumes {volumes}"
    for kind, case in [("ServiceMonitor", "service-monitor"), ("PrometheusRule", "prometheus-rule"), ("NetworkPolicy", "network-policy")]:
        assert (kind in kinds) == name.startswith(case), f"{name}: {kinds}"
    for policy in [each for (kind, _), each in objects.items() if kind == "NetworkPolicy"]:
        assert policy["spec"]["ingress"] == INGRESS[name], f"{name}: {policy['spec']['ingress']}"
    [config] = [each for (kind, _), each in objects.items() if kind == "ConfigMap"]
    lines = ["# From the chart's value `config`.", *values.get("config", "").replace("\r\n", "\n").rstrip("\n").split("\n")]
    assert config["data"]["config.toml"].split("\n")[: len(lines)] == lines, f"{name}: {config['data']}"
    image = values.get("image", {})
    if "repository" in image:
        assert container["image"] == f"{image['repository']}:{image['tag']}", container["image"]
    if name.startswith("prometheus-rule"):
        [rule] = [each for (kind, _), each in objects.items() if kind == "PrometheusRule"]
        file = Path(sys.argv[1]).parent.parent / "prometheus/rules.yml"
        assert rule["spec"] == yaml.safe_load(file.read_text()), "not the rules of the file"


def hold_given(values, template):
    """What is as in a pod arrives there."""
    pod = template["spec"]
    for key in ("imagePullSecrets", "priorityClassName", "nodeSelector", "tolerations", "affinity"):
        assert pod.get(key) == values.get(key), f"{key}: {pod.get(key)}"
    for key, there in (("podLabels", "labels"), ("podAnnotations", "annotations")):
        assert values.get(key, {}).items() <= template["metadata"][there].items(), key
    container = pod["containers"][0]
    for key, there in (("extraEnv", container["env"]), ("extraVolumes", pod["volumes"]), ("extraVolumeMounts", container["volumeMounts"])):
        for entry in values.get(key, []):
            assert entry in there, f"{key}: {entry}"


def hold_secrets(name, values, pod):
    """The gateway reads secrets from files of the Secrets that the values name."""
    container = pod["containers"][0]
    files = {entry["name"]: entry["value"] for entry in container["env"] if entry.get("value", "").startswith("/run/secrets/")}
    secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    secret_at = {mount["mountPath"]: secrets.get(mount["name"]) for mount in container["volumeMounts"]}
    nats = values.get("nats", {}) if values.get("log") == "nats" else {}
    expected = {
        "CLERK_WEBHOOK_SIGNING_SECRET_FILE": values["signingSecret"]["existingSecret"],
        "CLERKCAST_NATS_URL_FILE": nats.get("urlSecret"),
        "CLERKCAST_NATS_CREDENTIALS": nats.get("credentialsSecret"),
    }
    found = {variable: secret_at[str(Path(file).parent)] for variable, file in files.items()}
    assert found == {variable: secret for variable, secret in expected.items() if secret}, f"{name}: {found}"
    bound = {entry["value"] for entry in container["env"] if entry["name"].endswith("_LISTEN")}
    address = values.get("bindAddress", "0.0.0.0")
    assert bound == {f"{address}:{port}" for port in (8080, 50051, 9090)}, f"{name}: {bound}"
    servers = [entry["value"] for entry in container["env"] if entry["name"] == "CLERKCAST_NATS_URL"]
    assert servers == ([",".join(nats["urls"])] if "urls" in nats else []), f"{name}: {servers}"


def hold_services(name, values, objects):
    services = {key[1]: each for key, each in objects.items() if key[0] == "Service"}
    # Nothing but a monitor's own service leads to the admin port.
    admin = [key for key, each in services.items() if "admin" in str(each["spec"]["ports"])]
    assert bool(admin) == (name.startswith("service-monitor")), admin
    for suffix in ("webhook", "grpc"):
        [service] = [each for key, each in services.items() if key.endswith(f"-{suffix}")]
        given = values.get("service", {}).get(suffix, {})
        assert service["spec"]["type"] == given.get("type", "ClusterIP"), service
        assert service["metadata"].get("annotations") == given.get("annotations"), service


def pod_owner(objects):
    [owner] = [each for (kind, _), each in objects.items() if kind in ("StatefulSet", "Deployment")]
    return owner


def write_for_the_gateway(out, name, objects):
    [config] = [each for (kind, _), each in objects.items() if kind == "ConfigMap"]
    (out / f"{name}.toml").write_text(config["data"]["config.toml"])
    container = pod_owner(objects)["spec"]["template"]["spec"]["containers"][0]
    lines = [f"{entry['name']}={entry['value']}\n" for entry in container["env"] if "value" in entry]
    (out / f"{name}.env").write_text("".join(lines))


def expect_refusal(chart, values, words, release="demo"):
    try:
        chart.render(values, name=release, namespace="prod")
    except helm.HelmError as error:
        assert words in str(error), f"{values}: refused for another reason: {error}"
        assert PASSWORD not in str(error), f"a secret is repeated: {error}"
    else:
        raise AssertionError(f"not refused: {values}")


main()
