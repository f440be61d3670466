"""`python -m fuzz [--seconds 60] [TARGET ...]`: coverage-guided fuzzing (atheris) of what reads what strangers send.

Each target has a process of its own: what it looks for are also crashes of native libraries. Ends with 1 where
something was found; the input is kept in `.fuzz/`.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

TARGETS: Final = ("callers", "requests", "expressions", "texts", "metadata", "policies", "outside")

KEPT: Final = Path(".fuzz")
_MAX_INPUT_BYTES: Final = 4096
_TOO_LONG_S: Final = 10
_MEMORY_MB: Final = 2048
# For a target that hangs where libFuzzer does not see it.
_GRACE_S: Final = 120


def main() -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together; 60 by default")
    parser.add_argument("--run", metavar="FILE", type=Path, help="run one target on one input, as one was kept")
    parser.add_argument("--inside", metavar="FOLDER", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    targets = given.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if given.run is not None:
        importlib.import_module(f"fuzz.{targets[0]}").target().run(given.run.read_bytes())
        return 0
    if given.inside is not None:
        _fuzz(targets[0], given.inside, int(given.seconds))
        return 0
    KEPT.mkdir(exist_ok=True)
    failed = [name for name in targets if not _passes(name, max(1, round(given.seconds / len(targets))))]
    if failed:
        print(f"found something in: {', '.join(failed)}. The inputs are in {KEPT}/", file=sys.stderr)
    return 1 if failed else 0


def _passes(name: str, seconds: int) -> bool:
    """Whether a target was fuzzed for so long and nothing was found."""
    print(f"== {name}: {seconds} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="track-fuzz-") as folder:
        command = [sys.executable, "-m", "fuzz", name, "--seconds", str(seconds), "--inside", folder]
        return subprocess.run(command, check=False, timeout=seconds + _GRACE_S).returncode == 0


def _fuzz(name: str, folder: Path, seconds: int) -> None:
    """Fuzzes it, in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=["track_server", "fuzz"]):
        target = importlib.import_module(f"fuzz.{name}").target()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={_MAX_INPUT_BYTES}",
        f"-timeout={_TOO_LONG_S}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-artifact_prefix={KEPT}/{name}-",
        f"-dict={words}",
        "-print_final_stats=1",
        "-verbosity=0",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *arguments], target.run)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalnum() else f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    sys.exit(main())
