"""Which GPUs there are, by what nvidia-smi has said somewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.machine.nvidia_smi import FIRST, MIXED, SECOND, SLICED, TWO, put_on_path
from tfdist.machine import gpus
from tfdist.machine.gpus import Gpu, free_memory, gpus_here

SLICES = [
    "MIG-c7384736-a75d-5afc-978f-d2f1294409fd",
    "MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d",
]


def seen(**variables: str) -> list[str]:
    found = gpus_here({**os.environ, **variables})
    assert found.trouble == ""
    return [gpu.id for gpu in found.gpus]


def test_all_gpus_are_visible_where_nothing_chooses_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, TWO)
    name = "NVIDIA H100 80GB HBM3"
    assert gpus_here(os.environ).gpus == (Gpu(FIRST, name), Gpu(SECOND, name))


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("0", [FIRST]),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 1 , 0 ", [SECOND, FIRST]),
        ("1,7,0", [SECOND]),  # the first that is none ends the list
        ("0,0", [FIRST]),
        (SECOND, [SECOND]),
        ("GPU-11f1", [SECOND]),
        ("GPU-", []),  # which of them?
        ("", []),
        ("-1", []),
        ("0,-1", [FIRST]),
        ("NoDevFiles", []),  # Slurm, where a job has no GPU
        ("GPU-00000000", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_does(
    visible: str, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, TWO)
    assert seen(CUDA_VISIBLE_DEVICES=visible) == ids


def test_cards_of_different_kinds_keep_cudas_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, MIXED)
    assert seen() == [FIRST, SECOND]
    assert seen(CUDA_VISIBLE_DEVICES="0") == ["0"]  # the fastest, which nvidia-smi does not tell
    assert seen(CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [FIRST]


def test_a_card_in_slices_is_used_by_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch, SLICED)
    assert seen() == [*SLICES, SECOND]
    assert seen(CUDA_VISIBLE_DEVICES=f"{SLICES[1]},1") == [SLICES[1], SECOND]
    assert seen(CUDA_VISIBLE_DEVICES="0") == SLICES[:1]
    first, second, card = gpus_here(os.environ).gpus
    assert first.name == "NVIDIA A100-SXM4-40GB MIG 3g.20gb"
    assert (first.is_slice, second.is_slice, card.is_slice) == (True, True, False)
    assert free_memory(first) == 19073  # 20 GB in MiB


def test_free_memory_is_what_nvidia_smi_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, TWO, free=[f"{FIRST}, 80000", f"{SECOND}, [N/A]"])
    assert free_memory(Gpu(FIRST, "")) == 80000
    assert free_memory(Gpu(SECOND, "")) is None
    assert free_memory(Gpu("0", "")) is None


def test_without_nvidia_smi_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus_here({**os.environ, "CUDA_VISIBLE_DEVICES": "0"}) == gpus.GpusHere()
    assert free_memory(Gpu(FIRST, "")) is None


def test_a_driver_without_a_device_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, "No devices found.\n", code=6)
    assert seen() == []


def test_an_nvidia_smi_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path, monkeypatch, "NVIDIA-SMI has failed\nbecause\n", code=9)
    found = gpus_here(os.environ)
    assert found.trouble == "nvidia-smi ended with 9: NVIDIA-SMI has failed"
    assert found.gpus == ()


def test_an_nvidia_smi_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_SECONDS", 0.2)
    put_on_path(tmp_path, monkeypatch, TWO, first="exec sleep 30")
    assert gpus_here(os.environ).trouble == "nvidia-smi has not answered within 0.2 s"


def test_nvidia_smi_is_not_asked_where_no_gpu_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, "trouble", code=1)
    assert seen(CUDA_VISIBLE_DEVICES="-1") == []


def test_an_nvidia_smi_that_cannot_be_started_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path, monkeypatch, TWO)
    (tmp_path / "nvidia-smi").write_text("#!/no/such/shell\n")
    assert gpus_here(os.environ).trouble == (
        "nvidia-smi cannot be started: No such file or directory"
    )
    assert free_memory(Gpu(FIRST, "")) is None


def test_a_long_id_is_shortened_for_a_line_of_a_log() -> None:
    assert Gpu(FIRST, "").short == "GPU-5d5ba0d6"
    assert Gpu("0", "").short == "0"
