"""The MovieLens data sets, in their original formats.

The original ones are on https://grouplens.org/datasets/movielens/; MovieLens-100K also comes inside a Python package.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from steersman_training.data.columns import DataError
from steersman_training.data.package_index import DownloadError, download
from steersman_training.data.tables import Tables, readable

NAME_100K = "movielens-100k"
PROJECT, VERSION = "recbole", "1.2.1"
WHEEL = f"{PROJECT}-{VERSION}-py3-none-any.whl"
WHEEL_URL = f"https://files.pythonhosted.org/packages/ab/fe/7d606cb7cd2b166a36b100cb9435d21014ceee16c192d972deb0976967a8/{WHEEL}"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
TERMS = """\
MovieLens-100K is given out by GroupLens for research under these terms: no endorsement by the University of Minnesota
or GroupLens may be stated or implied; its use must be acknowledged in publications; it may not be redistributed, nor
used commercially, without permission. See https://files.grouplens.org/datasets/movielens/ml-100k-README.txt. To cite:
  F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM Transactions on
  Interactive Intelligent Systems 5, 4, Article 19. https://doi.org/10.1145/2827872
"""

# A folder, and the same folder inside a zip.
Folder = Path | zipfile.Path


def open_tables(source: str, cache: Path) -> Tables | None:
    """The tables of a MovieLens data set, or None if the source is something else.

    Raises DataError if the package with MovieLens-100K cannot be fetched, or is not the one whose checksum is known.
    """
    if source == NAME_100K:
        return _packaged_100k(_fetched(cache))
    path = Path(source)
    if path.is_dir():
        return _original(path, path)
    if path.is_file() and zipfile.is_zipfile(path):
        root = zipfile.Path(path)
        found = (_original(path, folder) for folder in (root, *(child for child in root.iterdir() if child.is_dir())))
        if tables := next(filter(None, found), None):
            return tables
        raise DataError(f"{source}: a zip without ratings.dat and movies.dat, or ratings.csv and movies.csv")
    return None


def _original(path: Path, folder: Folder) -> Tables | None:
    for kind, scanned in ((".csv", _comma_separated), (".dat", _colon_separated)):
        ratings, movies = folder / f"ratings{kind}", folder / f"movies{kind}"
        if ratings.is_file() and movies.is_file():
            with readable(str(path)):
                interactions = scanned(ratings, ["userId", "movieId", "rating", "timestamp"])
                items = scanned(movies, ["movieId", "title", "genres"]).select(
                    item_id="movieId",
                    title="title",
                    year=pl.col("title").str.extract(r"\((\d{4})[^()]*\)\s*$").cast(pl.Float64),
                    genres=pl.col("genres").str.split("|"),
                )
                for table in (interactions, items):
                    table.collect_schema()  # A missing column shows here.
                return Tables(path.stem, interactions, items, str(path))
    return None


def _comma_separated(file: Folder, columns: list[str]) -> pl.LazyFrame:
    """The formats of ml-20m, ml-25m and ml-32m: CSV with a header."""
    frame = pl.scan_csv(file if isinstance(file, Path) else file.read_bytes(), infer_schema=False)
    return frame.select(columns)


def _colon_separated(file: Folder, columns: list[str]) -> pl.LazyFrame:
    """The formats of ml-1m (Latin-1) and ml-10m (UTF-8): fields between double colons, no header."""
    content = file.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    tabs = text.replace("::", "\t").encode()
    return pl.scan_csv(tabs, separator="\t", has_header=False, quote_char=None, infer_schema=False, new_columns=columns)


def _packaged_100k(wheel: Path) -> Tables:
    """The package leaves the year out of the titles and gives it a column of its own, with "V" and "unkonwn" in it."""
    folder = zipfile.Path(wheel, WHEEL_FOLDER)
    interactions, items = (
        pl.scan_csv((folder / f"ml-100k.{kind}").read_bytes(), separator="\t", quote_char=None, infer_schema=False)
        for kind in ("inter", "item")
    )
    events = interactions.rename(lambda name: name.partition(":")[0])
    movies = items.select(
        item_id="item_id:token",
        title="movie_title:token_seq",
        year=pl.col("release_year:token").cast(pl.Float64, strict=False),
        genres=pl.col("class:token_seq").str.split(" "),
    )
    return Tables(NAME_100K, events, movies, NAME_100K)


def _fetched(cache: Path) -> Path:
    """The package in the cache, fetched if it is missing. An incomplete file never has its name."""
    wheel = cache / WHEEL
    if wheel.exists():
        if (found := _sha256(wheel)) != WHEEL_SHA256:
            raise DataError(f"{wheel}: wrong checksum: {found} for {WHEEL_SHA256}. Delete the file and try again.")
        return wheel
    sys.stderr.write(f"{TERMS}Fetching {WHEEL}, which carries it (2 MB) ...\n")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _fetch(Path(folder) / WHEEL, cache)
        (Path(folder) / WHEEL).replace(wheel)
    return wheel


def _fetch(wheel: Path, cache: Path) -> None:
    """From the package index; if that fails, by pip, which has settings of its own."""
    failures = []
    for way in (lambda: wheel.write_bytes(download(PROJECT, WHEEL)), lambda: _download_by_pip(wheel)):
        try:
            way()
            if (found := _sha256(wheel)) == WHEEL_SHA256:
                return
            failures.append(f"wrong checksum: {found} for {WHEEL_SHA256}")
        except DownloadError as error:
            failures.append(str(error))
    raise DataError(
        f"{NAME_100K}: {WHEEL} cannot be fetched: {'; '.join(failures)}. Name an index that answers in PIP_INDEX_URL; "
        f"or fetch {WHEEL_URL} by hand, and put it into {cache.absolute()}; or use data of your own."
    )


def _download_by_pip(wheel: Path) -> None:
    if not find_spec("pip"):
        raise DownloadError("pip is not installed")
    flags = ["--quiet", "--retries=1", "--timeout=10", "--no-deps", "--only-binary=:all:", f"--dest={wheel.parent}"]
    command = [sys.executable, "-m", "pip", "download", *flags, f"{PROJECT}=={VERSION}"]
    wheel.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not wheel.exists():
        said = done.stderr.strip().splitlines() or ["no reason given"]
        raise DownloadError(f"pip: {next((line for line in said if line.startswith('ERROR')), said[-1])}")


def _sha256(wheel: Path) -> str:
    return hashlib.sha256(wheel.read_bytes()).hexdigest()
