"""Ridge regression on standardised features, small enough to read and to store as JSON."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from demand.features import TARGET


@dataclass(frozen=True)
class DemandModel:
    columns: list
    means: list
    scales: list
    weights: list
    intercept: float

    def predict(self, features):
        """Forecast in MW for each row."""
        standardised = (features[self.columns].to_numpy() - np.array(self.means)) / np.array(self.scales)
        return standardised @ np.array(self.weights) + self.intercept

    def save(self, path):
        with open(path, "w") as file:
            json.dump(asdict(self), file, indent=2)

    @classmethod
    def load(cls, path):
        with open(path) as file:
            return cls(**json.load(file))


def fit(training, ridge):
    """Fits the model; `ridge` is the strength of the pull towards zero, in units of rows."""
    columns = [column for column in training.columns if column != TARGET]
    values, target = training[columns].to_numpy(), training[TARGET].to_numpy()
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales == 0] = 1.0
    standardised = (values - means) / scales
    intercept = target.mean()
    normal = standardised.T @ standardised + ridge * np.eye(len(columns))
    weights = np.linalg.solve(normal, standardised.T @ (target - intercept))
    return DemandModel(columns, means.tolist(), scales.tolist(), weights.tolist(), float(intercept))
