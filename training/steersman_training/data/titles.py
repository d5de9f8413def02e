"""Titles: in readable order, their year, and their words."""

import re

import polars as pl

YEAR = r"\((\d{4})\)\s*$"  # a year at the end of a title, as in "Toy Story (1995)"
ARTICLES = "The|A|An|Le|La|Les|L'|Un|Une|Il|Lo|Gli|Una|El|Los|Las|Das|Der|Die|Ein|Eine|Den|Det|Het"
ARTICLE = re.compile(rf"^(.+), ({ARTICLES})(?=\s*(?:\(|$))")
IN_BRACKETS = re.compile(rf"\(([^()]+), ({ARTICLES})\)")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def readable_title(title: str) -> str:
    """With the article in front: "Godfather, The (1972)" reads "The Godfather (1972)", and so does another title in brackets."""
    title = IN_BRACKETS.sub(lambda found: f"({_in_front(found)})", title)
    found = ARTICLE.match(title)
    return f"{_in_front(found)}{title[found.end() :]}" if found else title


def _in_front(found: re.Match[str]) -> str:
    gap = "" if found[2].endswith("'") else " "
    return f"{found[2]}{gap}{found[1]}"


def title_words(title: str) -> list[str]:
    """The words of a title, without those in brackets."""
    return WORD.findall(re.sub(r"\([^()]*\)", " ", readable_title(title)))


def with_readable_titles(items: pl.DataFrame) -> pl.DataFrame:
    """An item table as a bundle holds it, with readable titles."""
    return items.with_columns(title=pl.Series(map(readable_title, items["title"]), dtype=pl.String))
