"""Makes calls that are refused with Google's gRPC at its defaults, and prints what it can read of each.

    refusals.py HOST:PORT      reads lines of METHOD HEX; prints a line of JSON for each
"""

import json
import sys

import grpc
from google.protobuf.internal.decoder import _DecodeVarint


def fields(data):
    """The fields of an encoded message, those with a length only."""
    position = 0
    while position < len(data):
        key, position = _DecodeVarint(data, position)
        if key & 7 == 0:
            _, position = _DecodeVarint(data, position)
            continue
        length, position = _DecodeVarint(data, position)
        yield key >> 3, data[position : position + length]
        position += length


def error_info_domain(details):
    """`google.rpc.Status.details` (3) holds an Any of ErrorInfo, whose domain is field 2."""
    for number, any_ in fields(details):
        if number != 3:
            continue
        parts = dict(fields(any_))
        if parts.get(1, b"").endswith(b"google.rpc.ErrorInfo"):
            return dict(fields(parts[2])).get(2, b"").decode()
    return None


channel = grpc.insecure_channel(sys.argv[1])
for line in sys.stdin:
    method, _, request = line.strip().partition(" ")
    call = channel.unary_stream if method.endswith("/Subscribe") else channel.unary_unary
    try:
        answer = call(f"/{method}")(bytes.fromhex(request), timeout=60)
        if method.endswith("/Subscribe"):
            list(answer)
        print(json.dumps({"code": "OK"}))
    except grpc.RpcError as error:
        metadata = dict(error.trailing_metadata() or ())
        details = metadata.get("grpc-status-details-bin", b"")
        print(
            json.dumps(
                {
                    "code": error.code().name,
                    "message": error.details(),
                    "domain": error_info_domain(details),
                }
            ),
            flush=True,
        )
