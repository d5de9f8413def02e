"""What strangers' data holds: nothing of it is misread, left out or taken for something else without a word."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from steersman_service.cli.main import make_app
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.data import Columns, DataError, Dataset, load

START = 1_600_000_000
USERS, ITEMS = 30, 24
EVENTS = pl.DataFrame(
    [(user, (user + n * n) % ITEMS, START + user * 1000 + n * 86_399) for user in range(USERS) for n in range(6)],
    {"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64},
    orient="row",
)
TABLE = pl.DataFrame({"item_id": range(ITEMS), "title": [f"Film {n}" for n in range(ITEMS)]}).with_columns(
    genre=pl.Series(["Crime", "War", "Horror"] * 8), year=1990 + pl.col("item_id") % 7
)
I = pl.int_range(pl.len())  # noqa: E741  (the number of a row)


def at(format: str) -> pl.Expr:
    return pl.from_epoch("timestamp").dt.strftime(format).alias("timestamp")


def write(folder: Path, events: pl.DataFrame, items: pl.DataFrame | None = TABLE, kind: str = "csv") -> Path:
    for name, frame in (("interactions", events), ("items", items)):
        if frame is not None:
            (pl.DataFrame.write_csv if kind == "csv" else pl.DataFrame.write_parquet)(frame, folder / f"{name}.{kind}")
    return folder


def read(folder: Path, **options: Any) -> Dataset:
    return load(str(folder), cache=folder, **options)


def shown(data: Dataset) -> str:
    return "\n".join(data.report.lines())


def test_good_data_gives_a_table_and_no_warning(tmp_path: Path) -> None:
    data = read(write(tmp_path, EVENTS))
    assert data.report.warnings == ()
    assert [line.split("  ")[1].strip() for line in shown(data).splitlines()[1:]] == [
        *("rows read", "events kept", "left out", "users", "items", "time", "columns"),
        *("in item table 100% of the events; 24 of 24 items", "item rows", "item columns"),
    ]
    for line in (
        "rows read     180",
        "left out      none",
        "users         30",
        "time          2020-09-13 to 2020-09-18 (seconds since 1970)",
        "columns       user: user_id; item: item_id; time: timestamp",
        "item columns  id: item_id; title: title; attributes: genre (values), year (numbers)",
    ):
        assert line in shown(data)


@pytest.mark.parametrize(
    ("format", "reading"),
    [
        ("%m/%d/%Y %H:%M:%S", "month/day/year"),
        ("%m/%d/%y %I:%M:%S %p", "month/day/year"),
        ("%d/%m/%Y %H:%M:%S", "day/month/year"),
        ("%d.%m.%Y %H:%M:%S", "day/month/year"),
        ("%Y-%m-%d %H:%M:%S", "year first"),
        ("%Y/%m/%dT%H:%M:%SZ", "year first"),
    ],
)
def test_dates_are_read_whatever_their_order(tmp_path: Path, format: str, reading: str) -> None:
    data = read(write(tmp_path, EVENTS.with_columns(at(format))))
    right = EVENTS.sort("user_id", "timestamp")["timestamp"] * 1_000_000
    assert sorted(data.events["time"]) == sorted(right)
    assert f"(dates, {reading})" in shown(data)
    assert data.report.malformed_rows == 0


def test_time_zones_are_heeded(tmp_path: Path) -> None:
    data = read(write(tmp_path, EVENTS.with_columns(at("%Y-%m-%dT%H:%M:%S+02:00"))))
    assert data.events["time"].min() == (START - 7200) * 1_000_000
    some = EVENTS.with_columns(pl.when(I % 2 == 0).then(at("%Y-%m-%dT%H:%M:%SZ")).otherwise(at("%Y-%m-%dT%H:%M:%S")))
    assert "90 of 180 times name a time zone" in read(write(tmp_path, some)).report.warnings[0]


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (pl.format("0{}/0{}/2021", 1 + I % 7, 1 + I % 9), "may be month/day/year or day/month/year, .*: give ISO 8601"),
        (
            pl.when(I % 2 == 0).then(at("%m/%d/%Y")).otherwise(at("%d/%m/%Y")),
            "neither fits all: give ISO 8601|may be month/day/year or day/month/year",
        ),
        (at("%b %d %Y"), "180 of 180 values are no time that can be read, as 'Sep 13 2020': give ISO 8601"),
        (pl.when(I % 3 == 0).then("timestamp").otherwise(pl.lit("x")), "120 of 180 values are no time .* as 'x'"),
        (pl.when(I % 3 == 0).then(pl.col("timestamp") * 1000).otherwise("timestamp"), "Give all times in one unit"),
    ],
)
def test_times_that_cannot_be_told_are_refused(tmp_path: Path, times: pl.Expr, why: str) -> None:
    with pytest.raises(DataError, match=rf"interactions.csv: column 'timestamp': .*{why}"):
        read(write(tmp_path, EVENTS.with_columns(times.alias("timestamp"))))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (pl.col("timestamp") * 1000, "2020-09-13 to 2020-09-18 (milliseconds since 1970)"),
        (pl.col("timestamp") * 1_000_000, "2020-09-13 to 2020-09-18 (microseconds since 1970)"),
        (at("%Y%m%d").cast(pl.Int64), "2020-09-13 to 2020-09-18 (year, month and day in eight digits)"),
        (I, "0 to 179 are no times of our days"),
        (
            pl.when(I % 20 == 0).then(0).otherwise("timestamp"),
            "5.0% of the events lie outside 1971 to 2100, as 1970-01-01",
        ),
        (pl.lit(START), "100% of the events have the time of their user's event before"),
    ],
)
def test_the_span_of_times_is_told_and_looked_at(tmp_path: Path, times: pl.Expr, said: str) -> None:
    data = read(write(tmp_path, EVENTS.with_columns(times.alias("timestamp"))))
    assert said in shown(data) + "\n".join(data.report.warnings)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("sides", ["events", "items", "both"])
def test_whole_numbers_that_came_as_floats_are_the_same_ids(tmp_path: Path, kind: str, sides: str) -> None:
    plain = read(write(tmp_path, EVENTS, kind=kind))
    floats = EVENTS.cast({"user_id": pl.Float64, "item_id": pl.Float64}) if sides != "items" else EVENTS
    table = TABLE.cast({"item_id": pl.Float64}) if sides != "events" else TABLE
    assert read(write(tmp_path, floats, table, kind)).sha256 == plain.sha256


def test_numbers_with_a_fraction_stay_as_they_are(tmp_path: Path) -> None:
    events = EVENTS.with_columns(item_id=pl.format("{}.{}", I % 4, pl.col("item_id") % 2))
    versions = pl.Series(["0.0", "1.0", "2.0", "3.0", "0.1", "1.1", "2.1", "3.1"])
    assert set(read(write(tmp_path, events, None)).items["item_id"]) <= set(versions)


def test_ids_that_were_rounded_are_doubted(tmp_path: Path) -> None:
    far = EVENTS.with_columns(user_id=(pl.col("user_id") + 76561198000000000).cast(pl.Float64))
    assert "column 'user_id': 100% of the ids are rounded" in read(write(tmp_path, far)).report.warnings[0]


@pytest.mark.parametrize("word", ["", "NULL", "\\N", "nan", "None", "N/A", "NA", "  "])
def test_words_for_nothing_are_no_ids(tmp_path: Path, word: str) -> None:
    def missing(column: str, every: int) -> pl.Expr:
        return pl.when(I % every == 0).then(pl.lit(word)).otherwise(pl.col(column).cast(pl.String)).alias(column)

    data = read(write(tmp_path, EVENTS.with_columns(missing("user_id", 30), missing("item_id", 45))))
    assert word not in data.items["item_id"].to_list()
    assert (data.report.malformed_rows, data.events["user"].n_unique()) == (8, USERS)
    assert "no user: 6" in shown(data)
    assert f"no item: 4{f' (as {word})' if word.strip() else ''}" in shown(data)
    often = read(write(tmp_path, EVENTS.with_columns(missing("user_id", 8))))
    assert "23 of 180 rows (13%) cannot be used: no user: 23" in often.report.warnings[0]
    most = pl.when(I % 3 != 0).then(pl.lit(word)).otherwise(pl.col("user_id").cast(pl.String)).alias("user_id")
    with pytest.raises(DataError, match=r"120 of 180 rows \(67%\) cannot be used: no user: 120.*--user-column"):
        read(write(tmp_path, EVENTS.with_columns(most)))


def test_words_for_nothing_are_no_values_but_may_be_titles(tmp_path: Path) -> None:
    titles = pl.when(I == 3).then(pl.lit("None")).when(I == 4).then(pl.lit(" ")).otherwise("title").alias("title")
    table = TABLE.with_columns(
        titles, genre=pl.when(I % 6 == 0).then(pl.lit("NULL")).otherwise(pl.format(" {} ", "genre"))
    )
    data = read(write(tmp_path, EVENTS, table))
    by_id = {row["item_id"]: row for row in data.items.iter_rows(named=True)}
    assert (by_id["3"]["title"], by_id["4"]["title"]) == ("None", "4")
    assert {value for values in data.items["genre"] for value in values} == {"Crime", "War", "Horror"}
    assert "genre (values, 4 unknown (as NULL))" in shown(data)
    often = read(write(tmp_path, EVENTS, TABLE.with_columns(title=pl.lit("nan"))))
    assert often.items["title"].to_list() == often.items["item_id"].to_list()


@pytest.mark.parametrize(
    "word", ["unknown", "UNKNOWN", "n/a", "(no genres listed)", "None", "null", "NaN", "\\N", "-", "?"]
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_words_for_nothing_are_no_values_in_whatever_case(tmp_path: Path, word: str, kind: str) -> None:
    some = pl.when(I % 3 == 0).then(pl.lit(f" {word}"))
    table = TABLE.with_columns(genre=some.otherwise("genre"), mood=pl.lit(word))
    data = read(write(tmp_path, EVENTS, table.with_columns(year=some.otherwise(pl.col("year").cast(pl.String))), kind))
    assert {value for values in data.items["genre"] for value in values} == {"War", "Horror"}
    assert f"genre (values, 8 unknown (as {word}))" in shown(data)
    assert "no attribute  mood (no value is known)" in shown(data)
    if kind == "csv":
        assert f"year (numbers, 8 unknown (as {word}))" in shown(data)
    lists = read(write(tmp_path, EVENTS, TABLE.with_columns(genre=pl.concat_list("genre", pl.lit(word))), "parquet"))
    assert {value for values in lists.items["genre"] for value in values} == {"Crime", "War", "Horror"}


def test_a_person_may_be_called_what_an_attribute_may_not(tmp_path: Path) -> None:
    events = EVENTS.with_columns(
        user_id=pl.when(pl.col("user_id") == 1).then(pl.lit("Unknown")).otherwise(pl.col("user_id").cast(pl.String))
    )
    assert read(write(tmp_path, events)).report.malformed_rows == 0


def test_one_odd_value_keeps_a_column_numeric(tmp_path: Path) -> None:
    plain = read(write(tmp_path, EVENTS))
    year = pl.col("year").cast(pl.String)
    for odd, warnings in (("N/A", 0), ("V", 1)):
        table = TABLE.with_columns(year=pl.when(I == 2).then(pl.lit(odd)).otherwise(year))
        data = read(write(tmp_path, EVENTS, table))
        wanted = pl.when(pl.col("item_id") == "2").then(None).otherwise("year").alias("year")
        assert data.items.equals(plain.items.with_columns(wanted))
        assert len(data.report.warnings) == warnings
        assert "year (numbers, 1 unknown" in shown(data)
    assert "column 'year': 1 of 24 values are no numbers, as 'V'" in data.report.warnings[0]
    mixed = read(
        write(tmp_path, EVENTS, TABLE.with_columns(year=pl.when(I % 3 == 0).then(pl.lit("V")).otherwise(year)))
    )
    assert mixed.items.schema["year"] == pl.List(pl.String)
    assert "column 'year': 16 of 24 values are numbers, others are not" in mixed.report.warnings[0]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "__index_level_0__", "index", "row_nr", "counted"])
def test_row_numbers_are_no_attribute(tmp_path: Path, name: str) -> None:
    plain = read(write(tmp_path, EVENTS))
    numbers = I if name == "counted" else 3 * I + 7
    table = TABLE.select(numbers.alias(name), pl.all())
    data = read(write(tmp_path, EVENTS, table))
    assert data.sha256 == plain.sha256
    assert f"no attribute  {name or repr(name)} (row numbers" in shown(data)
    if name:
        kept = read(tmp_path, columns=Columns(attributes=(name, "genre")))
        assert kept.items.columns == ["item_id", "title", name, "genre"]


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pl.lit("en"), "one value for all items: 'en'"),
        (pl.when(I == 3).then(pl.lit("fr")).otherwise(pl.lit("en")), "one value for 96% of the items: 'en'"),
        (pl.format("http://shop/{}", "item_id"), "a different value for (nearly) every item"),
        (pl.lit(2.5), "one value for all items: 2.5"),
        (pl.lit("N/A"), "no value is known"),
        (pl.lit(None, pl.String), "no value is known"),
    ],
)
def test_attributes_that_say_nothing_are_left_out(tmp_path: Path, column: pl.Expr, why: str) -> None:
    plain = read(write(tmp_path, EVENTS))
    data = read(write(tmp_path, EVENTS, TABLE.with_columns(column.alias("extra"))))
    assert data.sha256 == plain.sha256
    assert f"no attribute  extra ({why})" in shown(data)
    assert "extra" in data.report.ignored_columns


def test_numbers_that_name_something_are_values(tmp_path: Path) -> None:
    table = TABLE.with_columns(brand_id=7000 + I % 3, tmdbId=I * 17 + 5)
    data = read(write(tmp_path, EVENTS, table))
    assert data.items["brand_id"].to_list()[:2] == [["7000"], ["7001"]]
    assert "tmdbId (a different value" in shown(data)


def test_no_concept_of_what_nearly_all_items_have() -> None:
    items = pl.DataFrame({"item_id": [str(n) for n in range(40)], "tags": [["all", "ab"[n % 2]] for n in range(40)]})
    assert AttributeValues.of(items, 10).names == [("tags", "a"), ("tags", "b")]


def test_an_item_table_of_other_items_is_refused(tmp_path: Path) -> None:
    others = TABLE.with_columns(item_id=pl.format("x{}", "item_id"))
    with pytest.raises(
        DataError, match=r"items.csv: has rows for 0 of 24 items, .* like 'x0', 'x1', .* like '0', '1'.*--item-column"
    ):
        read(write(tmp_path, EVENTS, others))
    data = read(write(tmp_path, EVENTS, TABLE.head(18)))
    assert "items.csv: 22% of the events are of items without a row there" in data.report.warnings[0]


@pytest.mark.parametrize(
    ("events", "table", "said"),
    [
        (pl.concat([EVENTS, EVENTS]), TABLE, "50% of the events repeat user, item and time"),
        (EVENTS.with_columns(user_id=pl.when(I % 3 == 0).then(-1).otherwise("user_id")), TABLE, "one user has 33% of"),
        (
            EVENTS.with_columns(user_id=pl.when(I < 60).then("user_id").otherwise(I)),
            TABLE,
            "67% of the events are of users",
        ),
        (EVENTS, pl.concat([TABLE, TABLE.with_columns(genre=pl.lit("War"))]), "24 of 48 rows have no id or that of an"),
        (EVENTS, TABLE.with_columns(genre=pl.col("genre") + "|Film"), "24 of 24 values hold '|', as 'Crime|Film'"),
    ],
)
def test_suspicious_shares_are_told(tmp_path: Path, events: pl.DataFrame, table: pl.DataFrame, said: str) -> None:
    assert any(said in warning for warning in read(write(tmp_path, events, table)).report.warnings)


@pytest.mark.parametrize(("old", "new"), [("^", "\ufeff"), (",", ";"), (",", "\t"), (",", " , "), ("\n", "\r\n")])
def test_text_files_of_other_kinds(tmp_path: Path, old: str, new: str) -> None:
    plain = read(write(tmp_path, EVENTS))
    for name, frame in (("interactions", EVENTS), ("items", TABLE)):
        (tmp_path / f"{name}.csv").write_text(("^" + frame.write_csv()).replace(old, new).lstrip("^"))
    assert read(tmp_path).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda text: text.replace("Film", "Léon").encode("latin-1"),
            r"items.csv: cannot be read: it is not UTF-8\. .*iconv",
        ),
        (lambda text: text.encode("utf-16"), "items.csv: cannot be read: it is UTF-16"),
        (lambda text: text.replace("year", "genre", 1).encode(), "items.csv: two columns are called 'genre'"),
        (
            lambda text: text.replace("item_id", "sku", 1).encode(),
            "no column for the item .* it has sku, .*--item-column",
        ),
    ],
)
def test_item_tables_that_cannot_be_read(tmp_path: Path, change: Callable[[str], bytes], why: str) -> None:
    write(tmp_path, EVENTS)
    (tmp_path / "items.csv").write_bytes(change(TABLE.write_csv()))
    with pytest.raises(DataError, match=why):
        read(tmp_path)


def test_names_of_columns_in_other_cases(tmp_path: Path) -> None:
    plain = read(write(tmp_path, EVENTS))
    events = EVENTS.rename({"user_id": "UserID", "item_id": "Item Id", "timestamp": "TimeStamp"})
    assert read(write(tmp_path, events, TABLE.rename({"item_id": "ID", "title": "Title"}))).sha256 == plain.sha256


def test_a_file_without_a_header_is_told(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("1,2,1600000000\n1,3,1600000001\n")
    with pytest.raises(DataError, match=r"--user-column\. The first line of the file must name the columns"):
        read(tmp_path / "events.csv")


ODD = EVENTS.rename({"user_id": "who", "item_id": "what", "timestamp": "when"})
ODD_TABLE = TABLE.rename({"item_id": "sku", "title": "label"})
NAMED = ("--user-column", "who", "--item-column", "what", "--item-column", "sku", "--time-column", "when")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A command, as a person types it; it stops once the data is loaded."""
    monkeypatch.setattr("steersman_training.display.RichDisplay", stop)
    return lambda *arguments: CliRunner().invoke(make_app(), list(arguments))


