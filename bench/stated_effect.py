"""What the catalogue says of controls, beside what a client measures over gRPC, on the users whom the catalogue was measured on.

    python -m bench.stated_effect --bundle FOLDER --data movielens-100k --json FILE

Share of the top ten at strength 1 and at every point of the effect curve, and 1 - overlap@10 at strengths 0.5 and -0.5, for every concept
and every steerable feature that is not rare. Shares are compared where a label can be checked by items.parquet: of features, where it names
values of categorical attributes.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from statistics import mean, pstdev
from typing import Any, NamedTuple

import grpc
import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from bench.peers.steersman import Steersman
from bench.six_concepts import free_port
from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.feature_service_pb2 import Concept, Feature, ListConceptsRequest, ListFeaturesRequest
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_training.catalogue.aims import all_aims
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.concepts import CALIBRATED_USERS
from steersman_training.catalogue.pushes import COMPARED_AT
from steersman_training.data import load
from steersman_training.data.sequences import Split
from steersman_training.pipeline import MEASURED_USERS, split_by

CALLS_AT_A_TIME = 8
# A busy machine refuses some: they are asked again.
AGAIN = {"maxAttempts": 5, "initialBackoff": "1s", "maxBackoff": "10s", "backoffMultiplier": 2}
POLICY = {"name": [{}], "retryPolicy": {**AGAIN, "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]}}
RETRIES = [("grpc.service_config", json.dumps({"methodConfig": [POLICY]}))]
PAGE = 1000

Lists = list[list[str]]
Member = npt.NDArray[np.bool_]


class Told(NamedTuple):
    """What the catalogue says, and the same over the wire."""

    name: str
    kind: str
    stated_share: float | None
    """None where items.parquet cannot tell which items are meant."""
    share: float | None
    stated_pushes: tuple[float, float]
    pushes: tuple[float, float]
    stated_curve: Mapping[float, float] = {}
    """Share by strength; empty where no share is known, and for bundles older than format 1.6."""
    curve: Mapping[float, float] = {}


class Client:
    """Asks a server for the lists of some users."""

    def __init__(self, channel: grpc.Channel, histories: Sequence[Sequence[str]]) -> None:
        self.features, self.recommend = FeatureServiceStub(channel), RecommendationServiceStub(channel).Recommend
        self.histories = histories
        self.pool = ThreadPoolExecutor(CALLS_AT_A_TIME)

    def lists(self, users: int, *controls: Control) -> Lists:
        """Item ids of each of the first users, best first."""

        def ask(history: Sequence[str]) -> list[str]:
            request = RecommendRequest(history=History(item_ids=history), controls=controls, k=10)
            return [item.item_id for item in self.recommend(request).items]

        return list(self.pool.map(ask, self.histories[:users]))

    def steerable(self) -> list[Feature]:
        """Those that are not rare."""
        return list(self.features.ListFeatures(ListFeaturesRequest(steerable_only=True, page_size=PAGE)).features)

    def concepts(self) -> list[Concept]:
        return list(self.features.ListConcepts(ListConceptsRequest(page_size=PAGE)).concepts)


def main() -> None:
    """Prints the figures, and writes them."""
    parser = argparse.ArgumentParser(
        "python -m bench.stated_effect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--data", default="movielens-100k", help="what the bundle was trained on")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--every", type=int, default=1, help="measure each concept, and every how manieth feature")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    settings = json.loads(bundle.manifest.provenance.settings_json)
    split = split_by(settings["split"], load(arguments.data, cache=arguments.cache))
    told = measured(bundle, split, arguments.every)
    print(*table(told), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(summary(told), indent=1) + "\n")


def measured(bundle: Bundle, split: Split, every: int = 1) -> list[Told]:
    """Every control with a unit, or not every feature, at a server of its own."""
    ids = [str(item_id) for item_id in bundle.items["item_id"].to_pylist()]
    targets = split.valid.sample(MEASURED_USERS, bundle.manifest.provenance.seed)
    histories = [[ids[item] for item in split.history(int(user), int(end))] for user, end in zip(*targets, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        steersman, port = Steersman(bundle, Path(folder, "steersman")), free_port()
        with steersman.start(port) as process:
            process.wait_until(lambda: steersman.ready(port))
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=RETRIES) as channel:
                return list(_told(Client(channel, histories), bundle, split, every))


def _told(client: Client, bundle: Bundle, split: Split, every: int) -> Iterator[Told]:
    items = pl.from_arrow(bundle.items)
    assert isinstance(items, pl.DataFrame)
    known = AttributeValues([], torch.zeros(0, items.height, dtype=torch.bool))
    numeric = {aim.name: aim.member_N.numpy() for aim in all_aims(known, items, split.popularity())}
    plain = client.lists(CALIBRATED_USERS)
    described = dict(zip(*(bundle.features[name].to_pylist() for name in ("feature", "description")), strict=True))
    for concept in client.concepts():
        member_N = numeric.get(concept.name) if not concept.value else _having(items, [concept.name])
        control = Control(concept=concept.name, operation=OPERATION_ADD)
        yield _compared(client, concept.name, control, concept, items, member_N, plain, CALIBRATED_USERS)
    for feature in client.steerable()[::every]:
        ref = FeatureRef(id=feature.id, bundle_version=bundle.version)
        member_N = _having(items, described[feature.id])
        control = Control(feature=ref, operation=OPERATION_ADD)
        yield _compared(client, feature.label, control, feature, items, member_N, plain, MEASURED_USERS)


def _compared(
    client: Client,
    name: str,
    control: Control,
    stated: Concept | Feature,
    items: pl.DataFrame,
    member_N: Member | None,
    plain: Lists,
    users: int,
) -> Told:
    @cache
    def at(strength: float) -> Lists:
        asked = Control()
        asked.CopyFrom(control)
        asked.strength = strength
        return client.lists(users, asked)

    kind = "concept" if isinstance(stated, Concept) else "feature"
    up, down = (_push(plain, at(sign * COMPARED_AT)[: len(plain)]) for sign in (1, -1))
    pushes = ((stated.push_up, stated.push_down), (up, down))
    if member_N is None:
        return Told(name, kind, None, None, *pushes)
    members = {str(item_id) for item_id in items["item_id"].filter(pl.Series(member_N))}
    curve = {point.strength: point.share for point in stated.curve}
    shares = {strength: mean(item in members for best in at(strength) for item in best) for strength in (*curve, 1.0)}
    measured_curve = {strength: shares[strength] for strength in curve}
    return Told(name, kind, stated.effect.share_after, shares[1.0], *pushes, curve, measured_curve)


def _having(items: pl.DataFrame, parts: Sequence[str]) -> Member | None:
    """Items that have all of some values ("genres:Horror"). None where these are not of categorical attributes."""
    member_N = np.ones(items.height, bool)
    for part in parts:
        attribute, _, value = part.partition(":")
        if not isinstance(items.schema.get(attribute), pl.List):
            return None
        member_N &= items[attribute].list.contains(value).fill_null(False).to_numpy()
    return member_N if parts else None


def _push(plain: Lists, steered: Lists) -> float:
    return 1 - mean(item in before for before, after in zip(plain, steered, strict=True) for item in after)


def summary(told: Sequence[Told]) -> dict[str, Any]:
    """Numbers at the top level are what a report takes."""
    shares = [
        abs(each.share - each.stated_share) for each in told if each.share is not None and each.stated_share is not None
    ]
    points = [abs(each.curve[at] - share) for each in told for at, share in each.stated_curve.items()]
    pushes = [list(column) for column in zip(*(each.pushes for each in told), strict=True)]
    beside = [abs(a - b) for each in told for a, b in zip(each.pushes, each.stated_pushes, strict=True)]
    cv_up, cv_down = (pstdev(column) / mean(column) for column in pushes)
    return {
        "stated_share_error": max(shares),
        "stated_share_error_mean": mean(shares),
        "stated_curve_error": max(points, default=0.0),
        "stated_curve_error_mean": mean(points or [0.0]),
        "stated_push_error": max(beside),
        "wire_push_cv": cv_up,
        "wire_push_cv_down": cv_down,
        "controls": [each._asdict() for each in told],
    }


def table(told: Sequence[Told]) -> Iterator[str]:
    """The same for people."""
    found, compared = summary(told), sum(each.share is not None for each in told)
    yield f"{len(told)} controls, {compared} of them with a share"
    most, average = found["stated_share_error"], found["stated_share_error_mean"]
    yield f"share at strength 1, stated and measured: {most:.4f} apart at most, {average:.4f} on average"
    most, average = found["stated_curve_error"], found["stated_curve_error_mean"]
    yield f"share at the strengths of curves: {most:.4f} apart at most, {average:.4f} on average"
    yield f"push at 0.5 and -0.5, stated and measured: {found['stated_push_error']:.4f} apart at most"
    yield f"coefficient of variation of the push: {found['wire_push_cv']:.3f} at 0.5, {found['wire_push_cv_down']:.3f} at -0.5"


if __name__ == "__main__":
    main()
