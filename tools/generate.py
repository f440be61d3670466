"""Generates `generated/` and `docs/api.md` from `protos/`; with --check, says instead what is not as it would be.

Usage, from the project's root: python -m tools.generate [--check]
"""

import argparse
import importlib.resources
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

from tools.api_docs import page

PROTOS = Path("protos")
VALIDATE = Path(".tools/protovalidate")
GENERATED = Path("generated")
DOCS = Path("docs/api.md")


def generate(target: Path) -> None:
    """Write all generated files under `target`, which must be empty."""
    ours = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    with_services = [name for name in ours if "\nservice " in (PROTOS / name).read_text()]
    code = target / GENERATED
    code.mkdir(parents=True)
    (target / DOCS.parent).mkdir()

    _protoc([f"--python_out={code}", f"--mypy_out=quiet:{code}", *ours, "buf/validate/validate.proto"])
    _protoc([f"--grpc_python_out={code}", f"--mypy_grpc_out=quiet:{code}", *with_services])
    (code / "track" / "py.typed").touch()

    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch) / "image.binpb"
        _protoc(["--include_imports", "--include_source_info", f"--descriptor_set_out={image}", *ours])
        (target / DOCS).write_text(page(image.read_bytes()))


def _protoc(arguments: list[str]) -> None:
    well_known = importlib.resources.files("grpc_tools") / "_proto"
    plugins = Path(sys.executable).parent
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={VALIDATE}",
            f"--proto_path={well_known}",
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            *arguments,
        ]
    )
    if status != 0:
        sys.exit(f"protoc ended with status {status}")


def _files(root: Path) -> dict[Path, bytes]:
    paths = [*(root / GENERATED).rglob("*"), root / DOCS]
    return {
        path.relative_to(root): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where something differs")
    check = parser.parse_args().check

    here = Path()
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        wanted = _files(Path(scratch))
    present = _files(here)
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    if check:
        if differing:
            sys.exit("\n".join(["not what protos/ generates; run `make proto` and commit:", *map(str, differing)]))
        return
    # Only what differs is touched, so that programs that run beside this find their modules in place.
    for path in differing:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
