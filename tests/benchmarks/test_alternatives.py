"""What the scripts measure against: limits, floors and the seed's ways, counted by hand."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

import batches
import encode
import prepare
import smoothing
import step
from made import write_rows
from rivals import Batch, operations


def test_the_limit_of_prepare_is_the_slowest_of_reading_writing_and_decoding() -> None:
    found = {
        prepare.READ: [100.0, 50.0, 100.0],
        prepare.WRITE: [200.0, 200.0, 40.0],
        prepare.decoding_of(2): [80.0, 90.0, 90.0],
        prepare.speed_of(2): [40.0, 25.0, 20.0],
    }
    figures = prepare.against_limits(found, 2, 0.5)
    shares = figures["2 processes: share of the slowest limit (reading, writing, decoding)"]
    assert shares == [40 / 80, 25 / 50, 20 / 40]
    minutes = figures["2 processes: projection for 123 GB, minutes"]
    assert minutes == pytest.approx([123_000 / 20 / 60, 123_000 / 12.5 / 60, 205])


@pytest.mark.slow
def test_prepare_is_measured_beside_its_limits_in_the_same_round(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [prepare.__file__])
    write_rows(tmp_path / "rows.tsv", 30, regions=7)
    prepare.measure_together(tmp_path / "rows.tsv", tmp_path, 30, 1)
    entry = json.loads(results.read_text())
    assert entry["question"].startswith("prepare: 30 rows")
    figures = entry["figures"]
    for processes in (1, os.cpu_count() or 1):
        assert len(figures[prepare.speed_of(processes)]) == 1
        assert len(figures[prepare.decoding_of(processes)]) == 1
        share = figures[
            f"{prepare.counted(processes)}: share of the slowest limit (reading, writing, decoding)"
        ]
        assert all(0 < one < 1 for one in share)
    assert len(figures[prepare.READ]) == len(figures[prepare.WRITE]) == 1


def test_both_ways_of_smoothing_are_timed_equally_often() -> None:
    figures = smoothing.pool(30, 4)
    ours, tree, ratio = figures.values()
    assert isinstance(ours, list)
    assert isinstance(tree, list)
    assert len(ours) == len(tree) == 4
    assert ratio == [their / our for their, our in zip(tree, ours, strict=True)]


def test_the_error_of_a_cosine_is_known_far_below_its_rounding() -> None:
    angles = np.array([0.0, 1e-7, 1e-4, 0.1, math.pi])
    found = np.stack([3 * np.cos(angles), 3 * np.sin(angles)], axis=1)
    wanted = np.tile(np.array([0.5, 0.0]), (5, 1))
    errors = encode.cosine_errors(found, wanted)
    assert errors == pytest.approx(2 * np.sin(angles / 2) ** 2, rel=1e-6, abs=0)
    assert errors[3] == pytest.approx(1 - math.cos(0.1))


def test_the_seeds_collate_pads_to_forty_regions_of_float64() -> None:
    lengths = [2, 45, 1]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = np.arange(48 * 3, dtype=np.float16).reshape(48, 3)
    out = batches.collated(values, offsets, np.array([2, 0, 1]))
    assert out.shape == (3, 40, 3)
    assert out.dtype == np.float64
    assert np.array_equal(out[0, 0], values[47])
    assert not out[0, 1:].any()
    assert np.array_equal(out[1, :2], values[:2])
    assert np.array_equal(out[2], values[2:42])


@pytest.mark.slow
def test_every_way_of_reading_batches_is_measured_in_the_same_run(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.argv", [batches.__file__, "--products", "600", "--seconds", "0.2", "--rounds", "1"]
    )
    batches.main()
    entries = [json.loads(line) for line in results.read_text().splitlines()]
    assert [entry["question"] for entry in entries] == [
        f"training batches of 512 pairs from 600 products, {state}" for state in ("warm", "cold")
    ]
    for entry in entries:
        assert all(entry["figures"][f"{way}: rows/s"][0] > 0 for way in batches.WAYS)
        assert entry["figures"]["mapped: times faster than the seed's collate"][0] > 1


def test_the_share_of_the_floor_takes_the_best_rate_of_the_round() -> None:
    work = operations(Batch.drawn(8))
    ours = {"seconds": 2.0, "GB": 1.0, "load": 0.0, "rate": work}
    found = {"ours": [ours] * 3, "seed, padded": [{**ours, "seconds": 20.0, "rate": 2 * work}] * 3}
    figures = step.figures(found, 8)
    assert figures[step.FLOOR_SHARE] == pytest.approx([0.25] * 3)
    more = operations(Batch.drawn(8), whole_last_layer=True) / work
    assert 1.1 < more < 1.3
    assert figures[step.PACKED_SHARE] == pytest.approx([0.25 * more] * 3)
    assert figures["times faster than seed, padded"] == pytest.approx([10.0] * 3)
