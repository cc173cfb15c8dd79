"""Ways in which a file goes wrong: bits, lengths, names, cells, keys."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

Cells = list[list[str]]

# --- any file ---------------------------------------------------------------------------------------------------------


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(rng.choice((1, 1, 3))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def truncate(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(max(1, len(content)))])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def lengthen(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + rng.randbytes(40))


def zeros(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"0")
    start = rng.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(bytes(content))


def noise(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(200))


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def nowhere(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def itself(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def another(path: Path, rng: random.Random) -> None:
    """A file of another place under this name."""
    others = [p for p in sorted(path.parent.parent.rglob("*")) if p.is_file() and p != path]
    if others:
        shutil.copy(rng.choice(others), path)


def twice(path: Path, rng: random.Random) -> None:
    """A copy beside it."""
    shutil.copy(path, path.with_name(f"copy-{path.name}"))


ANY: tuple[Callable[[Path, random.Random], None], ...] = (
    *(flip, flip, truncate, empty, lengthen, zeros, noise, remove, folder, nowhere, itself, another, twice),
)

# --- rows and columns -------------------------------------------------------------------------------------------------

WORDS = (
    "",
    "NULL",
    "abc",
    "1e999",
    "-1",
    "9223372036854775808",
    "é",
    "2150-13-45",
    "NaN",
    '"',
    ">5",
    "0x1F",
    "\0",
    "٣",
)


def _read(path: Path) -> Cells:
    raw = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return [line.split(",") for line in raw.decode(errors="surrogateescape").split("\n")]


def _write(path: Path, cells: Cells) -> None:
    raw = "\n".join(map(",".join, cells)).encode(errors="surrogateescape")
    path.write_bytes(gzip.compress(raw, 1) if path.name.endswith(".gz") else raw)


def cell(cells: Cells, rng: random.Random) -> None:
    row = rng.choice(cells[1:] or cells)
    row[rng.randrange(len(row))] = rng.choice(WORDS)


def column_word(cells: Cells, rng: random.Random) -> None:
    """A whole column is one word."""
    at, word = rng.randrange(len(cells[0])), rng.choice(WORDS)
    for row in cells[1:]:
        if at < len(row):
            row[at] = word


def column_gone(cells: Cells, rng: random.Random) -> None:
    at = rng.randrange(len(cells[0]))
    for row in cells:
        del row[at : at + 1]


def column_name(cells: Cells, rng: random.Random) -> None:
    cells[0][rng.randrange(len(cells[0]))] = rng.choice((*WORDS, cells[0][0], "label"))


def columns_swapped(cells: Cells, rng: random.Random) -> None:
    """Two names in each other's place."""
    a, b = rng.randrange(len(cells[0])), rng.randrange(len(cells[0]))
    cells[0][a], cells[0][b] = cells[0][b], cells[0][a]


def row_twice(cells: Cells, rng: random.Random) -> None:
    cells.insert(1, list(rng.choice(cells[1:] or cells)))


def row_gone(cells: Cells, rng: random.Random) -> None:
    if len(cells) > 2:
        del cells[rng.randrange(1, len(cells))]


def row_short(cells: Cells, rng: random.Random) -> None:
    row = rng.choice(cells)
    del row[rng.randrange(len(row)) :]


def row_long(cells: Cells, rng: random.Random) -> None:
    rng.choice(cells).extend(["1", "2"])


def torn(cells: Cells, rng: random.Random) -> None:
    """The rest of the file is missing, from within a row."""
    at = rng.randrange(len(cells))
    del cells[at + 1 :]
    cells[at] = [",".join(cells[at])[:-3]]


def no_rows(cells: Cells, rng: random.Random) -> None:
    del cells[1:]


def other_order(cells: Cells, rng: random.Random) -> None:
    rows = cells[1:]
    rng.shuffle(rows)
    cells[1:] = rows


def open_quote(cells: Cells, rng: random.Random) -> None:
    row = rng.choice(cells)
    row[0] = '"' + row[0]


TABLE: tuple[Callable[[Cells, random.Random], None], ...] = (
    *(cell, cell, column_word, column_gone, column_name, columns_swapped, row_twice, row_gone, row_short, row_long),
    *(torn, no_rows, other_order, open_quote),
)


def mutate_table(path: Path, rng: random.Random) -> str:
    """One change of a CSV file, gzipped or not; its name."""
    how = rng.choice(TABLE)
    cells = _read(path)
    how(cells, rng)
    _write(path, cells)
    return how.__name__


# --- keys and values --------------------------------------------------------------------------------------------------

VALUES: tuple[Any, ...] = (None, [], {}, "", "abc", -1, 0, 1e308, True, [1, [2]], {"a": {"b": 1}}, 2**70, "é")


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, of in inner for place in _places(of, (*at, key)))]


def mutate_tree(tree: Any, rng: random.Random) -> Any:
    """One value replaced, one key gone, renamed or added."""
    place = rng.choice(_places(tree)[1:] or [()])
    if not place:
        return rng.choice(VALUES)
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    how = rng.choice(("value", "value", "value", "gone", "name", "more"))
    if how == "value" or isinstance(inner, list):
        inner[place[-1]] = rng.choice(VALUES)
    elif how == "gone":
        del inner[place[-1]]
    elif how == "name":
        inner[rng.choice(("", "seed", "é", 3, "x" * 300))] = inner.pop(place[-1])
    else:
        inner["unknown"] = rng.choice(VALUES)
    return tree


TEXTS = (
    "[" * 5000,
    "{a: " * 3000,
    "a: [1\n",
    "\t- x\n",
    "&a [*a]",
    "a: *b",
    "!!python/object:os.system {}",
    "? [",
    "- 1",
    "2",
    "~",
)


def mutate_words(path: Path, rng: random.Random) -> str:
    """One change of a JSON or YAML file; its name."""
    if rng.random() < 0.25:
        path.write_text(rng.choice(TEXTS))
        return "text"
    if rng.random() < 0.15:
        how = rng.choice((flip, truncate, noise, empty))
        how(path, rng)
        return how.__name__
    if path.suffix == ".json":
        path.write_text(json.dumps(mutate_tree(json.loads(path.read_text()), rng)))
    else:
        path.write_text(yaml.safe_dump(mutate_tree(yaml.safe_load(path.read_text()), rng), allow_unicode=True))
    return "tree"


def mutate(path: Path, rng: random.Random) -> str:
    """One change of a file, as its kind allows; its name."""
    kind = rng.random()
    if path.name.endswith((".csv", ".csv.gz", ".txt")) and kind < 0.75:
        return mutate_table(path, rng)
    if path.suffix in (".json", ".yaml") and kind < 0.75:
        return mutate_words(path, rng)
    how = rng.choice(ANY)
    how(path, rng)
    return how.__name__
