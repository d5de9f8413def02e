"""How features, concepts and edits read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steersman.v1.control_pb2 import OPERATION_ADD, AppliedControl, AttributeRef, Control, FeatureEdit, FeatureRef
from steersman_service.bundle.bundle import Bundle
from steersman_service.cli.display import applied_control
from steersman_service.cli.main import make_app
from tests.service.bundle.kinds import as_older, listed, with_kinds
from tests.serving import Running, serving, settings_for


@pytest.fixture(scope="module")
def told(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("told")
    with serving(settings_for(folder, with_kinds(bundle_dir, folder))) as running:
        yield running


def steersman(server: Running, *arguments: str) -> Result:
    done = CliRunner().invoke(make_app(), [*arguments, "--address", f"127.0.0.1:{server.ports.grpc}"])
    assert done.exit_code == 0, done.output
    return done


def rows(table: str) -> list[list[str]]:
    """The cells of each row, without the titles."""
    lines = [line for line in table.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_features_show_their_kind_and_the_clear_ones_come_first(told: Running, bundle: Bundle) -> None:
    done = steersman(told, "features", "--limit", "1000")
    shown = rows(done.stdout)
    assert [row[0] for row in shown] == [f"f{feature}" for feature in listed(bundle.manifest.shape.features)]
    assert [row[1:4] for row in shown[:2]] == [["discovered", "Horror", "yes"], ["anchored", "Horror", "yes"]]
    assert shown[6][1:4] == ["discovered", "no clear meaning", "no"]
    assert "--all lists them, too" in done.stderr


def test_all_lists_rare_features(told: Running, bundle: Bundle) -> None:
    count = bundle.manifest.shape.features
    done = steersman(told, "features", "--limit", "1000", "--all")
    assert [row[0] for row in rows(done.stdout)] == [f"f{feature}" for feature in listed(count, rare=True)]
    assert f"{count} of {count} features" in done.stdout
    assert "--all" not in done.stderr


def test_unclear_features_of_older_bundles_read_the_same(bundle_dir: Path, bundle: Bundle, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, as_older(bundle_dir, tmp_path))) as server:
        shown = rows(steersman(server, "features", "--limit", "1000", "--all").stdout)
    labels = {
        f"f{feature['feature']}": feature["label"] if feature["description"] else "no clear meaning"
        for feature in bundle.features.to_pylist()
    }
    assert {row[0]: row[1:3] for row in shown} == {feature: ["", label] for feature, label in labels.items()}


def test_concepts_beyond_the_natural_range(told: Running) -> None:
    shown = {row[0]: row[-1] for row in rows(steersman(told, "features", "--concepts").stdout)}
    assert shown["genres:Horror"] == "needs 2.6 times its natural maximum"
    assert {needs for name, needs in shown.items() if name != "genres:Horror"} == {""}


def test_a_recommendation_reads_its_edits(told: Running, bundle: Bundle) -> None:
    shown = steersman(told, "recommend", "--control", "f3:add=0.8", "--control", "f60=-2.5", "--control", "f5=0").stdout
    units: list[float] = bundle.features["unit_up"].to_pylist()  # type: ignore[assignment]
    assert f"feature 3 = 0.8: Horror (f3) {0.8 * units[3]:+.2g}\n" in shown
    assert "feature 60 = -2.5: Horror (f60) -2.5; beyond its natural range\n" in shown
    assert "feature 5 = 0: nothing to change\n" in shown


def edit(feature: int, strength: float, gain: float = 1.0) -> FeatureEdit:
    beyond = abs(strength) > 2
    return FeatureEdit(feature_id=feature, label="Gore", gain=gain, strength=strength, beyond_natural=beyond)


@pytest.mark.parametrize(
    ("edits", "read"),
    [
        ([edit(1, 1.3)], "Gore (f1) +1.3"),
        ([edit(1, 1.2649)], "Gore (f1) +1.26"),
        ([edit(1, 2.6)], "Gore (f1) +2.6; beyond its natural range"),
        ([edit(1, -2.6), edit(2, 0.4)], "Gore (f1) -2.6, Gore (f2) +0.4; beyond their natural range: f1"),
        ([edit(1, 0, gain=2)], "Gore (f1) ×2"),
        ([edit(1, 0, gain=0)], "Gore (f1) ×0"),
        ([edit(1, 0.5, gain=0)], "Gore (f1) ×0 +0.5"),
        (
            [edit(feature, 3) for feature in range(7)],
            "Gore (f0) +3, Gore (f1) +3, Gore (f2) +3, Gore (f3) +3, Gore (f4) +3 and 2 more; "
            "beyond their natural range: f0, f1, f2, f3, f4 and 2 more",
        ),
    ],
)
def test_edits_of_a_concept_on_a_line(edits: list[FeatureEdit], read: str) -> None:
    control = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.5)
    assert applied_control(AppliedControl(control=control, edits=edits)) == f"genres:Horror = 0.5: {read}"


def test_a_tilt_has_no_edits() -> None:
    tilt = Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=0.5)
    assert applied_control(AppliedControl(control=tilt)) == "tilt genres:War = 0.5"
    feature = Control(feature=FeatureRef(id=7), operation=OPERATION_ADD)
    assert applied_control(AppliedControl(control=feature)) == "feature 7 = 0: nothing to change"
