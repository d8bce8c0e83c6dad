"""The package as others get it: built, installed alone, imported, and put to work.

`python tests/packed.py [PYTHON ...]` builds the wheel and, for each interpreter (this
one unless named), installs it into a new environment with what it asks for and nothing
else, imports it, runs README's five lines, and then each extra. It needs the package
registry.
"""

import importlib.metadata
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 2.0  # that an import may take, once its files have been read before
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIVE_LINES = re.search(r"```python\n(.*?)```", README, re.S)[1]
IMPORT = "import time; t = time.process_time(); import attncore as ac; "
IMPORT += "print(time.process_time() - t)"
EXTRAS = {
    "plot": "from attncore.plotting import heat_map; heat_map([[1.0]], 'a', 'b', 'c')",
    "onnx": "from attncore.export import to_onnx, OnnxRecommender;"
    " ac.Recommender(ac.RecommenderConfig(width=8, blocks=1), split).save('run');"
    " to_onnx('run');"
    " print(OnnxRecommender('run').recommend(histories=[split.items.ids[:2]], k=3))",
    "prepare": "split.log.events.to_parquet('log.parquet');"
    " print(ac.prepare('log.parquet', 'prepared').summary)",
}
SPLIT = "import attncore as ac; split = ac.leave_one_out(ac.datasets.load('planted')); "


def build(folder: Path) -> Path:
    """The wheel of this tree, built apart from it."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl"))


def contents(wheel: Path) -> tuple[list[str], importlib.metadata.PackageMetadata]:
    """The files of a wheel, and what it says of itself."""
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
    return names, next(importlib.metadata.distributions(path=[str(wheel)])).metadata


def run(python: Path, code: str, folder: Path) -> str:
    """What a program prints that sees nothing of this tree."""
    command = [python, "-P", "-c", code]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    return done.stdout.decode()


def tried(interpreter: str, wheel: Path, folder: Path) -> None:
    """Install the wheel for one interpreter, and put it to work.

    Raises:
        SystemExit: an import takes too long, or imports what is for an extra.
        subprocess.CalledProcessError: an installation or a program failed.
    """
    subprocess.run([interpreter, "-m", "venv", folder / "env"], check=True)
    python = folder / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, wheel], check=True)
    run(python, IMPORT, folder)  # whose files are read, and compiled
    took = float(run(python, IMPORT, folder))
    print(f"{interpreter}: imported in {took:.2f} s of CPU", flush=True)
    if took > SECONDS:
        raise SystemExit(f"{interpreter}: the import took {took:.1f} s")
    started = time.perf_counter()
    print(run(python, FIVE_LINES, folder).strip())
    print(f"{interpreter}: five lines in {time.perf_counter() - started:.0f} s")
    subprocess.run([python, "-m", "attncore", "--version"], check=True, cwd=folder)
    for extra, code in EXTRAS.items():
        subprocess.run([*install, f"{wheel}[{extra}]"], check=True)
        print(run(python, SPLIT + code, folder).strip())
        print(f"{interpreter}: [{extra}] works", flush=True)


def main() -> None:
    """Try each interpreter that is named."""
    with tempfile.TemporaryDirectory() as place:
        wheel = build(Path(place))
        for number, interpreter in enumerate(sys.argv[1:] or [sys.executable]):
            (folder := Path(place) / str(number)).mkdir()
            tried(interpreter, wheel, folder)


if __name__ == "__main__":
    main()
