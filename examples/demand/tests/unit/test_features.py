from pathlib import Path

import pandas as pd
import pytest

from demand.features import LAGS_HOURS, TARGET, build_features, read_readings, split_by_time

DATA = Path(__file__).parents[2] / "data" / "demand.csv"


@pytest.fixture(scope="module")
def features():
    return build_features(read_readings(DATA))


def test_lags_are_the_demand_of_that_many_hours_ago(features):
    for lag in LAGS_HOURS:
        hour = features.index[500]
        assert features.loc[hour, f"demand_{lag}h_ago"] == features.loc[hour - pd.Timedelta(hours=lag), TARGET]


def test_no_feature_knows_the_demand_of_its_own_day():
    readings = read_readings(DATA)
    last = readings.index[-1]
    changed = readings.copy()
    changed.loc[last, TARGET] += 1000
    columns = [column for column in build_features(readings).columns if column != TARGET]
    assert build_features(changed).loc[last, columns].equals(build_features(readings).loc[last, columns])


def test_holiday_counts_as_quiet_day(features):
    assert features.loc["2025-10-03 12:00", "quiet_day"] == 1
    assert features.loc["2025-10-02 12:00", "quiet_day"] == 0


def test_missing_hour_is_named(tmp_path):
    lines = DATA.read_text().splitlines()
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(lines[:10] + lines[11:]))
    with pytest.raises(ValueError, match="2025-09-01 09:00:00"):
        read_readings(path)


def test_split_keeps_the_order_of_time(features):
    training, holdout = split_by_time(features, 7)
    assert training.index[-1] < holdout.index[0]
    assert len(holdout) == 7 * 24
    with pytest.raises(ValueError, match="nothing is left"):
        split_by_time(features, 10_000)
