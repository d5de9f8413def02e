"""Composition: the greedy choice, its checks, and what it asks of the engine."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import AttributeRef, ItemSet
from steersman.v1.recommendation_service_pb2 import Composition, Filters, LeastShare, MostPerValue
from steersman_service.bundle.items import Categories, Items
from steersman_service.engine.request import EngineRequest
from steersman_service.steering.arrange import Cap, Share, arrange
from steersman_service.steering.composition import check_composition, joined, plan

NAN = float("nan")


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `arrange`: up to 20 candidates, single or several values for each."""
    count = draw(st.integers(1, 20))
    scores = sorted(draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count)), reverse=True)

    def masks(least: int) -> st.SearchStrategy[Any]:
        return st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=least, max_size=4)

    caps = [
        Cap(f"attribute {n}", draw(st.integers(1, 4)), [f"v{v}" for v in range(len(has))], np.array(has))
        for n, has in enumerate(draw(st.lists(masks(1), max_size=2)))
    ]
    shares = [Share(f"share {n}", draw(st.integers(0, 4)), np.array(has)) for n, has in enumerate(draw(masks(0)))]
    return {
        "scores_M": np.array(scores, np.float32),
        "k": draw(st.integers(1, 12)),
        "pinned": draw(st.lists(st.integers(0, count - 1), unique=True, max_size=3)),
        "caps": caps,
        "shares": shares,
        "diversity": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "vectors_MD": np.array(draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=count, max_size=count))),
    }


@given(cases())
@settings(deadline=None, max_examples=300)
def test_what_a_list_holds(case: dict[str, Any]) -> None:
    found = arrange(**case)
    places, count = found.places_K.tolist(), len(case["scores_M"])
    assert len(places) == len(set(places)) == min(case["k"], count)
    assert set(places) <= set(range(count))
    pinned = case["pinned"][: case["k"]]
    assert places[: len(pinned)] == pinned
    rest = places[len(pinned) :]
    # A cap is exceeded only where every candidate left exceeds one.
    for index, place in enumerate(rest, len(pinned)):
        if exceeds(case["caps"], places[:index], place):
            assert all(
                exceeds(case["caps"], places[:index], other) for other in set(range(count)) - set(places[:index])
            )
    over = [any(cap.has_VM[:, places].sum(axis=1) > cap.most) for cap in case["caps"]]
    assert len(found.exceeded) == sum(over)
    short = [share.has_M[places].sum() < share.wanted for share in case["shares"]]
    assert len(found.short) == sum(short)
    if not case["caps"] and len(case["shares"]) == 1:
        # A share is short only where the set, or the room beside pinned items, is too small.
        (share,) = case["shares"]
        have = share.has_M[pinned].sum()
        possible = min(share.has_M.sum(), have + len(rest))
        assert share.has_M[places].sum() >= min(share.wanted, possible)
    if not (pinned or case["caps"] or case["shares"] or case["diversity"]):
        assert places == list(range(len(places)))
    if not (case["diversity"] or case["caps"]) and len(case["shares"]) <= 1:
        assert rest == sorted(rest)  # best first


def exceeds(caps: list[Cap], places: list[int], place: int) -> bool:
    return any((cap.has_VM[:, place] & (cap.has_VM[:, places].sum(axis=1) >= cap.most)).any() for cap in caps)


def test_diversity_is_maximal_marginal_relevance() -> None:
    scores_M = np.array([3.0, 2.9, 2.5, 1.0])
    vectors_MD = np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [-3.0, -3.0]])
    for diversity, wanted in ((0.0, [0, 1, 2, 3]), (0.5, [0, 2, 3, 1]), (1.0, [0, 3, 2, 1])):
        assert arrange(scores_M, 4, diversity=diversity, vectors_MD=vectors_MD).places_K.tolist() == wanted
    same = arrange(np.zeros(3), 3, diversity=0.5, vectors_MD=np.zeros((3, 2)))
    assert same.places_K.tolist() == [0, 1, 2]


def test_notes_say_what_is_short() -> None:
    has_VM = np.array([[True] * 5, [False, False, True, True, True]])
    cap = Cap("genres", 2, ["Drama", "Horror"], has_VM)
    share = Share("genres:War", 2, np.array([False, False, False, False, True]))
    found = arrange(np.arange(5.0)[::-1], 4, caps=[cap], shares=[share])
    assert found.exceeded == ["most 2 for each of genres: the list has Drama 4"]
    assert found.short == ["least share of genres:War: 1 of 4 items, 2 wanted"]


def test_values_among_rows(items: Items) -> None:
    column = items.attributes["genres"]
    assert isinstance(column, Categories)
    rows = np.array([40, 3, 17], np.int64)
    values, has_VM = column.among(rows)
    assert has_VM.any(axis=1).all()
    for value in values:
        np.testing.assert_array_equal(has_VM[values.index(value)], column.having([value], len(items))[rows])
    assert column.among(rows[:0])[1].shape == (0, 0)


