"""Figure 4: item sets and words for genres that a bundle has never seen, beside the concepts that were trained for them in another bundle.

Dimensions: B users, N items.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.aims.data import HIDDEN, Tables
from bench.aims.users import Array, Mask, Users, effects_FN, lists, users_of
from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, OPERATION_ADD, Control, ItemSet
from steersman_service.api.release import Release
from steersman_service.bundle.items import Items
from steersman_service.engine.engine import Engine
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.engine.request import Edits
from steersman_service.settings import load_settings

SET_SIZE, SETS = 10, 7
WORDS = {
    "Animation": ["aladdin dumbo pinocchio"],
    "Horror": ["nightmare on halloween", "dracula, frankenstein, vampire"],
    "Musical": ["the sound of music"],
    "Sci-Fi": ["alien planet", "star trek"],
    "War": ["platoon, full metal jacket"],
    "Western": ["wyatt earp, tombstone"],
}
"""Words of titles: nothing else of the bundle names these genres."""
STRENGTHS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.6, 3.4)
COSTS = (0.02, 0.05, 0.1)
"""Parts of NDCG@10 that are given up."""


class Curve(NamedTuple):
    genre: str
    query: str
    """"items", "words" or "concept"."""
    rises: tuple[float, ...]
    """Of the genre's share of the top ten, the most at each of COSTS."""


def curves(hidden: Path, full: Path, tables: Tables, users: int) -> list[Curve]:
    engines = [load_engine(folder.resolve(), EngineOptions(threads=1)) for folder in (hidden, full)]
    blind, trained = ((engine, users_of(engine, tables, users)) for engine in engines)
    return [*_queries(*blind, tables), *_concepts(*trained, tables)]


def members(tables: Tables, genre: str, items: Items) -> Mask:
    of_genre = {row["item_id"] for row in tables.items.to_dicts() if genre in (row["genres"] or ())}
    return np.array([item_id in of_genre for item_id in items.ids])


def _queries(engine: Engine, users: Users, tables: Tables) -> Iterator[Curve]:
    release, effect_FN = Release.of(engine.bundle, load_settings(metrics="off")), effects_FN(engine.bundle)
    for number, genre in enumerate(HIDDEN):
        member_N, rng = members(tables, genre, release.items), np.random.default_rng(number)
        drawn = [rng.choice(np.flatnonzero(member_N), SET_SIZE, replace=False) for _ in range(SETS)]
        sets = [ItemSet(item_ids=[release.items.ids[row] for row in rows]) for rows in drawn]
        asked = [("items", Control(items=each)) for each in sets] + [("words", Control(words=w)) for w in WORDS[genre]]
        for kind, control in asked:
            control.operation, control.strength = OPERATION_ADD, 1.0
            parsed = release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [control])
            edits = parsed.controls[0].applied.edits
            added_N = sum((edit.strength * effect_FN[edit.feature_id] for edit in edits), np.zeros(len(member_N)))
            yield Curve(genre, kind, _rises(users, member_N, partial(np.multiply, added_N)))


def _concepts(engine: Engine, users: Users, tables: Tables) -> Iterator[Curve]:
    names, effect_FN = engine.bundle.concepts["name"].to_pylist(), effects_FN(engine.bundle)
    for genre in HIDDEN:
        row, member_N = names.index(f"genres:{genre}"), members(tables, genre, Items(engine.bundle.items))

        def added(strength: float, row: int = row) -> Array:
            """Solved for each user, as a request is."""
            asked = [
                one._replace(concepts_C=np.array([row]), concept_strengths_C=np.array([strength], np.float32))
                for one in users.requests
            ]
            results = [result for i in range(0, len(asked), 64) for result in engine.run(asked[i : i + 64])]
            return np.stack([_added(result.concept_edits, effect_FN) for result in results])

        yield Curve(genre, "concept", _rises(users, member_N, added))


def _added(edits: Sequence[Edits], effect_FN: Array) -> Array:
    added_N: Array = sum(
        (each.strengths_E @ effect_FN[each.features_E] for each in edits), np.zeros(effect_FN.shape[1])
    )
    return added_N


def _rises(users: Users, member_N: Mask, added: Callable[[float], Array]) -> tuple[float, ...]:
    plain = lists(users, 0.0, member_N)
    steered = [lists(users, added(strength), member_N) for strength in STRENGTHS]
    points = [(1.0, 0.0), *((each.ndcg / plain.ndcg, each.share - plain.share) for each in steered)]
    return tuple(max(rise for kept, rise in points if kept >= 1 - cost) for cost in COSTS)


def summary(found: list[Curve]) -> dict[str, Any]:
    """Mean rises at each cost: over genres of the means of each, so that no genre counts more."""
    kinds = {}
    for kind in ("items", "words", "concept"):
        by_genre = [[one.rises for one in found if (one.genre, one.query) == (genre, kind)] for genre in HIDDEN]
        kinds[kind] = {
            "queries": sum(map(len, by_genre)),
            **{
                f"rise_at_{cost:g}": float(np.mean([np.mean(rises, axis=0)[place] for rises in by_genre]))
                for place, cost in enumerate(COSTS)
            },
            "by_genre": {
                g: np.mean(rises, axis=0).round(4).tolist() for g, rises in zip(HIDDEN, by_genre, strict=True)
            },
        }
    return kinds
