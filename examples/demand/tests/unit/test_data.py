"""The data file and the script that makes it belong together."""

from pathlib import Path

import make_data

DATA = Path(make_data.__file__).parent / "data" / "demand.csv"


def test_data_file_is_what_the_script_makes():
    rows = DATA.read_text().splitlines()
    assert len(rows) == 1 + make_data.WEEKS * 7 * 24
    made = [
        f"{time.isoformat(sep=' ')},{temperature},{int(holiday)},{demand}" for time, temperature, holiday, demand in make_data.readings()
    ]
    assert rows[1:] == made
