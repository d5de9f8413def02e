"""A server that answers Recommend with nothing: what the load-test harness costs, without what it measures.

python -m bench.echo_server --port 50099
steersman loadtest --address 127.0.0.1:50099 --search --session 0 --concepts 0 --check 0
"""

import argparse
import asyncio
from typing import Any

import grpc
import uvloop

from steersman.v1 import feature_service_pb2 as feature_pb
from steersman.v1 import feature_service_pb2_grpc as feature_grpc
from steersman.v1 import model_service_pb2 as model_pb
from steersman.v1 import model_service_pb2_grpc as model_grpc
from steersman.v1 import recommendation_service_pb2 as recommendation_pb
from steersman.v1 import recommendation_service_pb2_grpc as recommendation_grpc

ITEMS = 1000
ANSWER = recommendation_pb.RecommendResponse()


class Echo(
    recommendation_grpc.RecommendationServiceServicer,
    model_grpc.ModelServiceServicer,
    feature_grpc.FeatureServiceServicer,
):
    """Says as much as the harness has to know before it sends."""

    async def Recommend(self, request: recommendation_pb.RecommendRequest, context: Any) -> Any:
        return ANSWER

    async def BatchRecommend(self, request: recommendation_pb.BatchRecommendRequest, context: Any) -> Any:
        return recommendation_pb.BatchRecommendResponse()

    async def GetModelInfo(self, request: model_pb.GetModelInfoRequest, context: Any) -> Any:
        limits = model_pb.Limits(history_items=ITEMS, k=ITEMS, events_per_append=ITEMS, session_events=ITEMS)
        return model_pb.GetModelInfoResponse(shapes=model_pb.Shapes(items=ITEMS), limits=limits)

    async def ListHistories(self, request: model_pb.ListHistoriesRequest, context: Any) -> Any:
        return model_pb.ListHistoriesResponse()

    async def ListFeatures(self, request: feature_pb.ListFeaturesRequest, context: Any) -> Any:
        item_ids = [str(item) for item in range(ITEMS)]
        return feature_pb.ListFeaturesResponse(features=[feature_pb.Feature(scale=1.0, top_item_ids=item_ids)])

    async def ListConcepts(self, request: feature_pb.ListConceptsRequest, context: Any) -> Any:
        return feature_pb.ListConceptsResponse()

    async def GetFeature(self, request: feature_pb.GetFeatureRequest, context: Any) -> Any:
        return feature_pb.GetFeatureResponse()

    async def ListNeighbours(self, request: feature_pb.ListNeighboursRequest, context: Any) -> Any:
        return feature_pb.ListNeighboursResponse()

    async def SetLabel(self, request: feature_pb.SetLabelRequest, context: Any) -> Any:
        return feature_pb.SetLabelResponse()

    async def ListBundles(self, request: model_pb.ListBundlesRequest, context: Any) -> Any:
        return model_pb.ListBundlesResponse()


async def serve(port: int) -> None:
    """Until it is killed."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    echo = Echo()
    recommendation_grpc.add_RecommendationServiceServicer_to_server(echo, server)
    model_grpc.add_ModelServiceServicer_to_server(echo, server)
    feature_grpc.add_FeatureServiceServicer_to_server(echo, server)
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.echo_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