def stop() -> None:
    raise ValueError("the data was loaded")


@pytest.mark.parametrize("command", ["train", "evaluate", "sweep"])
def test_columns_are_named_on_the_command_line(tmp_path: Path, run: Callable[..., Result], command: str) -> None:
    data = ("--data", str(write(tmp_path, ODD, ODD_TABLE)), "--cache", str(tmp_path))
    lost = run(command, *data, "--json")
    assert lost.exit_code == 1
    assert "it has who, what, when. Name the right one: --user-column" in lost.stderr
    more = ("--title-column", "label", "--attribute-columns", "year,genre")
    found = run(command, *data, *NAMED, *more, "--json")
    assert found.stdout == ""
    assert "columns       user: who; item: what; time: when" in found.stderr
    assert "id: sku; title: label; attributes: genre (values), year (numbers)" in found.stderr
    assert "the data was loaded" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (
            ("--user-column", "id"),
            "no column 'id' for the user; it has who, what, when. Name one of these: --user-column",
        ),
        (
            (*NAMED, "--item-column", "id"),
            "no column 'id' for the item; it has who, what, when, sku, label, genre, year",
        ),
        ((*NAMED, "--title-column", "name"), "no column 'name' for the title; it has sku, label, genre, year"),
        (
            (*NAMED, "--attribute-columns", "genre,yaer"),
            "no column 'yaer' for an attribute; it has sku, label, genre, year",
        ),
        ((*NAMED, "--attribute-columns", "sku"), "column 'sku' can be no attribute (--attribute-columns)"),
        ((*NAMED, "--rating-column", "when"), "--rating-column: ratings are read with --min-rating only"),
        (
            (*NAMED, "--min-rating", "3"),
            "no column for the rating (rating); it has who, what, when. Name the right one",
        ),
        ((*NAMED, "--time-column", "who"), "column 'who' cannot be both user and time"),
    ],
)
def test_wrong_names_of_columns(
    tmp_path: Path, run: Callable[..., Result], arguments: tuple[str, ...], why: str
) -> None:
    ran = run("train", "--data", str(write(tmp_path, ODD, ODD_TABLE)), *arguments)
    assert ran.exit_code == 1
    assert why in ran.stderr
    assert "Traceback" not in ran.output


def test_names_that_need_an_item_table(tmp_path: Path) -> None:
    write(tmp_path, EVENTS, None)
    for columns, flag in (
        (Columns(title="label"), "--title-column"),
        (Columns(attributes=("a",)), "--attribute-columns"),
    ):
        with pytest.raises(DataError, match=f"{flag}: there is no item table; give one with --items"):
            read(tmp_path, columns=columns)


def test_warnings_stand_on_standard_error(tmp_path: Path, run: Callable[..., Result]) -> None:
    ran = run("train", "--data", str(write(tmp_path, EVENTS, TABLE.head(18))), "--json")
    assert ran.stdout == ""
    assert "in item table 77.8% of the events; 18 of 24 items" in ran.stderr
    assert f"warning: {tmp_path}/items.csv: 22% of the events are of items without a row there" in ran.stderr
