"""Renders the Helm chart with each of its options, and holds what comes out against Kubernetes.

Helm is its own library, so neither the `helm` binary nor a cluster is needed. Each case is
linted, rendered, and validated strictly for the newest versions of Kubernetes. What the chart
must refuse is refused with the right words.

    target/test-tools/checks/bin/python tests/tools/chart.py deploy/helm/clerkcast OUT

OUT receives, for each case, the configuration and the environment that the gateway would
have (`CASE.toml`, `CASE.env`), for `clerkcast config check`.
"""

import sys
from pathlib import Path

import helm_python as helm
from kubernetes_validate import utils as kubernetes
import yaml

# Of the operator for Prometheus, whose kinds Kubernetes does not know.
FOREIGN_KINDS = {"ServiceMonitor", "PrometheusRule"}
VERSIONS = list(dict.fromkeys(kubernetes.all_versions()))[-3:]

PRINCIPALS = """\
retain_for = "90d"

[[principals]]
name = "billing"
token_hash = "sha256:715342a7f0f617a41815b5615f866ebaa82d0e37fb211bcfb784279fd992ee9b"
"""
SOURCES = PRINCIPALS + """
[[sources]]
name = "production"
signing_secrets_file = ["/run/secrets/clerk/production"]
"""
SECRET = {"existingSecret": "clerk"}
MINIMAL = {"signingSecret": SECRET, "config": PRINCIPALS}
NATS = {**MINIMAL, "log": "nats", "replicas": 3, "nats": {"urls": ["nats://one:4222", "tls://two:4222"]}}

WEBHOOKS_RULE = {"ports": [{"port": "webhooks"}]}
GRPC_FROM = [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]
PROMETHEUS_FROM = [
    {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["prometheus"]}]},
    }
]
# The rules of the NetworkPolicy, by case. A rule without peers would let in everyone.
INGRESS = {
    "network-policy": [
        WEBHOOKS_RULE,
        {"from": [{"namespaceSelector": {}}], "ports": [{"port": "grpc"}]},
        {
            "from": [
                {
                    "namespaceSelector": {},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
                }
            ],
            "ports": [{"port": "admin"}],
        },
    ],
    "network-policy-closed": [WEBHOOKS_RULE],
    "network-policy-peers": [
        WEBHOOKS_RULE,
        {"from": GRPC_FROM, "ports": [{"port": "grpc"}]},
        {"from": PROMETHEUS_FROM, "ports": [{"port": "admin"}]},
    ],
}

CASES = {
    "embedded": MINIMAL,
    "anonymous": {"signingSecret": SECRET, "grpc": {"allowAnonymous": True}},
    "sources": {"signingSecret": SECRET, "config": SOURCES},
    "nats": NATS,
    "nats-credentials": {**NATS, "nats": {**NATS["nats"], "credentialsSecret": "nats"}},
    "storage-class": {**MINIMAL, "persistence": {"size": "100Gi", "storageClass": "fast"}},
    "backup": {**MINIMAL, "backup": {"volume": {"persistentVolumeClaim": {"claimName": "backup"}}}},
    "service-monitor": {**MINIMAL, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "prometheus-rule": {**MINIMAL, "prometheusRule": {"enabled": True}},
    "network-policy": {**MINIMAL, "networkPolicy": {"enabled": True}},
    "network-policy-closed": {**MINIMAL, "networkPolicy": {"enabled": True, "grpcFrom": [], "prometheusFrom": []}},
    "network-policy-peers": {
        **MINIMAL,
        "networkPolicy": {"enabled": True, "grpcFrom": GRPC_FROM, "prometheusFrom": PROMETHEUS_FROM},
    },
    "image": {**MINIMAL, "image": {"repository": "registry.example/clerkcast", "tag": "v1"}, "imagePullSecrets": [{"name": "pull"}]},
    "extra": {
        **MINIMAL,
        "resources": {"limits": {"memory": "4Gi"}},
        "extraEnv": [{"name": "CLERKCAST_LOG_FORMAT", "value": "json"}],
        "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/etc/tls"}],
        "podAnnotations": {"example.com/team": "platform"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    },
}

def peers(value, key="prometheusFrom"):
    return {**MINIMAL, "networkPolicy": {"enabled": True, key: value}}


