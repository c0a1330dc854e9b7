"""A cluster of dask.distributed, two workers on this machine: equal digits, and lost workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tp_compiler as tpc
from tests.unit.test_executors import DRAWN, OPTIONS, TRAINED, KillsOnce, assert_same, refuses
from tp_compiler.cli import main
from tp_compiler.executors import crew

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "many_machines.md"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as found:
        yield found


@pytest.mark.parametrize("text", [TRAINED, DRAWN])
def test_equal_digits(text: str, cluster: Any) -> None:
    here = tpc.limit(text, **OPTIONS)
    assert_same(tpc.limit(text, **OPTIONS, cluster=cluster.scheduler_address), here)
    with cluster.get_client() as client:
        assert_same(tpc.limit(text, **OPTIONS, executor=client.get_executor()), here)


def test_networks_and_verification(cluster: Any) -> None:
    address = cluster.scheduler_address
    assert_same(tpc.simulate(TRAINED, 16, seeds=5, cluster=address), tpc.simulate(TRAINED, 16, seeds=5))
    options: dict[str, Any] = {**OPTIONS, "widths": (8, 16), "seeds": 4}
    assert tpc.verify(TRAINED, **options, cluster=address).checks == tpc.verify(TRAINED, **options).checks


def test_the_command(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.nexort").write_text(TRAINED, encoding="utf-8")
    words = ["limit", str(tmp_path / "net.nexort"), "--samples", "64", "--method", "qmc", "--format", "csv"]
    assert main(words) == 0
    here = capsys.readouterr().out
    assert main([*words, "--cluster", cluster.scheduler_address]) == 0
    assert capsys.readouterr().out == here


def test_errors_of_the_program_come_back(cluster: Any) -> None:
    with crew(cluster=cluster.scheduler_address) as found, pytest.raises(tpc.ProgramError, match="NX441"):
        assert found is not None
        found.results(refuses, range(4))


@pytest.mark.filterwarnings("ignore")  # of dask, which reports the loss
def test_lost_workers_are_replaced(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    (tmp_path / "marks").mkdir()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as own,
        crew(cluster=own.scheduler_address) as found,
    ):
        assert found is not None
        assert found.results(KillsOnce(tmp_path / "marks", (1,)), range(6)) == [0, 1, 4, 9, 16, 25]
    assert {p.name for p in (tmp_path / "marks").iterdir()} == {"1"}


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("tp_compiler.cluster.PATIENCE", 1)
    with pytest.raises(tpc.ProgramError, match="NX439"):
        tpc.limit(TRAINED, **OPTIONS, cluster="tcp://127.0.0.1:1")


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"tp_compiler\[cluster\]"):
        tpc.limit(TRAINED, **OPTIONS, cluster="tcp://127.0.0.1:1")


# -- the recipes of the page ---------------------------------------------------------------------------------------------
def block(language: str, word: str) -> str:
    """The block of code of the page that has a word, for a smaller run."""
    blocks = PAGE.read_text(encoding="utf-8").split(f"```{language}\n")[1:]
    (found,) = [b.split("```")[0] for b in blocks if word in b.split("```")[0]]
    return found.replace("8192", "64")


def ran(words: list[str], folder: Path, **environment: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(words, cwd=folder, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe_for_slurm(tmp_path: Path) -> None:
    (tmp_path / "net.nexort").write_text(TRAINED, encoding="utf-8")
    (tmp_path / "limit.sh").write_text(block("bash", "#SBATCH --array"), encoding="utf-8")
    submitted = block("bash", "sbatch --parsable")
    assert "limit.sh" in submitted
    for task in (3, 0, 1, 2):
        ran(["bash", "limit.sh"], tmp_path, SLURM_ARRAY_TASK_ID=str(task))
    # The second job is what `--wrap` has.
    (tmp_path / "merge.sh").write_text(submitted.split('--wrap "')[1].split('"')[0], encoding="utf-8")
    ran(["bash", "merge.sh"], tmp_path)
    merged = tpc.load(tmp_path / "net.npz")
    assert_same(merged, tpc.limit(TRAINED, samples=64))


def test_the_recipe_for_dask(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    (tmp_path / "net.nexort").write_text(TRAINED, encoding="utf-8")
    (tmp_path / "run.py").write_text(block("python", "LocalCluster"), encoding="utf-8")
    ran([sys.executable, "run.py"], tmp_path)
    assert_same(tpc.load(tmp_path / "net.npz"), tpc.limit(TRAINED, samples=64))
    assert len([*(tmp_path / "parts").glob("*-M*.npz")]) > 8


def test_the_job_of_the_recipe_for_dask_jobqueue() -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    text = block("python", "SLURMCluster")
    call = text[text.index("SLURMCluster(") :].split("\n")[0].rstrip(" :").removesuffix(" as cluster")
    cluster = partial(jobqueue.SLURMCluster, scheduler_options={"dashboard_address": ":0"})  # whose port may be in use
    with eval(call, {"SLURMCluster": cluster}) as found:
        assert "#SBATCH" in found.job_script() and "dask" in found.job_script()
