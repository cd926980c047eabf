"""How wrong a forecast is, and whether it was worth the trouble."""

import numpy as np


def mean_absolute_error(actual, forecast):
    """Average distance in the unit of the values."""
    return float(np.mean(np.abs(np.asarray(actual) - np.asarray(forecast))))


def skill(error, reference_error):
    """Share of the reference's error that the forecast avoids: 1 is perfect, 0 is no better, below 0 is worse."""
    if reference_error <= 0:
        raise ValueError("the reference is already perfect")
    return 1 - error / reference_error
