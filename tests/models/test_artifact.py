"""The model file: exact round trips; whatever else is refused with BadModel and a reason, never otherwise."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import BadModel, TrainedDetector
from models.calibration import Calibration, calibrate
from models.compress import in_eight_bits
from models.scoring import Scorer
from tests.models.logs import busy_log, untrained

MODEL = untrained()
FILE = MODEL.to_bytes()
HEADER = int.from_bytes(FILE[:8], "little")
DESCRIPTION: dict[str, Any] = msgspec.json.decode(msgspec.json.decode(FILE[8 : 8 + HEADER])["__metadata__"]["headgate"])
WEIGHTS = safetensors.torch.load(FILE)


def file_with(changes: dict[str, Any] | None = None, **weights: torch.Tensor | None) -> bytes:
    """The file with other entries in its description (dotted for inner ones), and other weights or none."""
    description = msgspec.json.decode(msgspec.json.encode(DESCRIPTION))
    for name, value in (changes or {}).items():
        *outer, last = name.split(".")
        inner = description
        for key in outer:
            inner = inner[key]
        inner[last] = value
    tensors = {name: value for name, value in (WEIGHTS | weights).items() if value is not None}
    return safetensors.torch.save(tensors, {"headgate": msgspec.json.encode(description).decode()})


def file_described_by(text: str) -> bytes:
    return safetensors.torch.save(WEIGHTS, {"headgate": text})


def refused(data: bytes) -> str:
    with pytest.raises(BadModel) as refusal:
        TrainedDetector.from_bytes(data)
    return str(refusal.value)


def test_a_detector_read_back_is_the_same() -> None:
    read = TrainedDetector.from_bytes(FILE)
    assert read.to_bytes() == FILE
    assert (read.calibration, read.threshold, read.notes) == (MODEL.calibration, MODEL.threshold, MODEL.notes)
    for name, value in MODEL.network.state_dict().items():
        assert torch.equal(read.network.state_dict()[name], value)
    events = busy_log()
    np.testing.assert_array_equal(Scorer(read).score(events).score, Scorer(MODEL).score(events).score)


@given(st.floats(-1e300, 1e300), st.floats(1e-300, 1.0), st.integers(0, 100))
def test_every_number_is_read_back_exactly(value: float, positive: float, seed: int) -> None:
    knots = calibrate(np.random.default_rng(seed).normal(size=100), np.full(100, -1, np.int8))
    model = untrained(surprise_mean=value, surprise_scale=positive, threshold=positive, calibration=knots)
    read = TrainedDetector.from_bytes(model.to_bytes())
    assert (read.surprise_mean, read.surprise_scale, read.threshold) == (value, positive, positive)
    assert read.calibration == knots


@settings(max_examples=60)
@given(st.integers(0, len(FILE) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    assert "damaged" in refused(FILE[:length])


@given(st.binary(max_size=300))
def test_what_is_no_model_file_is_refused(data: bytes) -> None:
    assert "not a detector" in refused(data)


#: Mostly the header, where damage changes what is read; sometimes the weights.
places = st.one_of(st.integers(0, HEADER + 8), st.integers(0, len(FILE) - 1))


@settings(max_examples=300)
@given(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_refused_or_still_a_whole_detector(damage: list[tuple[int, int]]) -> None:
    data = bytearray(FILE)
    for place, value in damage:
        data[place] = value
    with suppress(BadModel):
        model = TrainedDetector.from_bytes(bytes(data))
        assert all(bool(torch.isfinite(value).all()) for value in model.network.state_dict().values())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
entries = st.sampled_from(
    [*DESCRIPTION, *(f"config.{name}" for name in DESCRIPTION["config"])]
    + [f"calibration.{name}" for name in DESCRIPTION["calibration"]]
)


@settings(max_examples=200)
@given(entries, json_values)
def test_any_value_in_the_description_is_taken_or_refused(entry: str, value: Any) -> None:
    with suppress(BadModel):
        TrainedDetector.from_bytes(file_with({entry: value}))


@pytest.mark.parametrize("name", ["hidden", "head"])
@pytest.mark.parametrize("units", [-1, 0, 2**40, 2**62, 2**64])
def test_a_network_of_impossible_size_is_refused_before_it_is_built(name: str, units: int) -> None:
    assert str(units) in refused(file_with({f"config.{name}": units}))


def test_a_description_nested_without_end_is_refused() -> None:
    text = msgspec.json.encode(DESCRIPTION).decode()
    for deep in ("[" * 100_000 + "]" * 100_000, "[" * 100_000):
        assert "damaged" in refused(file_described_by(text.replace('"notes":', f'"more":{deep},"notes":')))
        assert "damaged" in refused(file_described_by(deep))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: file_with({"format": "headgate-detector-99"}), "format 'headgate-detector-99' is unknown"),
        (lambda: file_with({"feature_schema": 99}), "made for feature schema 99"),
        (lambda: file_with({"threshold": "high"}), "description is wrong.*threshold"),
        (lambda: file_with({"calibration.kind": "guess"}), "description is wrong.*kind"),
        (lambda: file_with({"calibration.kind": "surprise"}), "knots"),
        (lambda: file_with({"surprise_scale": 0.0}), "scale of the surprise"),
        (lambda: file_with({"config.hidden": 16}), "has shape"),
        (lambda: file_with(mean_F=None), "mean_F has shape None"),
        (lambda: file_with(stranger=torch.zeros(2)), "stranger has shape"),
        (lambda: file_with(mean_F=torch.zeros(3)), "mean_F has shape"),
        (lambda: file_with(mean_F=WEIGHTS["mean_F"].double()), "mean_F holds weights that are not finite 32-bit"),
        (lambda: file_with(mean_F=torch.full_like(WEIGHTS["mean_F"], torch.nan)), "mean_F holds .* not finite"),
        (lambda: file_with(scale_F=torch.full_like(WEIGHTS["scale_F"], torch.inf)), "scale_F holds .* not finite"),
        (lambda: safetensors.torch.save({"x": torch.zeros(1)}), "not a detector"),
        (lambda: safetensors.torch.save(WEIGHTS, {"headgate": "[]"}), "not a detector"),
        (lambda: file_described_by("{}"), "not a detector"),
        (lambda: b"", "not a detector"),
    ],
)
def test_a_foreign_or_outdated_file_is_refused_with_a_clear_reason(data: Callable[[], bytes], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        TrainedDetector.from_bytes(data())


def test_a_detector_in_eight_bits_is_read_back_the_same_from_a_third_of_the_room() -> None:
    large = untrained(hidden=64)
    small = replace(large, network=in_eight_bits(large.network))
    data = small.to_bytes()
    assert len(data) < len(large.to_bytes()) / 2.5
    read = TrainedDetector.from_bytes(data)
    assert read.to_bytes() == data
    assert read.network.config == small.network.config
    events = busy_log()
    np.testing.assert_array_equal(Scorer(read).score(events).score, Scorer(small).score(events).score)


@pytest.mark.parametrize("scale", [None, torch.ones(7), torch.full((24,), torch.nan)])
def test_whole_numbers_without_sound_scales_are_refused(scale: torch.Tensor | None) -> None:
    data = replace(MODEL, network=in_eight_bits(MODEL.network)).to_bytes()
    tensors = safetensors.torch.load(data)
    del tensors["gru.weight_hh_l0.scale"]
    if scale is not None:
        tensors["gru.weight_hh_l0.scale"] = scale
    said = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert "gru.weight_hh_l0" in refused(safetensors.torch.save(tensors, said))


def test_knots_that_fall_are_refused() -> None:
    knots = list(calibrate(np.arange(100.0), np.full(100, -1, np.int8)).knots)
    calibration = {"kind": "surprise", "slope": 1.0, "intercept": 0.0, "knots": knots[::-1]}
    assert "rise" in refused(file_with({"calibration": calibration}))


def test_a_probability_needs_no_knots() -> None:
    assert TrainedDetector.from_bytes(FILE).calibration == Calibration("probability", 0.7, 0.1, ())


def test_a_model_is_read_without_importing_torchs_compiler(tmp_path: Path) -> None:
    """It would take seconds at every start of a worker, and speak up when the worker ends in an error."""
    file = tmp_path / "model.safetensors"
    file.write_bytes(FILE)
    script = (
        "import sys; from pathlib import Path; from models.artifact import TrainedDetector; "
        "TrainedDetector.from_bytes(Path(sys.argv[1]).read_bytes()); print('torch._dynamo' in sys.modules)"
    )
    checkout = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(file)], cwd=checkout, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
