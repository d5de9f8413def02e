"""Masks against the definition, item by item."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters
from steersman_service.bundle.items import Items
from steersman_service.steering.eligibility import check_filters, eligibility

VALUES = ["a", "b", "c"]
YEARS = [1990.0, 1991.5, -0.0]
ids = st.sampled_from([*"12345", "?"])
tables = st.lists(
    st.tuples(
        st.one_of(st.none(), st.lists(st.one_of(st.none(), st.sampled_from(VALUES)))),
        st.one_of(st.none(), st.sampled_from(YEARS)),
    ),
    min_size=5,
    max_size=5,
)
attributes = st.one_of(
    st.builds(AttributeFilter, attribute=st.just("tags"), any_of=st.lists(st.sampled_from([*VALUES, "d"]), min_size=1)),
    st.builds(
        AttributeFilter,
        attribute=st.just("year"),
        any_of=st.lists(st.sampled_from(["1990", "1.9915e3", "0", "7"]), min_size=1),
    ),
)
filters = st.builds(
    Filters,
    include_seen=st.booleans(),
    allow_item_ids=st.lists(ids),
    deny_item_ids=st.lists(ids),
    attributes=st.lists(attributes, max_size=2),
)


@pytest.mark.parametrize("list_type", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
@pytest.mark.parametrize("small_mask", [0, 5], ids=["large catalogue", "small catalogue"])
@given(
    table=tables,
    asked=filters,
    seen=st.lists(st.sampled_from("12345")),
    refused=st.lists(st.sampled_from("12345"), max_size=1),
    beside=st.one_of(st.none(), filters),
)
def test_an_item_is_eligible_if_every_condition_holds(
    list_type: pa.DataType,
    small_mask: int,
    table: list[tuple[list[str] | None, float | None]],
    asked: Filters,
    seen: list[str],
    refused: list[str],
    beside: Filters | None,
) -> None:
    tags, years = zip(*table, strict=True)
    columns = {
        "item_id": pa.array(list("12345")),
        "title": pa.array(["t"] * 5),
        "tags": pa.array(tags, list_type),
        "year": pa.array(years, pa.float64()),
        "ignored": pa.array([1] * 5),
    }
    items = Items(pa.table(columns))
    assert list(items.attributes) == ["tags", "year"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steersman_service.steering.eligibility.SMALL_MASK", small_mask)
        allowed = eligibility(asked, items.rows(seen), items, refused=items.rows(refused), beside=beside)

    def holds(row: int, condition: AttributeFilter) -> bool:
        if condition.attribute == "tags":
            return bool({*(tags[row] or ())} & {*condition.any_of})
        return years[row] in [float(value) for value in condition.any_of]

    parts = [asked, beside] if beside else [asked]
    wanted = [
        all(not part.allow_item_ids or item_id in part.allow_item_ids for part in parts)
        and not any(item_id in part.deny_item_ids for part in parts)
        and (any(part.include_seen for part in parts) or item_id not in seen)
        and item_id not in refused
        and all(holds(row, condition) for part in parts for condition in part.attributes)
        for row, item_id in enumerate("12345")
    ]
    mask_N = np.ones(5, bool) if allowed.mask_N is None else allowed.mask_N.copy()
    mask_N[allowed.excluded_X] = False
    np.testing.assert_array_equal(mask_N, wanted)
    masked = any(part.allow_item_ids or part.attributes for part in parts)
    assert (allowed.mask_N is None) == (not small_mask and not masked)
    assert len({*allowed.excluded_X.tolist()}) == len(allowed.excluded_X)
    assert allowed.eligible == sum(wanted)
    given_ids = [item_id for part in parts for item_id in (*part.allow_item_ids, *part.deny_item_ids)]
    assert allowed.unknown_ids == given_ids.count("?")


@pytest.mark.parametrize(
    ("attribute", "any_of", "wrong"),
    [
        ("tags", ["Horror"], {}),
        ("tags", ["Horror", "Horor", "no"], {"any_of[1]": "no item has 'Horor'; did you mean Horror?"}),
        ("tags", ["HOROR"], {"any_of[0]": "no item has 'HOROR'; did you mean Horror?"}),
        ("year", ["1990", "1991"], {}),
        ("year", ["1991"], {"any_of[0]": "no item has 1991; its nearest values are 1990 and 2000"}),
        ("year", ["1e9"], {"any_of[0]": "no item has 1e9; its nearest values are 2000"}),
        ("year", ["1990", "new"], {"any_of[1]": "the attribute is numeric, and 'new' is no number"}),
        ("Tag", ["x"], {"attribute": "unknown attribute 'Tag'; did you mean tags?"}),
        ("zzz", ["x"], {"attribute": "unknown attribute 'zzz'; known: tags, year"}),
    ],
)
def test_a_filter_that_no_item_passes_says_what_may_be_meant(
    attribute: str, any_of: list[str], wrong: dict[str, str]
) -> None:
    columns = {
        "item_id": pa.array(["1", "2"]),
        "title": pa.array(["", ""]),
        "tags": pa.array([["Horror"], ["War"]], pa.list_(pa.string())),
        "year": pa.array([1990.0, 2000.0]),
    }
    asked = Filters(attributes=[AttributeFilter(attribute=attribute, any_of=any_of)])
    found = check_filters(asked, Items(pa.table(columns)), 10)
    assert {field.removeprefix("filters.attributes[0]."): why for field, why in found} == wrong
