"""The values that tests/tools/chart.py renders the Helm chart with, and those that the chart
must refuse.
"""

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
# What YAML could take for something else, and what resembles a secret.
ODD_TEXT = """\
\t# --- {{ .Values.log }} *a &b !c | > "d" 'e' \u00e9 \u00a0 \U0001f980: f
  \t
# whsec_\u2026, signing_secrets_file, cct_\u2026, nats_url = "nats://HOST:PORT"  # ops@example.com
# https://example.com/@docs
"""

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
    "nats-url": {**NATS, "nats": {"urlSecret": "nats"}},
    "storage-class": {**MINIMAL, "persistence": {"size": "100Gi", "storageClass": "fast"}},
    "backup": {**MINIMAL, "backup": {"volume": {"persistentVolumeClaim": {"claimName": "backup"}}}},
    "service-monitor": {**MINIMAL, "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "service-monitor-yaml-word": {**MINIMAL, "fullnameOverride": "on", "serviceMonitor": {"enabled": True}},
    "prometheus-rule": {**MINIMAL, "prometheusRule": {"enabled": True}},
    "prometheus-rule-yaml-word": {**MINIMAL, "fullnameOverride": "no", "prometheusRule": {"enabled": True}},
    "network-policy": {**MINIMAL, "networkPolicy": {"enabled": True}},
    "network-policy-closed": {**MINIMAL, "fullnameOverride": "off", "networkPolicy": {"enabled": True, "grpcFrom": [], "prometheusFrom": []}},
    "network-policy-peers": {
        **MINIMAL,
        "networkPolicy": {"enabled": True, "grpcFrom": GRPC_FROM, "prometheusFrom": PROMETHEUS_FROM},
    },
    "image": {**MINIMAL, "image": {"repository": "registry.example/clerkcast", "tag": "v1"}, "imagePullSecrets": [{"name": "pull"}]},
    "image-digest": {
        **MINIMAL,
        "image": {"repository": "registry.example:5000/team/clerk_cast", "tag": "v1@sha256:" + 64 * "0"},
    },
    # Unquoted, these are numbers, truth values or null.
    "yaml-words": {
        **MINIMAL,
        "nameOverride": "on",
        "fullnameOverride": "true",
        "image": {"repository": "12", "tag": "45"},
        "imagePullSecrets": [{"name": "007"}],
        "signingSecret": {"existingSecret": "123"},
        "persistence": {"size": "100", "storageClass": "123"},
    },
    "yaml-words-nats": {
        **NATS,
        "fullnameOverride": "null",
        "nats": {"urls": ["nats://one"], "credentialsSecret": "0x10"},
        "priorityClassName": "007",
        "service": {"webhook": {"annotations": {"on": "off"}}},
    },
    "yaml-words-url": {**NATS, "fullnameOverride": "yes", "nats": {"urlSecret": "0x10"}},
    "many-replicas": {**NATS, "replicas": 1000000},
    "odd-text": {**MINIMAL, "config": ODD_TEXT + PRINCIPALS},
    "windows-lines": {**MINIMAL, "config": PRINCIPALS.replace("\n", "\r\n")},
    "extra": {
        **MINIMAL,
        "resources": {"limits": {"memory": "4Gi"}},
        "extraEnv": [
            {"name": "CLERKCAST_LOG_FORMAT", "value": "json"},
            {"name": "CLERK_STAGING_SECRET", "valueFrom": {"secretKeyRef": {"name": "staging", "key": "secret"}}},
        ],
        "extraVolumes": [{"name": "tls", "secret": {"secretName": "tls"}}],
        "extraVolumeMounts": [{"name": "tls", "mountPath": "/etc/tls"}],
        "podLabels": {"example.com/cost": "platform"},
        "podAnnotations": {"example.com/team": "platform"},
        "priorityClassName": "important",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {}},
    },
    # There, no claim has this name.
    "extra-nats": {
        **NATS,
        "extraVolumes": [{"name": "data", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/var/lib/clerkcast"}],
    },
    "ipv6": {**MINIMAL, "bindAddress": "[::]"},
    "services": {
        **MINIMAL,
        "service": {
            "webhook": {"type": "NodePort", "annotations": {"example.com/health": "/healthz"}},
            "grpc": {"type": "LoadBalancer", "annotations": {"example.com/internal": "true"}},
        },
    },
}
# The names of releases that Helm allows, and of what is made for them.
NAMES = [
    ("demo", {}, "demo-clerkcast"),
    ("clerkcast", {}, "clerkcast"),
    ("eu-clerkcast-1", {}, "eu-clerkcast-1"),
    ("demo", {"nameOverride": "cc"}, "demo-cc"),
    (40 * "r", {}, 40 * "r" + "-clerkcast"),
    ("clerkcast" + 41 * "r", {}, "clerkcast" + 41 * "r"),
    (53 * "r", {"fullnameOverride": 50 * "f"}, 50 * "f"),
    ("a.b", {"fullnameOverride": "a-b"}, "a-b"),
    ("1st", {"fullnameOverride": "first"}, "first"),
]
# Others that it allows. The last two would have one name if it were cut.
NAMES_REFUSED = ["a.b", "1st", 41 * "r", "clerkcast" + 42 * "r", 50 * "r" + "ab", 50 * "r" + "cd"]

PASSWORD = "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
SIGNING_SECRET = f"whsec_{PASSWORD}"
SEED = f"-----BEGIN USER NKEY SEED-----\n{PASSWORD}\n------END USER NKEY SEED------\n"
INJECTED = 'k\n        - name: CLERKCAST_GRPC_ALLOW_ANONYMOUS\n          value: "true"'


def at(path, value):
    """The minimal values, with another one at a path such as `/nats/urls/0`; `~` is a slash."""
    top, *below = path.split("/")[1:]
    for part in reversed([part.replace("~", "/") for part in below]):
        value = [value] if part == "0" else {part: value}
    return {**MINIMAL, top: {**MINIMAL.get(top, {}), **value} if isinstance(value, dict) else value}


def secret_in(config):
    return {**MINIMAL, "config": f"{config}\n{PRINCIPALS}"}


def peers(value, key="prometheusFrom"):
    return {**MINIMAL, "networkPolicy": {"enabled": True, key: value}}


PEER = "/networkPolicy/prometheusFrom/0"
WRONG_TYPES = [
    # A text is expected.
    (1, "/nats/urlSecret /priorityClassName /service/webhook/type /service/grpc/type"),
    (1, "/nameOverride /fullnameOverride /image/repository /image/tag /imagePullSecrets/0/name /signingSecret/existingSecret"),
    (1, "/signingSecret/key /nats/urls/0 /nats/credentialsSecret /persistence/size /persistence/storageClass"),
    (1, f"/serviceMonitor/interval {PEER}/ipBlock/cidr {PEER}/podSelector/matchExpressions/0/key"),
    (1, f"{PEER}/podSelector/matchExpressions/0/values/0"),
    # A truth value, or a number.
    ("yes", "/serviceMonitor/enabled /prometheusRule/enabled /networkPolicy/enabled"),
    ("1", "/replicas"),
    # A list, or a map.
    ("text", "/imagePullSecrets /nats/urls /networkPolicy/grpcFrom /networkPolicy/prometheusFrom"),
    ("text", f"{PEER}/ipBlock/except {PEER}/podSelector/matchExpressions {PEER}/podSelector/matchExpressions/0/values"),
    ("text", f"{PEER}/podSelector/matchExpressions/0"),
    ("text", "/extraEnv /extraVolumes /extraVolumeMounts /tolerations"),
    ("text", "/extraEnv/0 /extraVolumes/0 /extraVolumeMounts/0 /tolerations/0 /imagePullSecrets/0"),
    ("text", "/image /signingSecret /nats /persistence /grpc /backup /serviceMonitor /prometheusRule /networkPolicy"),
    ("text", "/service /service/webhook /service/grpc /service/webhook/annotations /service/grpc/annotations /podLabels"),
    ("text", f"/backup/volume /resources /affinity /podAnnotations /nodeSelector {PEER}/ipBlock {PEER}/podSelector"),
]

# What is refused, and words of the reason. No reason repeats PASSWORD.
REFUSED = [
    ({"signingSecret": SECRET}, "no principals are configured"),
    ({"config": PRINCIPALS}, "no signing secret"),
    ({**MINIMAL, "replicas": 2}, "/replicas"),
    ({**NATS, "replicas": 0}, "/replicas"),
    ({**NATS, "nats": {"urls": []}}, "log nats needs servers"),
    ({**NATS, "nats": {**NATS["nats"], "urlSecret": "nats"}}, "nats.urls and nats.urlSecret are both set"),
    ({**NATS, "nats": {"urlSecret": "nats", "credentialsSecret": "nats"}}, "nats.credentialsSecret is another one"),
    ({**NATS, "nats": {"urls": ["http://one:4222"]}}, "/nats/urls/0"),
    ({**NATS, "nats": {"urls": ["nats://one:4222 tls://two"]}}, "/nats/urls/0"),
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
    ({**NATS, "nats": {"urls": None}}, "log nats needs servers"),
    *[(at(f"{table}/other", 1), "'other'") for table in ("/image", "/signingSecret", "/grpc", "/serviceMonitor")],
    *[(at(f"{table}/other", 1), "'other'") for table in ("/service", "/service/webhook", "/service/grpc")],
    (at("/service/grpc/type", "ExternalName"), "/service/grpc/type"),
    (at("/service/webhook/annotations/a", True), "/service/webhook/annotations/a"),
    *[(at(path, value), path) for value, paths in WRONG_TYPES for path in paths.split()],
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
    # A null takes the chart's default away.
    *[({**MINIMAL, key: None}, f"missing property '{key}'") for key in ("image", "log", "replicas", "config", "nats")],
    *[({**MINIMAL, key: None}, f"missing property '{key}'") for key in ("signingSecret", "persistence", "grpc", "backup")],
    *[({**MINIMAL, key: None}, f"missing property '{key}'") for key in ("serviceMonitor", "prometheusRule", "networkPolicy")],
    ({**MINIMAL, "service": None}, "missing property 'service'"),
    *[(at(f"/service/{name}", None), f"missing property '{name}'") for name in ("webhook", "grpc")],
    (at("/service/grpc/type", None), "missing property 'type'"),
    ({**MINIMAL, "extraEnv": [{"value": "json"}]}, "missing property 'name'"),
    ({**MINIMAL, "extraVolumes": [{"emptyDir": {}}]}, "missing property 'name'"),
    ({**MINIMAL, "extraVolumeMounts": [{"mountPath": "/etc/tls"}]}, "missing property 'name'"),
    ({**MINIMAL, "extraVolumeMounts": [{"name": "tls"}]}, "missing property 'mountPath'"),
    ({**MINIMAL, "image": {"repository": None}}, "missing property 'repository'"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": None}}, "missing property 'key'"),
    ({**MINIMAL, "persistence": {"size": None}}, "missing property 'size'"),
    ({**MINIMAL, "serviceMonitor": {"enabled": True, "interval": None}}, "missing property 'interval'"),
    # Texts that Kubernetes would refuse, or that would be YAML of their own.
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": INJECTED}}, "/signingSecret/key"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": "../etc/passwd"}}, "/signingSecret/key"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": "..data"}}, "/signingSecret/key"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": 254 * "k"}}, "/signingSecret/key"),
    ({**MINIMAL, "signingSecret": {"existingSecret": INJECTED}}, "/signingSecret/existingSecret"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "Clerk"}}, "/signingSecret/existingSecret"),
    ({**NATS, "nats": {**NATS["nats"], "credentialsSecret": "nats\n"}}, "/nats/credentialsSecret"),
    ({**NATS, "nats": {**NATS["nats"], "credentialsSecret": 254 * "n"}}, "/nats/credentialsSecret"),
    ({**NATS, "nats": {"urlSecret": "Nats"}}, "/nats/urlSecret"),
    ({**MINIMAL, "bindAddress": "127.0.0.1"}, "/bindAddress"),
    ({**MINIMAL, "bindAddress": "::"}, "/bindAddress"),
    ({**MINIMAL, "bindAddress": "[::]", "config": ""}, "[::]:50051 is reachable from other machines"),
    ({**MINIMAL, "priorityClassName": "high\n  x: y"}, "/priorityClassName"),
    ({**MINIMAL, "priorityClassName": 254 * "p"}, "/priorityClassName"),
    ({**MINIMAL, "image": {"repository": 'a"\nb: "'}}, "/image/repository"),
    ({**MINIMAL, "image": {"repository": "clerkcast:v1"}}, "/image/repository"),
    ({**MINIMAL, "image": {"tag": 'v1"\nb: "'}}, "/image/tag"),
    ({**MINIMAL, "image": {"tag": 129 * "v"}}, "/image/tag"),
    ({**MINIMAL, "imagePullSecrets": [{}]}, "missing property 'name'"),
    ({**MINIMAL, "imagePullSecrets": [{"name": "Pull"}]}, "/imagePullSecrets/0/name"),
    ({**MINIMAL, "imagePullSecrets": [{"name": 254 * "p"}]}, "/imagePullSecrets/0/name"),
    ({**MINIMAL, "imagePullSecrets": [{"name": "pull", "key": "k"}]}, "'key'"),
    ({**MINIMAL, "nameOverride": "a: b"}, "/nameOverride"),
    ({**MINIMAL, "nameOverride": 64 * "n"}, "/nameOverride"),
    ({**MINIMAL, "fullnameOverride": "1st"}, "/fullnameOverride"),
    ({**MINIMAL, "fullnameOverride": 51 * "n"}, "/fullnameOverride"),
    ({**MINIMAL, "persistence": {"storageClass": "fast\n        x: y"}}, "/persistence/storageClass"),
    ({**MINIMAL, "persistence": {"storageClass": 254 * "f"}}, "/persistence/storageClass"),
    ({**MINIMAL, "serviceMonitor": {"labels": {"release": 1}}}, "/serviceMonitor/labels/release"),
    ({**MINIMAL, "prometheusRule": {"labels": {"release": True}}}, "/prometheusRule/labels/release"),
    ({**MINIMAL, "podLabels": {"a": 1}}, "/podLabels/a"),
    ({**MINIMAL, "podAnnotations": {"a": 1}}, "/podAnnotations/a"),
    ({**MINIMAL, "nodeSelector": {"ssd": True}}, "/nodeSelector/ssd"),
    *[({**MINIMAL, key: [{"name": 1, "mountPath": "/a"}]}, f"/{key}/0/name") for key in ("extraEnv", "extraVolumes", "extraVolumeMounts")],
    ({**MINIMAL, "extraVolumeMounts": [{"name": "a", "mountPath": 1}]}, "/extraVolumeMounts/0/mountPath"),
    # What the chart sets itself, or what stands there twice.
    ({**MINIMAL, "podLabels": {"app.kubernetes.io/instance": "a"}}, "podLabels has app.kubernetes.io/instance"),
    ({**MINIMAL, "podAnnotations": {"checksum/config": "a"}}, "podAnnotations has checksum/config"),
    (at("/serviceMonitor/labels/app.kubernetes.io~name", "a"), "serviceMonitor.labels has app.kubernetes.io/name"),
    (at("/prometheusRule/labels/helm.sh~chart", "a"), "prometheusRule.labels has helm.sh/chart"),
    ({**MINIMAL, "extraEnv": [{"name": "CLERKCAST_LOG", "value": "nats"}]}, "extraEnv has CLERKCAST_LOG"),
    ({**MINIMAL, "extraEnv": 2 * [{"name": "TZ", "value": "UTC"}]}, "extraEnv has TZ"),
    ({**MINIMAL, "extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "extraVolumes has tmp"),
    ({**MINIMAL, "extraVolumes": [{"name": "data", "emptyDir": {}}]}, "extraVolumes has data"),
    ({**MINIMAL, "extraVolumeMounts": [{"name": "tls", "mountPath": "/tmp"}]}, "extraVolumeMounts has /tmp"),
    # Characters that YAML takes for the end of a line, or does not allow.
    *[({**MINIMAL, "config": f"{PRINCIPALS}# a{end}b: c"}, "config has a character") for end in "\r\x85\u2028\u2029"],
    *[({**MINIMAL, "config": f"{PRINCIPALS}# {control}"}, "config has a character") for control in "\x01\x7f\x9b\ufeff"],
    ({**MINIMAL, "config": f"{PRINCIPALS}\r"}, "config has a character"),
    ({**MINIMAL, "podAnnotations": {"a": "x\n\x85b: c"}}, "podAnnotations has a character"),
    # Secrets, where they would be readable.
    (secret_in(f'[[sources]]\nname = "a"\nsigning_secrets = ["{SIGNING_SECRET}"]'), "name in signingSecret.existingSecret"),
    (secret_in(f"sources = [{{name = 'a', 'signing_secrets' = ['{PASSWORD}']}}]"), "config holds a signing secret"),
    (secret_in(f"# {SIGNING_SECRET}"), "config holds a signing secret"),
    ({**MINIMAL, "signingSecret": {"existingSecret": SIGNING_SECRET}}, "signingSecret holds a signing secret"),
    ({**MINIMAL, "signingSecret": {"existingSecret": "clerk", "key": SIGNING_SECRET}}, "signingSecret holds a signing secret"),
    ({**MINIMAL, "extraEnv": [{"name": "CLERK_WEBHOOK_SECRET", "value": SIGNING_SECRET}]}, "extraEnv holds a signing secret"),
    (secret_in(f'nats_url = "nats://user:{PASSWORD}@one:4222"'), "name in nats.urlSecret"),
    (secret_in(f'nats_url = "nats://one,nats://user:a/{PASSWORD}@two"'), "config holds a URL with a user"),
    (secret_in(f'otlp_endpoint = "http://user:a/{PASSWORD}@two"'), "config holds a URL with a user"),
    (secret_in(f'nats_url = "nats://{PASSWORD}@one:4222"'), "config holds a URL with a user"),
    (secret_in(f'"nats_url" = "user:{PASSWORD}@one:4222"'), "config holds a URL with a user"),
    ({**NATS, "nats": {"urls": [f"nats://user:{PASSWORD}@one:4222"]}}, "nats holds a URL with a user"),
    ({**NATS, "nats": {"urls": [f"http://{PASSWORD}@one:4222"]}}, "nats holds a URL with a user"),
    ({**NATS, "nats": {"urls": [f"user:a {PASSWORD}@one:4222"]}}, "nats holds a URL with a user"),
    ({**NATS, "nats": {**NATS["nats"], "credentialsSecret": SEED}}, "nats holds credentials"),
    ({**NATS, "nats": {"urlSecret": f"nats://user:{PASSWORD}@one:4222"}}, "nats holds a URL with a user"),
    (secret_in(f'[[principals]]\nname = "a"\ntoken_hash = "cct_{PASSWORD}"'), "config holds a subscriber's token"),
]
