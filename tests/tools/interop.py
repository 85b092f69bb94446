"""Sends every event that Clerk has through a running gateway, and compares what comes out.

Nothing here is the gateway's own: Svix's library signs, grpcio subscribes, and the message
types are learnt from server reflection alone. What a body should become is read off the
body itself and the tables below, so a field that the gateway drops, mixes up or invents
shows as a difference between the JSON that went in and the message that came out.

    target/test-tools/venv/bin/python tests/tools/interop.py \
        --webhook-url http://127.0.0.1:8080/webhooks/clerk --grpc 127.0.0.1:50051 \
        --secret whsec_… --samples src/clerk/samples --shapes tests/fixtures/shapes.tsv
"""

import argparse
import csv
import faulthandler
import http.client
import json
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from svix.webhooks import Webhook

WEBHOOK_TIMEOUT_S = 10
RPC_TIMEOUT_S = 60
# Also bounds reflection, whose client takes no deadline.
WHOLE_RUN_TIMEOUT_S = 300

SERVICE = "clerkcast.v1.EventService"


def main():
    faulthandler.dump_traceback_later(WHOLE_RUN_TIMEOUT_S, exit=True)
    arguments = parse_arguments()
    shapes = read_shapes(arguments.shapes)
    deliveries = make_deliveries(arguments.samples, shapes)
    service = ReflectedService(arguments.grpc)
    comparison = Comparison()

    compare_catalog(service, arguments.samples, shapes, comparison)
    post(deliveries, arguments.webhook_url, arguments.secret, comparison)
    received = subscribe(service, deliveries, comparison)
    for event_type, of_type in groupby(deliveries, key=lambda sent: sent.type):
        report_type(event_type, of_type, received, comparison)

    for difference in comparison.differences:
        print(f"DIFFERENCE {difference}")
    print(f"{len(deliveries)} events, {comparison.count} fields compared, {len(comparison.differences)} differences")
    sys.exit(1 if comparison.differences else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--webhook-url", required=True, help="http://HOST:PORT/webhooks/clerk")
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--secret", required=True, help="whsec_…")
    parser.add_argument("--samples", required=True, type=Path, help="a directory of TYPE.json")
    parser.add_argument("--shapes", required=True, type=Path, help="a table of event_types, path, kind")
    return parser.parse_args()


def compare_catalog(service, samples, shapes, comparison):
    """All three must speak of the same types, or some would go untested."""
    event_types = service.call("ListEventTypes").event_types
    # Types that only the log knows have no message of their own.
    typed = sorted(known.name for known in event_types if known.message != "google.protobuf.Struct")
    with comparison.of("the catalog"):
        comparison.equal("types with a shape", sorted(shapes), typed)
        comparison.equal("types with a sample", sorted(sample.stem for sample in samples.glob("*.json")), typed)


def report_type(event_type, deliveries, received, comparison):
    before = comparison.count
    for sent in deliveries:
        with comparison.of(sent.name):
            comparison.equal("received", True, sent.id in received)
            if sent.id in received:
                compare_event(sent, received[sent.id], comparison)
    # Those from when it was posted too.
    differences = sum(text.startswith(f"{event_type} ") for text in comparison.differences)
    summary = f"{event_type} {comparison.count - before} fields"
    print(f"FAILED {summary}, {differences} differences" if differences else f"ok {summary}")


# ---- What is sent -------------------------------------------------------------------------


@dataclass
class Delivery:
    """A body, and how it was sent."""

    type: str
    variant: str
    body: dict
    raw: str
    # Unlike any id of an earlier run against the same log.
    id: str = field(default_factory=lambda: f"msg_{secrets.token_hex(12)}")
    timestamp_s: int = 0

    @property
    def name(self):
        return f"{self.type} ({self.variant})"


def read_shapes(path):
    """The rows of the table as {event type: [(path, kind)]}."""
    shapes = {}
    with path.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE):
            for event_type in row["event_types"].split(","):
                shapes.setdefault(event_type, []).append((row["path"], row["kind"]))
    return shapes