# What is refused, and words of the reason.
REFUSED = [
    ({"signingSecret": SECRET}, "no principals are configured"),
    ({"config": PRINCIPALS}, "no signing secret"),
    ({**MINIMAL, "replicas": 2}, "/replicas"),
    ({**NATS, "replicas": 0}, "/replicas"),
    ({**NATS, "nats": {"urls": []}}, "/nats/urls"),
    ({**NATS, "nats": {"urls": ["http://one:4222"]}}, "/nats/urls/0"),
    ({**NATS, "nats": {"urls": ["nats://user:secret@one:4222"]}}, "/nats/urls/0"),
    ({**MINIMAL, "log": "kafka"}, "/log"),
    ({**MINIMAL, "persistence": {"size": "much"}}, "/persistence/size"),
    ({**MINIMAL, "image": {"repository": ""}}, "/image/repository"),
    ({**MINIMAL, "config": {"retain_for": "90d"}}, "/config"),
    ({**MINIMAL, "grpc": {"allowAnonymous": "yes"}}, "/grpc/allowAnonymous"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": ""}}, "/signingSecret/key"),
    ({**MINIMAL, "serviceMonitor": {"interval": "often"}}, "/serviceMonitor/interval"),
    ({**MINIMAL, "replicaCount": 1}, "replicaCount"),
    ({**MINIMAL, "persistence": {"class": "fast"}}, "class"),
    ({**MINIMAL, "nats": {"url": "nats://one:4222"}}, "url"),
    ({**MINIMAL, "backup": {"claim": "backup"}}, "claim"),
    ({**MINIMAL, "networkPolicy": {"from": []}}, "from"),
    ({**MINIMAL, "prometheusRule": {"rules": []}}, "rules"),
    # Peers that would let in everyone.
    (peers(None), "missing property 'prometheusFrom'"),
    (peers(None, "grpcFrom"), "missing property 'grpcFrom'"),
    (peers({}), "/networkPolicy/prometheusFrom"),
    (peers([{}]), "/networkPolicy/prometheusFrom/0"),
    (peers([{}], "grpcFrom"), "/networkPolicy/grpcFrom/0"),
    (peers([None]), "/networkPolicy/prometheusFrom/0"),
    (peers([{"podSelectors": {}}]), "podSelectors"),
    (peers([{"podSelector": None}]), "/0/podSelector"),
    (peers([{"namespaceSelector": None}]), "/0/namespaceSelector"),
    (peers([{"podSelector": {"matchLabel": {"app": "prometheus"}}}]), "matchLabel"),
    (peers([{"podSelector": {"matchLabels": None}}]), "/0/podSelector/matchLabels"),
    (peers([{"podSelector": {"matchLabels": {"app": 1}}}]), "/0/podSelector/matchLabels/app"),
    (peers([{"podSelector": {"matchExpressions": [{"key": "app"}]}}]), "missing property 'operator'"),
    (peers([{"podSelector": {"matchExpressions": [{"operator": "Exists"}]}}]), "missing property 'key'"),
    (peers([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "is"}]}}]), "/0/operator"),
    (peers([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "value": ["a"]}]}}]), "'value'"),
    (peers([{"ipBlock": {}}]), "missing property 'cidr'"),
    (peers([{"ipBlock": {"cidr": "10.0.0.1"}}]), "/0/ipBlock/cidr"),
    (peers([{"ipBlock": {"cidr": "10.0.0.0/8", "without": ["10.1.0.0/16"]}}]), "without"),
    (peers([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1"]}}]), "/0/ipBlock/except/0"),
    (peers([{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]), "maxProperties"),
]


def main():
    chart_path, out = sys.argv[1], Path(sys.argv[2])
    manifests = 0
    with helm.Chart.load(chart_path) as chart:
        for name, values in CASES.items():
            objects = rendered(chart, chart_path, name, values)
            manifests += len(objects)
            hold(name, values, objects)
            write_for_the_gateway(out, name, objects)
        for values, words in REFUSED:
            expect_refusal(chart, values, words)
    print(f"{len(CASES)} cases, {manifests} manifests valid for Kubernetes {', '.join(VERSIONS)}, {len(REFUSED)} refusals")


def rendered(chart, chart_path, name, values):
    report = helm.lint(chart_path, values, strict=True)
    worst = [message for message in report["messages"] if message["severity"] > 1]
    assert not worst and not report["errors"], f"{name}: {worst} {report['errors']}"
    texts = chart.render(values, name="demo", namespace="prod")
    assert "NOTES.txt" in "".join(texts), "the notes are missing"
    yamls = [text for path, text in texts.items() if path.endswith(".yaml")]
    objects = [each for text in yamls for each in yaml.safe_load_all(text) if each]
    for each in objects:
        if each["kind"] not in FOREIGN_KINDS:
            for version in VERSIONS:
                kubernetes.validate(each, version, strict=True)
    return {(each["kind"], each["metadata"]["name"]): each for each in objects}


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
    else:
        assert gateway["kind"] == "StatefulSet" and "PodDisruptionBudget" not in kinds, kinds
        assert spec["replicas"] == 1 and spec["volumeClaimTemplates"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["fsGroup"] == 65532
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
    assert mounts == volumes, f"{name}: mounts {mounts}, volumes {volumes}"
    # Nothing but a monitor's own service leads to the admin port.
    admin = [key for key, each in objects.items() if key[0] == "Service" and "admin" in str(each["spec"]["ports"])]
    assert bool(admin) == (name == "service-monitor"), admin
    for kind, case in [("ServiceMonitor", "service-monitor"), ("PrometheusRule", "prometheus-rule"), ("NetworkPolicy", "network-policy")]:
        assert (kind in kinds) == name.startswith(case), f"{name}: {kinds}"
    for policy in [each for (kind, _), each in objects.items() if kind == "NetworkPolicy"]:
        assert policy["spec"]["ingress"] == INGRESS[name], f"{name}: {policy['spec']['ingress']}"
    if name == "prometheus-rule":
        [rule] = [each for (kind, _), each in objects.items() if kind == "PrometheusRule"]
        file = Path(sys.argv[1]).parent.parent / "prometheus/rules.yml"
        assert rule["spec"] == yaml.safe_load(file.read_text()), "not the rules of the file"


def pod_owner(objects):
    [owner] = [each for (kind, _), each in objects.items() if kind in ("StatefulSet", "Deployment")]
    return owner


def write_for_the_gateway(out, name, objects):
    [config] = [each for (kind, _), each in objects.items() if kind == "ConfigMap"]
    (out / f"{name}.toml").write_text(config["data"]["config.toml"])
    container = pod_owner(objects)["spec"]["template"]["spec"]["containers"][0]
    lines = [f"{entry['name']}={entry['value']}\n" for entry in container["env"]]
    (out / f"{name}.env").write_text("".join(lines))


def expect_refusal(chart, values, words):
    try:
        chart.render(values, name="demo", namespace="prod")
    except helm.HelmError as error:
        assert words in str(error), f"{values}: refused for another reason: {error}"
    else:
        raise AssertionError(f"not refused: {values}")


main()
