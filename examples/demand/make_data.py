"""Makes data/demand.csv: hourly demand (MW) and temperature (°C) of a town that does not exist.

Demand follows the hour of the day, falls at week-ends and on holidays, and rises when it is cold. The generator is Python's
own, whose sequence is the same in every version, so the file can be made again byte for byte: `python make_data.py`.
"""

import csv
import math
import random
from datetime import datetime, timedelta
from pathlib import Path

START = datetime(2025, 9, 1)
WEEKS = 20
HOLIDAYS = {"2025-10-03", "2025-12-25", "2025-12-26", "2026-01-01"}
SEED = 7071


def readings(seed=SEED, weeks=WEEKS):
    """Yields (time, temperature, holiday, demand) for each hour."""
    generator = random.Random(seed)
    weather = 0.0
    for hour in range(weeks * 7 * 24):
        time = START + timedelta(hours=hour)
        # The weather of an hour is close to that of the hour before.
        weather = 0.97 * weather + generator.gauss(0, 0.9)
        season = 10 + 8 * math.cos(math.pi * hour / (20 * 7 * 24))
        temperature = season + 4 * math.sin(2 * math.pi * (time.hour - 9) / 24) + weather
        holiday = time.date().isoformat() in HOLIDAYS
        demand = expected_demand(time, temperature, holiday) * generator.gauss(1, 0.02)
        yield time, round(temperature, 1), holiday, round(demand, 2)


def expected_demand(time, temperature, holiday):
    day = 34 + 9 * math.sin(2 * math.pi * (time.hour - 8) / 24) + 5 * math.sin(4 * math.pi * (time.hour - 6) / 24)
    quiet = 0.82 if holiday or time.weekday() == 6 else 0.9 if time.weekday() == 5 else 1.0
    heating = 0.9 * max(0.0, 15 - temperature)
    return day * quiet + heating


def main():
    path = Path(__file__).parent / "data" / "demand.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["time", "temperature", "holiday", "demand"])
        for time, temperature, holiday, demand in readings():
            writer.writerow([time.isoformat(sep=" "), temperature, int(holiday), demand])


if __name__ == "__main__":
    main()
