"""The SQLite file of the embedded store: its tables, one connection per thread, transactions."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrag.errors import ConfigurationError, Unavailable

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0

_TROUBLE = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
}

# Numbers are never reused (AUTOINCREMENT), so "what is new" is "what has a higher number", and `deletions` is the
# log of what went. `documents.text` comes last: a row's other columns are read without walking through it.
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tenants (num INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE documents (
    num INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL REFERENCES tenants, id TEXT NOT NULL,
    content_hash BLOB NOT NULL, title TEXT NOT NULL, labels TEXT NOT NULL, metadata TEXT NOT NULL,
    text TEXT NOT NULL, UNIQUE (tenant, id));
CREATE TABLE passages (
    num INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    position INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, embedding BLOB,
    UNIQUE (document, position));
CREATE TABLE images (
    num INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL REFERENCES tenants, id TEXT NOT NULL,
    media_type TEXT NOT NULL, embedding BLOB NOT NULL, content BLOB NOT NULL, UNIQUE (tenant, id));
CREATE TABLE pictures (
    num INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    position INTEGER NOT NULL, image INTEGER NOT NULL REFERENCES images, UNIQUE (document, position));
CREATE INDEX pictures_of_image ON pictures (image);
CREATE TABLE labels (
    tenant INTEGER NOT NULL, label TEXT NOT NULL, num_words INTEGER NOT NULL,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    PRIMARY KEY (tenant, label, document)) WITHOUT ROWID;
CREATE INDEX labels_of_document ON labels (document);
CREATE TABLE metadata (
    tenant INTEGER NOT NULL, field TEXT NOT NULL, value TEXT NOT NULL,
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    PRIMARY KEY (tenant, field, value, document)) WITHOUT ROWID;
CREATE INDEX metadata_of_document ON metadata (document);
CREATE TABLE deletions (num INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL);
"""


class Database:
    """One SQLite file, shared with other threads and processes on this machine.

    Raises:
        ConfigurationError: the file cannot be used.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(f"the knowledge base {self.path} cannot be opened: {error}") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of the store as it is now; writers do not wait for it."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The only writer: all that is done inside is kept on leaving, or nothing after an exception."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._local = threading.local()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _TROUBLE:
                raise
            # Callers need not know where the file lies; the log should.
            log.warning("the knowledge base %s does not answer: %s", self.path, error)
            raise Unavailable(f"the knowledge base does not answer: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
            self._connections.append(self._local.connection)
        return self._local.connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _prepare(self) -> None:
        connection = self._connect()
        try:
            _use_write_ahead_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
        if version not in (0, SCHEMA_VERSION):
            raise ConfigurationError(
                f"{self.path} was written by another version of mmrag (its schema is {version}, this one reads "
                f"{SCHEMA_VERSION}); name another file and ingest again"
            )


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    # The busy timeout does not cover the switch to WAL, and several replicas start at once.
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
