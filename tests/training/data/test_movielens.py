"""The MovieLens formats, in small. The real data is under terms that keep it out of here."""

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from steersman_training.data import DataError, Dataset, load, movielens

MOVIES = [
    ("1", "Matrix, The (1999)", "Action|Sci-Fi"),
    ("2", "Léon: The Professional (1994)", "Film-Noir"),
    ("30", 'Say "Hi, there" (2001–2003)', "Children's|Comedy"),
    ("4", "No year at all", "(no genres listed)"),
]
RATINGS = [("7", "1", "5", "100"), ("7", "2", "3.5", "90"), ("7", "30", "1", "95"), ("8", "4", "4", "1")]
ITEMS = [
    ("1", MOVIES[0][1], 1999.0, ["Action", "Sci-Fi"]),
    ("2", MOVIES[1][1], 1994.0, ["Film-Noir"]),
    ("30", MOVIES[2][1], 2001.0, ["Children's", "Comedy"]),
    ("4", MOVIES[3][1], None, []),
]


def comma_separated(folder: Path) -> None:
    quoted = [(id, '"' + title.replace('"', '""') + '"', genres) for id, title, genres in MOVIES]
    lines(folder / "movies.csv", ",", [("movieId", "title", "genres"), *quoted])
    lines(folder / "ratings.csv", ",", [("userId", "movieId", "rating", "timestamp"), *RATINGS])


def colon_separated(folder: Path) -> None:
    lines(folder / "movies.dat", "::", MOVIES)
    lines(folder / "ratings.dat", "::", RATINGS)


def colon_separated_latin_1(folder: Path) -> None:
    lines(folder / "movies.dat", "::", [tuple(text.replace("–", "-") for text in movie) for movie in MOVIES], "latin-1")
    lines(folder / "ratings.dat", "::", RATINGS)


def lines(path: Path, separator: str, rows: Sequence[tuple[str, ...]], encoding: str = "utf-8") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding=encoding)


def zipped(folder: Path, inside: str) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for member in folder.iterdir():
            file.write(member, inside + member.name)
    return path


def read(source: object, cache: Path) -> Dataset:
    return load(str(source), min_user_events=1, cache=cache)


@pytest.mark.parametrize("form", [comma_separated, colon_separated])
def test_folders_and_zips_say_the_same(tmp_path: Path, form: Callable[[Path], None]) -> None:
    folder = tmp_path / "ml-tiny"
    form(folder)
    data = read(folder, tmp_path)
    assert data.name == "ml-tiny"
    assert data.has_clock
    assert data.items.columns == ["item_id", "title", "year", "genres"]
    assert data.items.rows() == ITEMS
    assert data.events.rows() == [(0, 1, 90), (0, 2, 95), (0, 0, 100), (1, 3, 1)]
    for inside in ("ml-tiny/", ""):
        again = read(zipped(folder, inside), tmp_path)
        assert (again.name, again.sha256) == (data.name, data.sha256)


def test_old_files_are_latin_1(tmp_path: Path) -> None:
    colon_separated_latin_1(tmp_path / "ml-old")
    data = read(tmp_path / "ml-old", tmp_path)
    assert data.items["title"][1] == "Léon: The Professional (1994)"
    assert data.items["year"].to_list() == [1999.0, 1994.0, 2001.0, None]


def test_ratings_can_be_asked_for(tmp_path: Path) -> None:
    comma_separated(tmp_path / "ml-tiny")
    data = load(str(tmp_path / "ml-tiny"), min_user_events=1, min_rating=3.5, cache=tmp_path)
    assert data.report.low_ratings == 1
    assert data.report.items_without_events == 1


def test_a_folder_with_other_columns_and_a_zip_of_something_else_are_refused(tmp_path: Path) -> None:
    comma_separated(tmp_path / "ml-tiny")
    (tmp_path / "ml-tiny" / "movies.csv").write_text("movie,title\n1,One\n")
    with pytest.raises(DataError, match=r'ml-tiny: cannot be read: .*"movieId"'):
        read(tmp_path / "ml-tiny", tmp_path)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "readme").write_text("")
    with pytest.raises(DataError, match="a zip without"):
        read(zipped(tmp_path / "else", ""), tmp_path)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a small package, whose checksum is taken for the right one."""
    wheel = tmp_path / movielens.WHEEL
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(
            f"{movielens.WHEEL_FOLDER}/ml-100k.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t1\t3\t20\n7\t2\t3\t10\n7\t3\t1\t30\n",
        )
        file.writestr(
            f"{movielens.WHEEL_FOLDER}/ml-100k.item",
            "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
            '1\t"Cosi"\t1996\tFilm-Noir Children\'s\n2\tThe End (1995)\tV\tSci-Fi\n3\tunknown\tunkonwn\tunknown\n',
        )
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return tmp_path


def test_the_packaged_form(packaged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = load("movielens-100k", cache=packaged)
    assert data.items.rows() == [
        ("1", '"Cosi"', 1996.0, ["Film-Noir", "Children's"]),
        ("2", "The End (1995)", None, ["Sci-Fi"]),
        ("3", "unknown", None, []),
    ]
    assert data.events.rows() == [(0, 1, 10), (0, 0, 20), (0, 2, 30)]
    assert data.name == "movielens-100k"
    assert capfd.readouterr().err == ""


def test_another_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / movielens.WHEEL).write_bytes(b"something else")
    with pytest.raises(DataError, match=rf"{movielens.WHEEL}: wrong checksum: .* Delete the file"):
        load("movielens-100k", cache=tmp_path)
