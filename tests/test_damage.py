"""Every damage to a sample: `tests/damage.py` goes through all of them, and goes on where it was stopped."""

from __future__ import annotations

from .damage import campaign, objects, sample


def test_it_goes_on_where_it_was_stopped_with_the_same_sample(tmp_path):
    assert campaign(tmp_path, 1, 400, most=20).total() == 20
    before = objects(sample(tmp_path))
    assert campaign(tmp_path, 1, 400, most=20).total() == 40
    assert objects(sample(tmp_path)) == before
