"""The ledger: every finished trial, once, in a SQLite file. What is in it is not run again."""

import ast
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from paperworks.errors import LedgerError

APPLICATION_ID = 0x50574B53  # "PWKS": told apart from other programs' SQLite files
PATIENCE = 60.0  # seconds that a writer waits for the others
_TABLE = """CREATE TABLE IF NOT EXISTS trials (
    key TEXT PRIMARY KEY, paper TEXT NOT NULL, study TEXT NOT NULL, arm TEXT NOT NULL, seed INTEGER NOT NULL,
    result TEXT NOT NULL, finished REAL NOT NULL) WITHOUT ROWID"""


class Ledger:
    """Finished trials in `path`, safe for several processes at once.

    Raises:
        LedgerError: the file cannot be made, is no ledger, or is damaged.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with self._told():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            # The tables first: another process may be making them now, and it signs the file as it does.
            tables = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_master")}
            owner = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if owner != APPLICATION_ID and tables:
                raise LedgerError(f"{self.path} is a SQLite file of another program; give another folder with --runs")
            if owner != APPLICATION_ID or "trials" not in tables:
                self._create()

    def _create(self) -> None:
        self._patiently("PRAGMA journal_mode=WAL")  # SQLite itself does not wait here
        with self._transaction():
            self._connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            self._connection.execute(_TABLE)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                advice = "The disk is full or refuses writes; make room and run the same command again."
            elif "not a database" in str(error) or "malformed" in str(error):
                advice = "It is no ledger or is damaged; move it away, a new one is made."
            else:
                advice = "Check the file and its folder, or give another folder with --runs."
            raise LedgerError(f"ledger {self.path}: {error}. {advice} Finished trials in it are untouched.") from error
        except OSError as error:
            raise LedgerError(f"ledger {self.path}: {error.strerror}. Give another folder with --runs.") from error

    def _patiently(self, statement: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._patiently("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def add(self, key: str, trial: Mapping[str, Any]) -> bool:
        """Write a finished trial; False when another process has written it already."""
        values = (key, trial["paper"], trial["study"], trial["arm"], trial["seed"], json.dumps(trial), time.time())
        with self._told(), self._transaction():
            cursor = self._connection.execute("INSERT OR IGNORE INTO trials VALUES (?,?,?,?,?,?,?)", values)
            return cursor.rowcount == 1

    def get(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The finished ones among `keys`."""
        found = {}
        with self._told():
            for key in keys:
                row = self._connection.execute("SELECT result FROM trials WHERE key=?", (key,)).fetchone()
                if row:
                    found[key] = self._parsed(key, row[0])
        return found

    def _parsed(self, key: str, text: Any) -> dict[str, Any]:
        try:
            trial = json.loads(text)
            if problem := trial_problem(trial):
                raise ValueError(f"not a trial: {problem}")
        except (ValueError, TypeError, RecursionError) as error:
            raise LedgerError(
                f"ledger {self.path}: record {key[:12]} is damaged ({error}); run with --fresh to measure it again"
            ) from error
        return trial

    def remove(self, keys: Iterable[str]) -> None:
        """Forget trials, so that they are run again."""
        with self._told(), self._transaction():
            self._connection.executemany("DELETE FROM trials WHERE key=?", [(key,) for key in keys])

    def __len__(self) -> int:
        with self._told():
            return self._connection.execute("SELECT COUNT(*) FROM trials").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def trial_problem(trial: Any) -> str | None:
    """What keeps a JSON value from being a finished trial; None where nothing does."""
    if not isinstance(trial, dict):
        return f"a {type(trial).__name__}"
    number = int | float | None
    kinds = {"study": str, "arm": str, "seed": int, "rows": list, "curves": dict | None, "counts": dict | None}
    kinds |= {"costs": dict | None, "settings": dict | None, "point": dict | None} | dict.fromkeys(
        ("parameters", "operations", "saved_bytes", "seconds", "cpu_seconds"), number
    )
    wrong = next((name for name, kind in kinds.items() if not isinstance(trial.get(name), kind)), None)
    if wrong:
        return f"its '{wrong}' is {str(trial.get(wrong))[:40]!r}"
    for row in trial["rows"]:
        if not (isinstance(row, dict) and isinstance(row.get("variant"), str) and isinstance(row.get("metrics"), dict)):
            return f"its row {str(row)[:40]!r} lacks 'variant' or 'metrics'"
        for name, value in row["metrics"].items():
            if not isinstance(value, number):
                return f"its metric '{name}' is {str(value)[:40]!r}"
    return None


def trial_key(spec: Mapping[str, Any], code: str) -> str:
    """What makes two trials the same: paper, study, arm, seed, settings, point, data, device, torch, code."""
    from importlib.metadata import version

    names = ("slug", "study", "arm", "seed", "settings", "point", "data", "device")
    identity = {name: spec[name] for name in names} | {"torch": version("torch"), "code": code}
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()


@cache
def code_hash(study: Path, package: Path) -> str:
    """A hash of `study` and of the project files that it imports, directly or not, without cli, gallery and lab.

    `package` is the folder of the package `paperworks`; files beside the study are followed too.
    """
    left_out = {package / "cli.py", package / "gallery", package / "lab", package / "lazy.py", package / "errors.py"}
    todo, seen = [study.resolve()], set()
    while todo:
        path = todo.pop()
        if path in seen or left_out & {path, *path.parents}:
            continue
        seen.add(path)
        todo += _imported(path, package)
    digest = hashlib.sha256()
    for path in sorted(seen):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _imported(path: Path, package: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(package.parent, alias.name.split("."), package)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = path.parents[node.level - 1]
                parts = (node.module or "").split(".") if node.module else []
            else:
                start, parts = package.parent, (node.module or "").split(".")
            yield from _files(start, parts, package)
            for alias in node.names:
                yield from _files(start, [*parts, alias.name], package)


def _files(start: Path, parts: list[str], package: Path) -> Iterator[Path]:
    """The file that `parts` below `start` names, if it is the project's own."""
    if start == package.parent and parts[:1] != [package.name]:
        return
    place = start.joinpath(*parts)
    if place.with_suffix(".py").is_file():
        yield place.with_suffix(".py").resolve()
    elif parts and (place / "__init__.py").is_file() and place != package:
        yield (place / "__init__.py").resolve()