def make_deliveries(samples, shapes):
    """For each type its sample, and bodies that hold all of its fields at once."""
    deliveries = []
    for sample in sorted(samples.glob("*.json")):
        raw = sample.read_text(encoding="utf-8")
        deliveries.append(Delivery(sample.stem, "sample", json.loads(raw), raw))
    for event_type, rows in shapes.items():
        variants = {
            "distinct": object_of(rows, distinct_values()),
            # What must not be taken for absent; then what must be, in the leaves and at the top.
            "zero": object_of(rows, zero_value),
            "hollow": object_of(rows, lambda path, kind: None),
            "null": dict.fromkeys(object_of(rows, zero_value)),
        }
        if event_type in TWO_VIEWS:
            rows = [row for row in rows if row[0] in DELETED_OBJECT_KEYS]
            variants["deleted object"] = object_of(rows, distinct_values())
        for variant, data in variants.items():
            body = envelope(event_type, variant, data)
            # Both ways of writing what is not ASCII: as it is, and as \u escapes.
            raw = json.dumps(body, ensure_ascii=len(deliveries) % 2 == 0)
            deliveries.append(Delivery(event_type, variant, body, raw))
    return sorted(deliveries, key=lambda sent: sent.type)


def envelope(event_type, variant, data):
    body = {"data": data, "object": "event", "type": event_type}
    request = {"client_ip": "2001:db8::7", "user_agent": f"{event_type} é✓"}
    if variant in ("distinct", "deleted object"):
        body |= {"timestamp": 1772616297634, "instance_id": f"ins_{event_type}"}
        body["event_attributes"] = {"http_request": request}
    elif variant == "zero":
        # Clerk's own examples have `timestamp` in seconds.
        body |= {"timestamp": 1716883200, "instance_id": ""}
        body["event_attributes"] = {"http_request": dict.fromkeys(request, "")}
    elif variant == "hollow":
        body |= {"timestamp": None, "instance_id": None}
        body["event_attributes"] = {"http_request": dict.fromkeys(request)}
    return body


def object_of(rows, leaf, parent=""):
    """The JSON object with the paths of `rows`, two elements in each array, and what `leaf` says in each leaf."""
    below = {}
    for path, kind in rows:
        key, _, rest = path.partition(".")
        below.setdefault(key, []).append((rest, kind))
    result = {}
    for key, rows_below in below.items():
        name = key.removesuffix("[]")
        path = f"{parent}{name}"
        if key.endswith("[]"):
            result[name] = [value_of(rows_below, leaf, f"{path}[{index}]") for index in range(2)]
        else:
            result[name] = value_of(rows_below, leaf, path)
    return result


def value_of(rows, leaf, path):
    rest, kind = rows[0]
    if rest:
        return object_of(rows, leaf, f"{path}.")
    assert len(rows) == 1, f"the table has {path} twice, or both as a leaf and as an object"
    return leaf(path, kind)


def distinct_values():
    """A leaf that is different each time, so that no two can be mixed up, and difficult for its kind."""
    count = 0

    def leaf(path, kind):
        nonlocal count
        count += 1
        sign = -1 if count % 2 else 1
        match kind:
            case "string":
                return f'{path} é✓🦀 "\\/\n\u0001'
            case "strings":
                return [f"{path}[0]", f"{path}[1]"]
            case "bool":
                return count % 2 == 0
            case "int":  # beyond what a double can hold
                return sign * (2**53 + count)
            case "double":
                return sign * (count + 0.1)
            case "instant_ms":  # before and after 1970, never a whole second
                return sign * (1_772_616_297_000 + count * 86_400_000 + 1 + count % 999)
            case "json":
                numbers = [0, -1, 0.1, 1e300, 5e-324, 2**53]
                nested = {"list": [1, "two", True, None, [], {}, [[3.5]], {"four": 4}], "é✓🦀": "\u0000\t🦀"}
                return {"path": path, "": "", "null": None, "false": False, "numbers": numbers, "nested": nested}
        raise ValueError(f"{path}: unknown kind {kind!r}")

    return leaf


def zero_value(_path, kind):
    return {"string": "", "strings": [], "bool": False, "int": 0, "double": 0, "instant_ms": 0, "json": {}}[kind]


# ---- The way there and back ----------------------------------------------------------------


