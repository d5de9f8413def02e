"""The commands `steersman bundle verify`, `pull`, `push` and `list`. Those that sign are training's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steersman_service.cli.printing import fail, print_table, remark, say
from steersman_service.errors import StartupError

if TYPE_CHECKING:
    from steersman_service.bundle.signatures import PublicKeys

FolderArgument = Annotated[Path, typer.Argument(help="Folder of the bundle, or a link to one.", show_default=False)]
SourceArgument = Annotated[
    str,
    typer.Argument(
        help="s3://BUCKET/PREFIX, with /VERSION behind it for another than the current one; hf://OWNER/REPO or hf://OWNER/REPO@REVISION.",
        show_default=False,
    ),
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        help="Public keys, a file or a folder of *.pub: the bundle has to be signed by one.",
        envvar="STEERSMAN_BUNDLE_KEYS",
    ),
]
DataOption = Annotated[
    Path, typer.Option(help="Data folder: bundles are pulled to DATA/bundles.", envvar="STEERSMAN_DATA")
]


def verify(folder: FolderArgument, keys: KeysOption = None) -> None:
    """Check a bundle as a server does: files, signature, ONNX graphs, golden rows, catalogue. TorchScript is hashed, not run."""
    from steersman_service.bundle.catalogue import Catalogue
    from steersman_service.bundle.items import Items
    from steersman_service.engine.loading import load_engine
    from steersman_service.engine.options import EngineOptions
    from steersman_service.telemetry.logs import configure_logs

    with _plainly():
        configure_logs("warning", "console")
        bundle = load_engine(folder, EngineOptions(device="cpu", bundle_keys=keys)).bundle
        Catalogue(bundle, Items(bundle.items))
        signed = _signed(bundle.folder, bundle.version, keys)
    say(f"{bundle.version}: whole, and fit to be served; {signed}")


def pull(source: SourceArgument, data: DataOption = Path("data"), keys: KeysOption = None) -> None:
    """Bring a bundle onto this machine, checked, under its version in DATA/bundles."""
    from steersman_service.bundle.sources import fetch, is_remote, resolve

    with _plainly():
        if not is_remote(source):
            fail(f"SOURCE: {source} is a folder of this machine: serve it as it is", 2)
        version = resolve(source)
        folder = fetch(source, version, data / "bundles", _read_keys(keys))
    say(f"bundle: {folder}")
    remark(f"Next: steersman serve --bundle {folder}")


def push(
    folder: FolderArgument,
    dest: Annotated[str, typer.Argument(help="s3://BUCKET/PREFIX or hf://OWNER/REPO.", show_default=False)],
    current: Annotated[
        bool, typer.Option(help="Have DEST name it: servers that watch DEST take it. The hub has no other way.")
    ] = True,
    keys: KeysOption = None,
) -> None:
    """Put a bundle, whose files are checked first, where others can pull it."""
    from steersman_service.bundle import files
    from steersman_service.bundle.sources import storage_of

    with _plainly():
        storage = storage_of(dest)
        folder = folder.resolve()
        manifest = files.read_manifest(folder)
        files.check_listing(folder, manifest)
        for name in manifest.files:
            files.verify_file(folder, name, manifest)
        signed = _signed(folder, manifest.version, keys)
        names = [*manifest.files, files.MANIFEST, files.SIGNATURE]
        paths = {name: folder / name for name in names if (folder / name).exists()}
        new = storage.push(manifest.version, paths, current=current)
    say(
        f"{manifest.version}: {'is now' if new else 'was there already'} in {dest}{', the current one' if current else ''}; {signed}"
    )


def list_(
    source: Annotated[
        str, typer.Argument(help="s3://BUCKET/PREFIX, hf://OWNER/REPO, or a folder of bundles.", show_default=False)
    ],
) -> None:
    """List the bundles of a source, and which of them it names."""
    from steersman_service.bundle.sources import listed

    with _plainly():
        stored = listed(source)
    if not stored:
        remark(f"{source} has no bundles")
        return
    print_table(("version", "current"), [(each.version, "current" if each.current else "") for each in stored])


def _read_keys(keys: Path | None) -> "PublicKeys | None":
    from steersman_service.bundle.signatures import PublicKeys

    return None if keys is None else PublicKeys.read(keys)


def _signed(folder: Path, version: str, keys: Path | None) -> str:
    """By whom, as far as can be told. Raises BundleError if it is not by one of `keys`."""
    from steersman_service.bundle import files

    signature, known = files.read_signature(folder), _read_keys(keys)
    if known is not None:
        return f"signed by {known.check(signature, version)}"
    return "not signed" if signature is None else "signed, by a key that was not checked: give --keys"


@contextmanager
def _plainly() -> Iterator[None]:
    """Ends the command with one line for what an operator can put right."""
    try:
        yield
    except StartupError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
