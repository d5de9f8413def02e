"""The subcommands of training. torch is imported when one runs: --help stays quick."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steersman_training import options as opt
from steersman_training.bundle.signing import make_key, passphrase, read_key, sign_folder
from steersman_training.evaluation.commands import evaluate, sweep
from steersman_training.failures import flag, interruptible, plainly
from steersman_training.places import check_bundles, check_cache, check_file
from steersman_training.printing import print_table, say

if TYPE_CHECKING:
    from steersman_training.pipeline import TrainConfig

__all__ = ["evaluate", "keygen", "sign", "sweep", "train"]

OutOption = Annotated[Path, typer.Option(help="Folder of bundles; its `current` will point to the new one.")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")]
HistoriesOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=100_000,
        help="Users' histories that the bundle keeps, without names, to try controls on. Who may call the server can list them.",
    ),
]
HookOption = Annotated[
    int | None, typer.Option(min=0, help="Read and edit the state after this many blocks. [default: after the last]")
]
RatingOption = Annotated[float | None, typer.Option(help="Leave out events rated below.")]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything random.")]
LicenceOption = Annotated[str | None, typer.Option(help="Licence of the data, for the bundle's model card.")]
SignKeyOption = Annotated[
    Path | None, typer.Option(help="Sign the bundle with this private key: bundle keygen makes one.")
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(help="File whose first line is the key's passphrase. Or put it into BUNDLE_SIGN_PASSPHRASE."),
]
CheckpointOption = Annotated[Path | None, typer.Option(help="Resume from this file if it exists; keep it up to date.")]


@interruptible
def train(
    data: opt.DataOption = "movielens-100k",
    items: opt.ItemsOption = None,
    preset: opt.PresetOption = "quick",
    split: opt.SplitOption = "leave-one-out",
    out: OutOption = Path("data/bundles"),
    cache: opt.CacheOption = Path("data/cache"),
    epochs: EpochsOption = None,
    hook: HookOption = None,
    histories: HistoriesOption = 200,
    min_rating: RatingOption = None,
    seed: SeedOption = 0,
    device: opt.DeviceOption = "auto",
    checkpoint: CheckpointOption = None,
    licence: LicenceOption = None,
    sign_key: SignKeyOption = None,
    passphrase_file: PassphraseOption = None,
    user_column: opt.UserColumn = None,
    item_column: opt.ItemColumn = None,
    time_column: opt.TimeColumn = None,
    rating_column: opt.RatingColumn = None,
    title_column: opt.TitleColumn = None,
    attribute_columns: opt.AttributeColumns = None,
    as_json: opt.JsonOption = False,
) -> None:
    """Train a recommender and its features, and write a bundle."""
    with plainly():  # before torch is imported, which takes seconds
        opt.check_finite(min_rating, "--min-rating")
        check_bundles(out, "--out")
        check_cache(cache, data)
        if checkpoint is not None:
            check_file(checkpoint, "--checkpoint")
        key = read_key(sign_key, passphrase(passphrase_file)) if sign_key is not None else None
    from dataclasses import replace

    from steersman_training.bundle.bundle import Publication
    from steersman_training.display import RichDisplay
    from steersman_training.pipeline import train as run
    from steersman_training.recommender.checkpoint import readable

    with plainly():
        config = replace(_config(preset, split, hook, epochs, seed), histories=histories)
        columns = opt.columns_of(user_column, item_column, time_column, title_column, attribute_columns, rating_column)
        place = opt.pick_device(device)
        if checkpoint is not None:
            readable(checkpoint)
        dataset = opt.load_data(data, items, cache, columns, min_rating=min_rating)
        with RichDisplay() as display:
            trained = run(dataset, config, out, place, display, checkpoint, Publication(licence, key))
    if as_json:
        typer.echo(json.dumps({"bundle": str(trained.folder), "figures": trained.figures}))
        return
    print_table(("figure", "value"), [(name, f"{value:.4f}") for name, value in sorted(trained.figures.items())])
    typer.echo(f"bundle: {trained.folder}")
    say(f"Next: serve it with steersman serve --bundle {shlex.quote(str(out / 'current'))}")


def keygen(
    file: Annotated[
        Path, typer.Argument(help="File of the private key. FILE.pub gets the public one.", show_default=False)
    ],
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make a key to sign bundles with. With a passphrase, the private key is encrypted."""
    with plainly():
        secret = passphrase(passphrase_file)
        key = make_key(file, secret)
    typer.echo(
        f"key {key.id}: {file} is the private key{'' if secret else ', without a passphrase'}; {file}.pub is the public one"
    )
    say(
        "Next: sign with steersman train --sign-key or steersman bundle sign; servers take the public key by --bundle-keys"
    )


def sign(
    folder: Annotated[Path, typer.Argument(help="Folder of the bundle, or a link to one.", show_default=False)],
    key: Annotated[Path, typer.Option(help="File of the private key.", show_default=False)],
    passphrase_file: PassphraseOption = None,
) -> None:
    """Sign a bundle, whose files are checked first. Its version stays the same; signatures by other keys stay."""
    with plainly():
        own = read_key(key, passphrase(passphrase_file))
        version = sign_folder(folder, own)
    typer.echo(f"signed by {own.id}: {version}")


def _config(preset: opt.Preset, split: opt.SplitName, hook: int | None, epochs: int | None, seed: int) -> "TrainConfig":
    from dataclasses import replace

    from steersman_training.presets import PRESETS

    config = PRESETS[preset]
    with flag("hook"):
        config = replace(config, split=split, recommender=replace(config.recommender, hook=hook))
    config = replace(config, fit=replace(config.fit, epochs=epochs or config.fit.epochs))
    return config.seeded(seed)
