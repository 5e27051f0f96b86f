"""The wheel on its own: every package, template and definition file is in it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_installs_in_a_clean_environment_and_runs_from_another_folder(tmp_path: Path) -> None:
    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [str(part) for part in command], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout

    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    run(*build)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "clean")
    python = tmp_path / "clean" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    # the dependencies that are installed here already; the project itself only from the wheel
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    assert run(python, "-c", "import engine; print(engine.__file__)").startswith(str(tmp_path))
    assert run(tmp_path / "clean" / "bin" / "growth", "--version").strip() == "growth 0.1.0"
    run(tmp_path / "clean" / "bin" / "growth", "init", "space")
    assert (tmp_path / "space" / "catalog.yaml").is_file()
    layout = "from pathlib import Path; from engine.demo.loader import lay_out; lay_out(Path('demo'))"
    run(python, "-c", layout)
    assert (tmp_path / "demo" / "definitions" / "goals.yaml").is_file()
    assert (tmp_path / "demo" / "journey" / "transactions.parquet").is_file()
