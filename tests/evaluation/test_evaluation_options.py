"""The options of the group evaluation."""

from pathlib import Path
from typing import cast

import pytest
from omegaconf import OmegaConf

from irexp.evaluation.comparison import Significance
from irexp.evaluation.measures import Measured, parse_measures
from irexp.evaluation.table import Result, make_table

FOLDER = Path(__file__).parents[2] / "conf" / "evaluation"


@pytest.mark.parametrize("option", ["default", "msmarco", "trec_dl", "beir"])
def test_every_option_makes_a_table(option: str) -> None:
    """A misspelt measure, test or correction in an option would fail only after search."""
    config = cast(dict[str, object], OmegaConf.to_container(OmegaConf.load(FOLDER / f"{option}.yaml")))
    assert set(config) == {"measures", "significance", "permutations", "correction", "alpha"}
    names = cast(list[str], config["measures"])
    assert [str(measure) for measure in parse_measures(names)] == names
    measured = Measured({name: {"1": 0.5, "2": 1.0} for name in names}, dict.fromkeys(names, 0.75), 0, 0)
    table = make_table(
        [Result("a", measured), Result("b", measured)],
        names,
        test=Significance(
            cast(str, config["significance"]),
            cast(float, config["alpha"]),
            cast(str, config["correction"]),
            cast(int, config["permutations"]),
        ),
    )
    assert [column.measure for column in table.columns] == names


def test_every_option_is_tested() -> None:
    """A new option must be added to the test above."""
    assert sorted(path.stem for path in FOLDER.iterdir()) == ["beir", "default", "msmarco", "trec_dl"]
