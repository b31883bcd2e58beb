# It runs in the SDK's virtual environment, which alone has what it imports:
# mypy: ignore-errors
"""A program that uses the service through its own SDK, told what to do by lines, so that a client can outlive its key.

A line in is JSON, {"api_key", "endpoint", "protocol"} to make the client or {} to list its collections; a line out is
what the SDK answered. One thing in the SDK is changed, its check of the endpoint: it refuses addresses with a port, and
a test cannot have port 443 and a name of its own.
"""

import asyncio
import json
import sys

from dashvector import Client, DashVectorProtocol
from dashvector.util import validator

validator.ENDPOINT_PATTERN = r"^127\.0\.0\.1:\d+$"


def main():
    asyncio.set_event_loop(asyncio.new_event_loop())  # the SDK takes the present one, which newer Pythons do not make
    client = None
    for line in sys.stdin:
        if made_from := json.loads(line):
            made_from["protocol"] = DashVectorProtocol[made_from["protocol"]]
            client = answer = Client(**made_from)
        else:
            answer = client.list()
        said = {"good": bool(client), "code": int(answer.code), "message": answer.message, "id": answer.request_id}
        print(json.dumps(said | {"output": getattr(answer, "output", None)}), flush=True)


if __name__ == "__main__":
    main()
