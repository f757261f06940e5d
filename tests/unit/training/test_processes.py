"""Several processes do what one does with all their batches together; the real thing, with gloo."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.training.log import read_log

SCRIPT = Path(__file__).with_name("two_processes.py")
TORCHRUN = Path(sys.executable).with_name("torchrun")
WATCHED = ("loss/total", "loss/prediction", "loss/feature_penalty", "loss/accuracy")


def train(
    folder: Path, steps: int, strategy: str, processes: int, **values: object
) -> subprocess.CompletedProcess[str]:
    """Run the script beside this file, under torchrun if there are several processes."""
    command = [sys.executable]
    if processes > 1:
        command = [str(TORCHRUN), "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*command, str(SCRIPT), str(folder), str(steps), strategy, json.dumps(values)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def losses(folder: Path) -> list[list[float]]:
    """Return what was logged of the losses at each update."""
    return [[line[name] for name in WATCHED] for line in read_log(folder)]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train five updates of two batches each in one process."""
    folder = tmp_path_factory.mktemp("single")
    done = train(folder, 5, "ddp", 1)
    assert done.returncode == 0, done.stderr
    return folder


def test_copied_weights_give_the_single_process_run(single: Path, tmp_path: Path) -> None:
    """DDP: losses of each update and the weights after the last, with layers dropped."""
    done = train(tmp_path, 5, "ddp", 2)
    assert done.returncode == 0, done.stderr
    assert len(losses(single)) == 5
    torch.testing.assert_close(losses(tmp_path), losses(single), rtol=1e-5, atol=1e-6)
    expected, found = read_weights(single), read_weights(tmp_path)
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5)


def test_sharded_weights_give_it_too_and_go_on_after_a_stop(single: Path, tmp_path: Path) -> None:
    """FSDP2: three updates, a stop, two more from the folder of shards; then read in one piece."""
    first = train(tmp_path, 3, "fsdp", 2)
    assert first.returncode == 0, first.stderr
    assert steps_done(tmp_path) == 3
    second = train(tmp_path, 5, "fsdp", 2)
    assert second.returncode == 0, second.stderr
    torch.testing.assert_close(losses(tmp_path), losses(single), rtol=1e-5, atol=1e-6)
    expected, found = read_weights(single), read_weights(tmp_path)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-5)


def test_all_processes_pass_over_what_is_broken_in_one(single: Path, tmp_path: Path) -> None:
    """NaN in an utterance of the second process: no update is made of that batch, in neither."""
    done = train(tmp_path, 5, "ddp", 2, broken=[4], guard={"skip": True})
    assert done.returncode == 0, done.stderr
    for rank, rows in enumerate(((0, 1), (2, 3))):
        report = json.loads((tmp_path / f"broken-step-2-rank-{rank}.json").read_text())
        assert report["ids"] == [f"4-{row}" for row in rows]
    found, expected = losses(tmp_path), losses(single)
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-5, atol=1e-6)
    assert all(weight.isfinite().all() for weight in read_weights(tmp_path).values())


def test_a_broken_batch_stops_all_processes(tmp_path: Path) -> None:
    """The run ends with the message that names the file; nobody waits for the other."""
    done = train(tmp_path, 5, "ddp", 2, broken=[4])
    assert done.returncode != 0
    assert "loss nan at step 2: the ids of the batch are in" in done.stderr
    assert (tmp_path / "broken-step-2-rank-1.json").exists()
