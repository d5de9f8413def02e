"""The progress of a run as plain lines."""

import pytest

from steersman_training.display import RichDisplay
from steersman_training.recommender.fit import Progress


@pytest.mark.parametrize(
    ("total", "wanted"),
    [(1, ["1/1"]), (6, [f"{n}/6" for n in range(1, 7)]), (11, ["2/11", "4/11", "6/11", "8/11", "10/11", "11/11"])],
)
def test_a_stage_takes_few_lines(capsys: pytest.CaptureFixture[str], total: int, wanted: list[str]) -> None:
    with RichDisplay() as display:
        display.stage("anchored features")
        for done in range(1, total + 1):
            display.step(done, total)
        said = capsys.readouterr().err.splitlines()
    assert said == ["anchored features ...", *(f"  {line}" for line in wanted)]


def test_what_was_not_validated_yet_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    with RichDisplay() as display:
        display.stage("recommender")
        display.recommender(Progress(1, 2, 6.1, None, 3.0))
        display.recommender(Progress(2, 2, 5.9, 0.0, 0.0))
        said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "  1/2  loss 6.100  valid NDCG@10 -  3 s left",
        "  2/2  loss 5.900  valid NDCG@10 0.0000  0 s left",
    ]