def horror(share: float) -> LeastShare:
    return LeastShare(attribute=AttributeRef(name="genres", value="Horror"), share=share)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"diversity": NAN}, "composition.diversity", "nan is not between"),
    ({"diversity": -0.1}, "composition.diversity", "between"),
    ({"diversity": 1.5}, "composition.diversity", "between"),
    ({"diversity": math.inf}, "composition.diversity", "between"),
    ({"most_per_value": [MostPerValue(attribute="genre", most=1)]}, "composition.most_per_value[0].attribute", "did you mean genres"),
    ({"most_per_value": [MostPerValue(attribute="year", most=1)]}, "composition.most_per_value[0].attribute", "numeric"),
    ({"most_per_value": [MostPerValue(attribute="genres")]}, "composition.most_per_value[0].most", "at least 1"),
    ({"most_per_value": [MostPerValue(attribute="genres", most=1)] * 2}, "composition.most_per_value[1].attribute", "second"),
    ({"most_per_value": [MostPerValue(attribute="genres", most=1)] * 40}, "composition.most_per_value", "at most 32"),
    ({"pinned_item_ids": [""]}, "composition.pinned_item_ids[0]", "empty"),
    ({"pinned_item_ids": ["a", "b", "a"]}, "composition.pinned_item_ids[2]", "twice"),
    ({"pinned_item_ids": ["denied"]}, "composition.pinned_item_ids[0]", "deny_item_ids"),
    ({"pinned_item_ids": [str(n) for n in range(2000)]}, "composition", "at most 1500"),
    ({"pinned_item_ids": [str(n) for n in range(1100)]}, "composition.pinned_item_ids", "at most 1000"),
    ({"least_shares": [horror(0.6), horror(0.5)]}, "composition.least_shares", "at most 1"),
    ({"least_shares": [horror(NAN)]}, "composition.least_shares[0].share", "nan"),
    ({"least_shares": [horror(-1)]}, "composition.least_shares[0].share", "between 0 and 1"),
    ({"least_shares": [LeastShare(share=0.5)]}, "composition.least_shares[0]", "neither"),
    ({"least_shares": [LeastShare(items=ItemSet(item_ids=["?"]), share=0.5)]}, "composition.least_shares[0].items.item_ids", "knows"),
    ({"least_shares": [LeastShare(items=ItemSet(), share=0.5)]}, "composition.least_shares[0].items.item_ids", "knows"),
    (
        {"least_shares": [LeastShare(attribute=AttributeRef(name="genres", value="Horor"), share=0.5)]},
        "composition.least_shares[0].attribute.value",
        "did you mean Horror",
    ),
    (
        {"least_shares": [LeastShare(attribute=AttributeRef(name="year"), share=0.5)]},
        "composition.least_shares[0].attribute.name",
        "numeric",
    ),
    ({"least_shares": [horror(0.0)] * 33}, "composition.least_shares", "at most 32"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "field", "why"), WRONG)
def test_what_is_wrong_is_named(items: Items, fields: dict[str, Any], field: str, why: str) -> None:
    wrong = check_composition(Composition(**fields), Filters(deny_item_ids=["denied"]), items, 1500)
    assert wrong
    assert wrong[0].field == field
    assert why in wrong[0].description


def test_what_is_right(items: Items) -> None:
    third = float(np.float32(1 / 3))
    right = Composition(diversity=1.0, least_shares=[horror(third)] * 3, pinned_item_ids=["?", items.ids[0]])
    assert check_composition(right, Filters(), items, 100) == []
    wrong = check_composition(right, Filters(allow_item_ids=["?"]), items, 100)
    assert [one.field for one in wrong] == ["composition.pinned_item_ids[1]"]
    assert "allow_item_ids" in wrong[0].description


def test_a_requests_fields_replace_a_scenarios() -> None:
    scenario = Composition(diversity=0.5, pinned_item_ids=["a"], least_shares=[horror(0.2)])
    request = Composition(pinned_item_ids=["b", "c"], most_per_value=[MostPerValue(attribute="genres", most=1)])
    wanted = Composition(
        diversity=0.5,
        pinned_item_ids=["b", "c"],
        most_per_value=request.most_per_value,
        least_shares=scenario.least_shares,
    )
    assert joined(scenario, request) == wanted


def test_a_plan_in_rows(items: Items) -> None:
    eligible_N = np.ones(len(items), np.bool_)
    eligible_N[5] = False
    request = EngineRequest(np.array([], np.int64), eligible_N=eligible_N, excluded_X=np.array([6]), k=10)
    pinned = [items.ids[n] for n in (7, 5, 6, 8)]
    given = Composition(pinned_item_ids=[*pinned, "?"], least_shares=[horror(float(np.float32(0.3))), horror(0.0)])
    planned = plan(given, request, items)
    assert planned.pinned == (7, 8)
    assert len(planned.notes) == 3
    assert "does not have it" in planned.notes[2]
    assert [least.wanted for least in planned.least] == [3, 0]
    assert planned.candidates == 10
    few = plan(given, request._replace(k=1), items)
    assert (few.pinned, few.least[0].wanted) == ((7,), 1)
    assert "2 pinned items, and 1 wanted" in few.notes[-1]
    for k, candidates in ((1, 50), (10, 50), (20, 100), (500, 1000), (2000, 2000)):
        assert plan(Composition(diversity=0.1), request._replace(k=k), items).candidates == candidates
