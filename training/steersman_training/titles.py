"""Titles: how they read in a sentence, the year at their end, and the words in them."""

import re

YEAR = r"\((\d{4})\)\s*$"
"""A year at the end of a title, as in "Toy Story (1995)"."""
ARTICLE = re.compile(r"^(.+), (The|A|An|Le|La|Les|L'|Il|El|Los|Las|Das|Der|Die)(?=\s*(?:\(|$))")
WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


def readable_title(title: str) -> str:
    """With the article in front: "Godfather, The (1972)" reads "The Godfather (1972)"."""
    found = ARTICLE.match(title)
    if not found:
        return title
    gap = "" if found[2].endswith("'") else " "
    return f"{found[2]}{gap}{found[1]}{title[found.end() :]}"


def title_words(title: str) -> list[str]:
    """The words of a title as they stand there, without what is in brackets."""
    return WORD.findall(re.sub(r"\([^()]*\)", " ", readable_title(title)))
