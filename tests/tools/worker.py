"""A worker of a subscription with nothing of Clerkcast's: grpcio, and what reflection reports.

Creates a subscription, handles what is in the log, fails one event for good, and prints the ids of
the events in the order in which they were acknowledged, one a line.

    target/test-tools/venv/bin/python tests/tools/worker.py --grpc 127.0.0.1:50051 --dead msg_2
"""

import argparse
import faulthandler

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

RPC_TIMEOUT_S = 60
# Also bounds reflection, whose client takes no deadline.
WHOLE_RUN_TIMEOUT_S = 120
SERVICE = "clerkcast.v1.SubscriptionService"
NAME = "python"


def main():
    faulthandler.dump_traceback_later(WHOLE_RUN_TIMEOUT_S, exit=True)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grpc", required=True, help="HOST:PORT")
    parser.add_argument("--dead", required=True, help="the id of the event that is given up")
    arguments = parser.parse_args()

    service = Service(arguments.grpc)
    service.call(
        "CreateSubscription",
        {"subscription": {"name": NAME}, "start_position": "START_POSITION_EARLIEST"},
    )
    frames = service.stream("Receive", {"subscription": NAME, "stop_when_handled": True})
    for frame in frames:
        if frame.WhichOneof("kind") != "delivery":
            continue
        delivery = frame.delivery
        outcome = {"subscription": NAME}
        if delivery.event.id == arguments.dead:
            outcome["failures"] = [{"ack_id": delivery.ack_id, "reason": "no such user", "dead": True}]
        else:
            outcome["ack_ids"] = [delivery.ack_id]
        answer = service.call("Acknowledge", outcome)
        assert not answer.lost_ack_ids, answer
        if "ack_ids" in outcome:
            print(delivery.event.id)


class Service:
    """The gateway's service, known from its own reflection only."""

    def __init__(self, address):
        self._channel = grpc.insecure_channel(address)
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self._channel))
        self._service = pool.FindServiceByName(SERVICE)

    def call(self, method, fields):
        return self._prepared("unary_unary", method)(self._request(method, fields), timeout=RPC_TIMEOUT_S)

    def stream(self, method, fields):
        return self._prepared("unary_stream", method)(self._request(method, fields), timeout=RPC_TIMEOUT_S)

    def _request(self, method, fields):
        return GetMessageClass(self._service.methods_by_name[method].input_type)(**fields)

    def _prepared(self, kind, method):
        output = GetMessageClass(self._service.methods_by_name[method].output_type)
        return getattr(self._channel, kind)(
            f"/{SERVICE}/{method}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=output.FromString,
        )


if __name__ == "__main__":
    main()
