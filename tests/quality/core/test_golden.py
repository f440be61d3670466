"""The formulas against an independent implementation's numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.livekit_score import HIGHEST, followed, sfu_level
from track_server.quality.core.measuring.freezing import threshold_ms
from track_server.quality.core.scoring.picture import picture_index
from track_server.quality.core.scoring.speech import delay_impairment, mos_of, narrowband_r, speech_mos

VECTORS = json.loads(Path(__file__).with_name("quality_vectors.json").read_text())


@pytest.mark.parametrize("row", VECTORS["mos_from_r"])
def test_mos_of_a_rating(row: dict[str, Any]) -> None:
    assert mos_of(row["r"]) == pytest.approx(row["mos"], abs=0.01)


@pytest.mark.parametrize("row", VECTORS["delay_impairment_idd"])
def test_delay_impairment(row: dict[str, Any]) -> None:
    assert delay_impairment(row["ta_ms"]) == pytest.approx(row["idd"], abs=0.01)


@pytest.mark.parametrize("row", VECTORS["opus_mos"])
def test_mos_of_opus(row: dict[str, Any]) -> None:
    found = speech_mos(row["mouth_to_ear_ms"], row["loss_percent"], ie=row["ie"], bpl=row["bpl"])
    assert found == pytest.approx(row["mos"], abs=0.01)
    assert found == speech_mos(row["mouth_to_ear_ms"], row["loss_percent"])


@pytest.mark.parametrize("row", VECTORS["g711_r"])
def test_rating_of_g711(row: dict[str, Any]) -> None:
    found = narrowband_r(row["mouth_to_ear_ms"], row["loss_percent"], row["bpl"], row["burst_r"])
    assert found == pytest.approx(row["r"], abs=0.01)


@pytest.mark.parametrize("row", VECTORS["video_index"])
def test_video_index(row: dict[str, Any]) -> None:
    found = picture_index(
        width=row["width"], height=row["height"], frames_per_second=row["fps"],
        expected_frames_per_second=row["expected_fps"], bitrate_bps=row["bits_per_second"],
        codec_factor=row["codec_factor"], buffer_ms=row["buffer_ms"], rtt_ms=row["rtt_ms"],
    )  # fmt: skip
    assert found == pytest.approx(row["index"], abs=0.01)


@pytest.mark.parametrize("row", VECTORS["sfu_loss_score"])
def test_what_livekit_says_of_loss(row: dict[str, Any]) -> None:
    score = HIGHEST
    for (lost, of), (expected, level) in zip(row["windows_lost_of"], row["scores"], strict=True):
        score = followed(score, lost, of, row["loss_weight"])
        assert score == pytest.approx(expected, abs=0.05)
        assert sfu_level(score).name == level


@pytest.mark.parametrize("row", VECTORS["freeze_threshold_ms"])
def test_from_when_on_a_picture_is_frozen(row: dict[str, Any]) -> None:
    assert threshold_ms(1000 / row["fps"]) == pytest.approx(row["threshold_ms"], abs=0.1)


def test_no_part_of_the_file_is_left_out() -> None:
    tables = set(VECTORS) - {"note"}
    names = {"mos_from_r", "delay_impairment_idd", "opus_mos", "g711_r", "video_index"}
    assert tables == names | {"sfu_loss_score", "freeze_threshold_ms"}
    assert all(VECTORS[name] for name in tables)