def post(deliveries, url, secret, comparison):
    """Posts all on one connection, one after the other, as the log should have them."""
    url = urlsplit(url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=WEBHOOK_TIMEOUT_S)
    webhook = Webhook(secret)
    for sent in deliveries:
        now = datetime.now(timezone.utc)
        sent.timestamp_s = int(now.timestamp())
        headers = {
            "content-type": "application/json",
            "svix-id": sent.id,
            "svix-timestamp": str(sent.timestamp_s),
            "svix-signature": webhook.sign(sent.id, now, sent.raw),
        }
        connection.request("POST", url.path, sent.raw.encode(), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        with comparison.of(sent.name):
            expected = {"id": sent.id, "duplicate": False}
            comparison.equal("the webhook's answer", (200, expected), (answer.status, parsed(text)))
            comparison.equal("the connection is kept", True, not answer.will_close)
    connection.close()


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


class ReflectedService:
    """The gateway's service, known from its own reflection only."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=WEBHOOK_TIMEOUT_S)
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.methods = pool.FindServiceByName(SERVICE).methods_by_name

    def call(self, name, **request):
        method = self.methods[name]
        request = GetMessageClass(method.input_type)(**request)
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        invoke = make(
            f"/{SERVICE}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return invoke(request, timeout=RPC_TIMEOUT_S)


def subscribe(service, deliveries, comparison):
    """What has come of the deliveries, as {id: Event}; the log may hold other events too."""
    request = {"start_position": "START_POSITION_EARLIEST", "stop_when_caught_up": True, "include_payload": True}
    frames = list(service.call("Subscribe", **request))
    sent_ids = {sent.id for sent in deliveries}
    received = [frame.event for frame in frames if frame.event.id in sent_ids]
    by_id = {event.id: event for event in received}
    with comparison.of("the stream"):
        comparison.equal("first frame", "started", frames[0].WhichOneof("kind"))
        comparison.equal("last frame", "caught_up", frames[-1].WhichOneof("kind"))
        comparison.equal("frames without a cursor", 0, sum(not frame.cursor for frame in frames))
        in_order = [sent.id for sent in deliveries if sent.id in by_id]
        comparison.equal("in order and once", True, [event.id for event in received] == in_order)
    return by_id


# ---- What should have become of it -----------------------------------------------------------

DELETED_OBJECT_KEYS = {"id", "object", "slug", "external_id", "deleted"}
ALWAYS_DELETED_OBJECT = {"user.deleted", "organization.deleted", "organizationDomain.deleted"}
# Clerk's TypeScript types and its OpenAPI disagree on what these carry.
TWO_VIEWS = {"role.deleted", "permission.deleted"}

# Where in `data` an event has the ids that can be filtered by, by the first part of its type.
BILLING = {"user_id": "payer.user_id", "organization_id": "payer.organization_id"}
PROMOTED = {
    "user": {"user_id": "id"},
    "session": {"user_id": "user_id", "organization_id": "last_active_organization_id", "session_id": "id"},
    "organization": {"organization_id": "id"},
    "organizationDomain": {"organization_id": "organization_id"},
    "organizationMembership": {"user_id": "public_user_data.user_id", "organization_id": "organization.id"},
    "organizationInvitation": {"user_id": "user_id", "organization_id": "organization_id"},
    "email": {"user_id": "user_id"},
    "sms": {"user_id": "user_id"},
    "paymentAttempt": BILLING,
    "subscription": BILLING,
    "subscriptionItem": BILLING,
    "role": {},
    "permission": {},
    "waitlistEntry": {},
}


def compare_event(sent, event, comparison):
    body, data = sent.body, sent.body["data"]
    family = sent.type.partition(".")[0]
    comparison.equal("type", sent.type, event.type)
    comparison.equal("source", "default", event.source)
    comparison.equal("instance_id", body.get("instance_id") or "", event.instance_id)
    comparison.equal("object_id", string_at(data, "id"), event.object_id)
    for name in ("user_id", "organization_id", "session_id"):
        path = PROMOTED[family].get(name)
        comparison.equal(name, string_at(data, path) if path else "", getattr(event, name))

    occur_ms = body.get("timestamp")
    if occur_ms is not None and occur_ms < 10**11:
        occur_ms *= 1000  # it was in seconds
    comparison.equal("occur_time", occur_ms, milliseconds(event, "occur_time"))
    comparison.equal("send_time", sent.timestamp_s * 1000, milliseconds(event, "send_time"))
    receive_ms = milliseconds(event, "receive_time") or 0
    comparison.equal("receive_time is now", True, abs(receive_ms - time.time() * 1000) < WHOLE_RUN_TIMEOUT_S * 1000)

    request = body.get("event_attributes", {}).get("http_request")
    comparison.equal("http_request is set", request is not None, event.HasField("http_request"))
    comparison.message("http_request", request or {}, event.http_request)
    comparison.equal("payload_json", sent.raw, event.payload_json)

    data_field = data_field_of(sent.type, data)
    comparison.equal("data is a", data_field, event.WhichOneof("data"))
    comparison.message("data", data, getattr(event, data_field))


def data_field_of(event_type, data):
    """Which field of `Event.data` should hold `data`."""
    family = event_type.partition(".")[0]
    is_reduced = event_type in TWO_VIEWS and DELETED_OBJECT_KEYS.issuperset(data)
    if event_type in ALWAYS_DELETED_OBJECT or is_reduced:
        return "deleted_object"
    if family == "sms":
        return "sms_message"
    return re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", family)


def string_at(value, path):
    """The string at a dotted path; empty where there is none."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value or ""


def milliseconds(message, name):
    """A timestamp in unix milliseconds, with a fraction if need be; None where it is unset."""
    if not message.HasField(name):
        return None
    moment = getattr(message, name)
    return moment.seconds * 1000 + moment.nanos / 10**6


class Comparison:
    """Counts what was compared, and keeps what differed."""

    def __init__(self):
        self.count = 0
        self.differences = []
        self.subject = ""

    def of(self, subject):
        """What the comparisons that follow are about, to be used in a `with`."""
        self.subject = subject
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.subject = ""

    def equal(self, what, expected, received):
        self.count += 1
        if not is_same(expected, received):
            # Cut off, for where two whole bodies differ.
            self.differences.append(f"{self.subject}: {what}: expected {expected!r:.300}, received {received!r:.300}")

    def message(self, path, sent, message):
        """Compares a JSON object with the message that it became, in both directions."""
        fields = message.DESCRIPTOR.fields_by_name
        received = {field.name: value for field, value in message.ListFields()}
        for name, value in sent.items():
            if name not in fields:
                self.equal(f"{path}.{name}", value, f"no such field in {message.DESCRIPTOR.full_name}")
            else:
                self.field(f"{path}.{name}", fields[name], value, received.get(name))
        for name in received.keys() - sent.keys():
            self.equal(f"{path}.{name}", None, received[name])
        self.equal(f"{path}: fields that reflection does not know", 0, len(UnknownFieldSet(message)))

    def field(self, path, field, sent, received):
        """Compares one field; `received` is None where it is unset."""
        if not field.is_repeated:
            self.value(path, field, sent, received)
            return
        # Of a list, protobuf cannot tell null from empty.
        sent, received = sent or [], received or []
        self.equal(f"{path}: length", len(sent), len(received))
        for index, (sent_one, received_one) in enumerate(zip(sent, received)):
            self.value(f"{path}[{index}]", field, sent_one, received_one)

    def value(self, path, field, sent, received):
        if sent is None or received is None or field.message_type is None:
            self.equal(path, sent, received)
            return
        match field.message_type.full_name:
            case "google.protobuf.Timestamp":
                self.equal(path, sent * 10**6, received.seconds * 10**9 + received.nanos)
            case "google.protobuf.Struct":
                self.equal(path, sent, struct_as_json(received))
            case _:
                self.message(path, sent, received)


def is_same(one, other):
    """Equality of JSON: unlike in Python, true is not 1; but 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    return one == other


def struct_as_json(struct):
    return {key: value_as_json(value) for key, value in struct.fields.items()}


def value_as_json(value):
    match value.WhichOneof("kind"):
        case "null_value":
            return None
        case "struct_value":
            return struct_as_json(value.struct_value)
        case "list_value":
            return [value_as_json(element) for element in value.list_value.values]
        case kind:  # a Value without a kind is not valid: getattr then fails
            return getattr(value, kind)


if __name__ == "__main__":
    main()
