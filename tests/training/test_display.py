"""The progress of a run as plain lines."""

import pytest

from steersman_training.display import RichDisplay


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
