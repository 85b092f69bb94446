"""Posts a signed webhook to a gateway that logs JSON to a file: `post.py LOG SECRET`.

Waits until the gateway listens, and expects it to be ready and to accept the webhook.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import urllib.request

PATIENCE_SECONDS = 60
BODY = b'{"type":"user.created","object":"event","data":{"id":"user_1"},"timestamp":1750000000000}'


def address(log, message, deadline):
    while time.monotonic() < deadline:
        with open(log, encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("{") and line.endswith("}\n"):
                    event = json.loads(line)
                    if event.get("message", "").startswith(message):
                        return event["address"]
        time.sleep(0.05)
    raise SystemExit(f"never logged: {message}")


def main(log, secret):
    deadline = time.monotonic() + PATIENCE_SECONDS
    http = address(log, "listening for webhooks", deadline)
    admin = address(log, "listening for operators", deadline)
    with urllib.request.urlopen(f"http://{admin}/readyz") as answer:
        assert answer.status == 200, answer.status
    now = str(int(time.time()))
    signed = b".".join([b"msg_1", now.encode(), BODY])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    headers = {
        "svix-id": "msg_1",
        "svix-timestamp": now,
        "svix-signature": f"v1,{signature}",
        "content-type": "application/json",
    }
    request = urllib.request.Request(f"http://{http}/webhooks/clerk", BODY, headers)
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200, answer.status
        assert json.load(answer)["duplicate"] is False


main(*sys.argv[1:])
