import numpy as np
import pandas as pd
import pytest

from demand.features import TARGET
from demand.measures import mean_absolute_error, skill
from demand.model import DemandModel, fit


@pytest.fixture
def line():
    x = np.arange(100, dtype=float)
    return pd.DataFrame({"x": x, "constant": 1.0, TARGET: 3 * x + 5})


def test_a_line_is_found(line):
    assert mean_absolute_error(line[TARGET], fit(line, ridge=0.0001).predict(line)) < 0.01


def test_a_strong_ridge_pulls_towards_the_mean(line):
    forecast = fit(line, ridge=1e9).predict(line)
    assert np.allclose(forecast, line[TARGET].mean(), atol=0.1)


def test_a_stored_model_forecasts_the_same(line, tmp_path):
    model = fit(line, ridge=1.0)
    model.save(tmp_path / "model.json")
    assert np.array_equal(DemandModel.load(tmp_path / "model.json").predict(line), model.predict(line))


def test_skill_compares_with_the_reference():
    assert skill(1.0, 4.0) == 0.75
    assert skill(4.0, 4.0) == 0.0
    with pytest.raises(ValueError):
        skill(1.0, 0.0)
