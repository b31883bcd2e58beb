# It runs in the SDK's virtual environment, which alone has what it imports:
# mypy: ignore-errors
"""A stand-in for the service behind a gateway, over gRPC: prints its port, then the metadata of each call as a line."""

import json
from concurrent import futures

import grpc
from dashvector.core.proto import dashvector_pb2, dashvector_pb2_grpc


class Service(dashvector_pb2_grpc.DashVectorServiceServicer):
    def get_version(self, request, context):
        tell(context)
        return dashvector_pb2.GetVersionResponse(request_id="1", code=0, message="", version="1.0")

    def list_collections(self, request, context):
        tell(context)
        return dashvector_pb2.ListCollectionsResponse(request_id="2", code=0, message="", output=[])


def tell(context):
    print(json.dumps({name: str(value) for name, value in context.invocation_metadata()}), flush=True)


if __name__ == "__main__":
    server = grpc.server(futures.ThreadPoolExecutor(4))
    dashvector_pb2_grpc.add_DashVectorServiceServicer_to_server(Service(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
