"""Item sets and words, solved into features: what they come down to, and what is refused."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, OPERATION_ADD, OPERATION_SET, Control, FeatureRef, ItemSet
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.settings import load_settings
from steersman_service.steering.aims import Aims
from steersman_service.steering.control import ParsedControl
from steersman_service.steering.targets import MAX_SET_ITEMS
from steersman_service.steering.words import folded_words, singular


@pytest.fixture(scope="module")
def release(bundle: Bundle) -> Release:
    return Release.of(bundle, load_settings())


def parse(release: Release, control: Control) -> ParsedControl:
    control.operation = control.operation or OPERATION_ADD
    (parsed,) = release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [control]).controls
    return parsed


def like(*item_ids: str, strength: float = 1.0) -> Control:
    return Control(items=ItemSet(item_ids=item_ids), strength=strength)


def of_genre(release: Release, genre: str) -> list[str]:
    rows = release.bundle.items["genres"].to_pylist()
    return [item_id for item_id, genres in zip(release.items.ids, rows, strict=True) if genres == [genre]]


def added_N(release: Release, parsed: ParsedControl) -> np.ndarray:
    """What a control adds to the scores of items."""
    bundle, features = release.bundle, release.catalogue.features
    assert bundle.decoder_FD is not None
    step_D = sum(
        e.strength * features[e.feature_id].scale * bundle.decoder_FD[e.feature_id] for e in parsed.applied.edits
    )
    change_N: np.ndarray = bundle.items_ND @ step_D
    return change_N


@pytest.mark.parametrize("genre", ["Comedy", "Crime", "Horror", "War"])
def test_a_few_items_of_a_genre_raise_the_others_too(release: Release, genre: str) -> None:
    members = of_genre(release, genre)
    parsed = parse(release, like(*members[:5]))
    assert not parsed.problems
    assert 1 <= len(parsed.applied.edits) <= 8
    change_N = added_N(release, parsed)
    rows, others = (
        release.items.rows(members[5:]),
        release.items.rows(of_genre(release, "War" if genre != "War" else "Crime")),
    )
    assert change_N[rows].mean() > change_N[others].mean()
    assert change_N[rows].mean() > change_N.mean() + 0.5 * change_N.std()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.integers(0, 59), min_size=1, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_order_and_repetition_of_ids_do_not_matter(release: Release, rows: list[int], seed: int) -> None:
    chosen = [release.items.ids[row] for row in rows]
    other = chosen + Random(seed).choices(chosen, k=3)
    Random(seed).shuffle(other)
    assert parse(release, like(*chosen)).unit == parse(release, like(*other)).unit


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(strength=st.floats(-10, 10, width=32))
def test_edits_are_linear_in_the_strength(release: Release, strength: float) -> None:
    ids = of_genre(release, "Horror")[:4]
    parsed = parse(release, like(*ids, strength=strength))
    assert parsed.unit == parse(release, like(*ids)).unit
    wanted = [unit * strength for _, unit in parsed.unit] if strength else []
    assert [edit.strength for edit in parsed.applied.edits] == pytest.approx(wanted, rel=1e-5, abs=1e-30)


def test_strength_one_is_as_strong_as_a_typical_concept(release: Release) -> None:
    aims = release.controls.targets.aims
    spreads = [aims.spread([(t.feature_id, t.weight) for t in c.terms]) for c in release.catalogue.concepts]
    for genre in ("Comedy", "War"):
        assert aims.spread(parse(release, like(*of_genre(release, genre)[:4])).unit) == pytest.approx(
            np.median(spreads)
        )


def test_every_feature_is_used_as_it_agrees_by_itself(release: Release) -> None:
    aims = release.controls.targets.aims
    for item_id in release.items.ids:
        lift_F = aims.lift(release.items.rows([item_id]))
        for feature, strength in aims.of_items(release.items.rows([item_id])).edits:
            assert strength * lift_F[feature] > 0


def test_covariance_is_that_of_what_features_add(release: Release) -> None:
    aims = release.controls.targets.aims
    change_FN = aims.directions_FD @ release.bundle.items_ND.T
    p_N = aims.weights_N
    assert p_N.sum() == pytest.approx(1)
    centred_FN = change_FN - (change_FN @ p_N)[:, None]
    np.testing.assert_allclose(aims.covariance_FF, (centred_FN * p_N) @ centred_FN.T, rtol=1e-6, atol=1e-9)


def test_unknown_items_are_left_out_and_counted(release: Release) -> None:
    ids = of_genre(release, "Crime")[:3]
    parsed = parse(release, like(*ids, "no such item"))
    assert parsed.unit == parse(release, like(*ids)).unit
    assert list(parsed.applied.warnings) == ["1 of 4 items are unknown, and left out"]


def test_words_of_an_attribute_raise_its_items(release: Release) -> None:
    for words in ("horror", "HORROR films, 'gory'", "war"):
        parsed = parse(release, Control(words=words, strength=1))
        assert not parsed.problems, words
        genre = "Horror" if "orror" in words.lower() else "War"
        change_N = added_N(release, parsed)
        assert change_N[release.items.rows(of_genre(release, genre))].mean() > change_N.mean() + 0.5 * change_N.std()


def test_unknown_words_and_negations_are_said(release: Release) -> None:
    unknown, negated = parse(release, Control(words="gory horror, not funny", strength=1)).applied.warnings
    assert "'gory'" in unknown
    assert "'funny'" in negated
    assert "horror" not in unknown
    assert "negative strength" in negated
    war = parse(release, Control(words="horror without the wars", strength=1))
    assert war.unit == parse(release, Control(words="horror", strength=1)).unit


def test_years_and_decades(release: Release) -> None:
    words = release.controls.targets.words
    years = release.bundle.items["year"].to_numpy()
    assert years[words._years("1960s")].tolist() == years[words._years("60s")].tolist() == list(range(1960, 1970))
    assert years[words._years("1957")].tolist() == [1957]
    assert not len(words._years("1930s"))
    assert not len(words._years("64"))


@pytest.mark.parametrize(
    ("control", "field", "why"),
    [
        (like(), ".items.item_ids", "0 ids; 1 to 1000 are allowed"),
        (like(*map(str, range(MAX_SET_ITEMS + 1))), ".items.item_ids", "1001 ids"),
        (like("x", "y"), ".items.item_ids", "knows none of the 2 items"),
        (Control(words=" ", strength=1), ".words", "is empty"),
        (Control(words="é" * 129, strength=1), ".words", "258 bytes"),
        (Control(words="xyzzy", strength=1), ".words", "ListAttributes"),
        (Control(words="the", strength=1), ".words", "ListAttributes"),
        (Control(words="\x00\ufdd0", strength=1), ".words", "ListAttributes"),
        (Control(words="horror", operation=OPERATION_SET), ".operation", "takes ADD only"),
        (like("100", strength=float("nan")), ".strength", "nan is not between"),
        (like("100", strength=11), ".strength", "11 is not between"),
    ],
)
def test_what_is_refused(release: Release, control: Control, field: str, why: str) -> None:
    problems = parse(release, control).problems
    assert [problem.field for problem in problems] == [field]
    assert why in problems[0].description


def test_items_that_have_nothing_in_common_are_refused_with_a_remedy(release: Release) -> None:
    (problem,) = parse(release, like(*release.items.ids)).problems
    assert problem.field == ".items"
    assert "no features of this bundle raise these items alone" in problem.description
    assert "a filter" in problem.description


def test_a_bundle_below_the_last_block_has_no_aims(below_the_last_block: Path) -> None:
    release = Release.of(load_bundle(below_the_last_block, "onnx"), load_settings())
    (problem,) = parse(release, Control(words="horror", strength=1)).problems
    assert "after block 1 of 2" in problem.description


def test_a_large_set_is_kept_as_a_small_one_is(release: Release) -> None:
    control = like(*of_genre(release, "War"), *("x" * 30 + str(n) for n in range(100)))
    assert control.ByteSize() > 1000
    assert parse(release, control) is parse(release, control)


def test_controls_that_undo_or_double_each_other_are_warned_of(release: Release) -> None:
    other = Control(concept="genres:War", operation=OPERATION_ADD, strength=0.1)

    def ask(strength: float) -> Control:
        return Control(concept="genres:Horror", operation=OPERATION_ADD, strength=strength)

    for strength, word in ((0.8, "double"), (-0.8, "undo")):
        steering = release.controls.steer(
            release.controls.parse("session.controls", CONTROL_SOURCE_REQUEST, [ask(strength)]),
            release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [ask(0.5)]),
        )
        first, second = steering.applied
        assert not first.warnings
        (warning,) = second.warnings
        assert word in warning
        assert "session.controls[0]" in warning
    parsed = release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [ask(0.5), other])
    assert not any(each.warnings for each in release.controls.steer(parsed).applied)
    assert not any(control.applied.warnings for control in parsed.controls)


def test_a_feature_twice_is_a_double_and_set_is_not_judged(release: Release) -> None:
    feature = FeatureRef(id=64, bundle_version=release.version)
    add = Control(feature=feature, operation=OPERATION_ADD, strength=0.5)
    fixed = Control(feature=feature, operation=OPERATION_SET, strength=0.5)
    for other, warned in ((add, 1), (fixed, 0)):
        parsed = release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [add, other])
        assert len(release.controls.steer(parsed).applied[1].warnings) == warned


def test_two_features_are_warned_of_exactly_where_what_they_add_is_alike_or_opposed(release: Release) -> None:
    aims = Aims(release.bundle, release.catalogue)
    live = [feature.id for feature in release.catalogue.features if feature.scale]
    likeness_FF = aims.covariance_FF / np.maximum(np.outer(aims.spread_F, aims.spread_F), 1e-12)
    warned = 0
    for first in live[::3]:
        for second in live:
            for strength in (0.5, -0.5):
                asked = [
                    Control(
                        feature=FeatureRef(id=id, bundle_version=release.version), operation=OPERATION_ADD, strength=by
                    )
                    for id, by in ((first, strength), (second, 0.2))
                ]
                steering = release.controls.steer(release.controls.parse("controls", CONTROL_SOURCE_REQUEST, asked))
                likeness = likeness_FF[first, second] * np.sign(strength)
                assert bool(steering.applied[1].warnings) == (likeness >= 0.8 or likeness <= -0.6)
                warned += bool(steering.applied[1].warnings)
    assert warned > len(live)


def test_words_are_folded() -> None:
    assert folded_words("L'Été, VAMPIRES & 90s") == ["lete", "vampires", "90s"]
    assert [*map(singular, ("comedies", "vampires", "90s", "kiss", "gas"))] == [
        "comedy",
        "vampire",
        "90s",
        "kiss",
        "gas",
    ]
