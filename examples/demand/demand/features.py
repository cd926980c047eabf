"""From hourly readings to what the model sees. Nothing here may look further ahead than the evening before."""

import numpy as np
import pandas as pd

TARGET = "demand"
# A forecast for tomorrow is made today: the youngest demand that is known is 24 hours old.
LAGS_HOURS = (24, 48, 168)


def read_readings(path):
    """Reads the CSV, sorted by time and with every hour present; a gap is an error that names the missing hours."""
    frame = pd.read_csv(path, parse_dates=["time"]).sort_values("time").set_index("time")
    expected = pd.date_range(frame.index[0], frame.index[-1], freq="h")
    missing = expected.difference(frame.index)
    if len(missing) > 0:
        raise ValueError(f"{len(missing)} hours are missing, the first is {missing[0]}")
    return frame


def build_features(readings):
    """One row for each hour that has all its lags; columns are the features and the target."""
    hour = readings.index.hour
    weekday = readings.index.weekday
    features = pd.DataFrame(index=readings.index)
    for wave in (1, 2):
        features[f"day_sin_{wave}"] = np.sin(2 * np.pi * wave * hour / 24)
        features[f"day_cos_{wave}"] = np.cos(2 * np.pi * wave * hour / 24)
    features["saturday"] = (weekday == 5).astype(float)
    features["quiet_day"] = ((weekday == 6) | (readings["holiday"] == 1)).astype(float)
    features["heating"] = (15 - readings["temperature"]).clip(lower=0)
    for lag in LAGS_HOURS:
        features[f"demand_{lag}h_ago"] = readings[TARGET].shift(lag)
    features[TARGET] = readings[TARGET]
    return features.dropna()


def split_by_time(features, holdout_days):
    """The last days are kept for the examination: (training, holdout)."""
    if holdout_days < 1:
        raise ValueError(f"holdout_days must be at least 1, not {holdout_days}")
    border = features.index[-1] - pd.Timedelta(days=holdout_days)
    training, holdout = features[features.index <= border], features[features.index > border]
    if len(training) == 0:
        raise ValueError(f"nothing is left for training with holdout_days={holdout_days}")
    return training, holdout
