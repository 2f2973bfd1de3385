//! Copies of files that may be damaged, and what has to be put right in a copy before it can be read at all.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use rusqlite::{Connection, OpenFlags, params};

use super::{
    salvage::{Table, tables},
    store_error,
};
use crate::StoreError;

/// How many bytes are copied at once; what cannot be read is given up in pieces of [`PIECE`].
const CHUNK: usize = 1 << 20;
/// The page of every store: SQLite's default.
const PIECE: usize = 4096;

/// Copies a file; what the disk does not give back becomes zeros. Returns how many pages those are.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<usize> {
    let mut source = File::open(from)?;
    let length = source.metadata()?.len();
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut target = options.open(to)?;
    let mut skipped = 0;
    let mut at = 0;
    let mut buffer = vec![0; CHUNK];
    while at < length {
        let size = CHUNK.min(usize::try_from(length - at).unwrap_or(CHUNK));
        let Some(chunk) = buffer.get_mut(..size) else { break };
        if source.seek(SeekFrom::Start(at)).and_then(|_| source.read_exact(chunk)).is_err() {
            for (piece, number) in chunk.chunks_mut(PIECE).zip(0_u64..) {
                let start = at + number * PIECE as u64;
                if source.seek(SeekFrom::Start(start)).and_then(|_| source.read_exact(piece)).is_err() {
                    piece.fill(0);
                    skipped += 1;
                }
            }
        }
        target.write_all(chunk)?;
        at += size as u64;
    }
    // the last page of a file that was cut
    if to.extension().is_some_and(|end| end == "db") {
        target.set_len(length.next_multiple_of(PIECE as u64))?;
    }
    Ok(skipped)
}

/// Opens a copy in the most forgiving way.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(store_error)?;
    // entries of the schema that cannot be read are passed over, and a file that is too short is read as far as it goes
    connection.pragma_update(None, "writable_schema", true).map_err(store_error)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(store_error)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(store_error)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(store_error)?;
    Ok(connection)
}

/// What a file looks like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Ours,
    /// Its schema is not what it was.
    Damaged,
    Newer(String),
}

/// Judges by the tables: the numbers in the header may be what is damaged.
pub(super) fn fits(connection: &Connection, known: &[Table], latest: i32) -> Fit {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap_or(0);
    let Ok(found) = tables(connection) else { return Fit::Damaged };
    let of = |name: &str| known.iter().find(|table| table.name == name);
    let strange = found.iter().any(|table| match of(&table.name) {
        Some(known) => table.columns.iter().any(|column| !known.columns.contains(column)),
        None => true,
    });
    if strange && version > latest {
        return Fit::Newer(format!(
            "its schema has version {version}, this program knows 1 to {latest}; use a newer program"
        ));
    }
    // what is damaged keeps some names; a sound file without any of ours is somebody else's
    if !found.is_empty() && found.iter().all(|table| of(&table.name).is_none()) {
        return Fit::Newer("the file is the database of another program; change store.url".to_owned());
    }
    let has = |name: &str| found.iter().any(|table| table.name == name && !table.columns.is_empty());
    // a step that leads to the present schema may have dropped what an older one has
    if (!strange || version < latest) && version > 0 && ["registrations", "operations", "api_keys"].into_iter().all(has)
    {
        Fit::Ours
    } else {
        Fit::Damaged
    }
}

/// Whether its tables are where the schema says: rows begin as they must.
pub(super) fn holds_rows(connection: &Connection) -> bool {
    let begins = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, bool>(0)).unwrap_or(false);
    begins("SELECT id LIKE 'op!_%' ESCAPE '!' FROM operations NOT INDEXED LIMIT 1")
        || begins("SELECT id LIKE 'reg!_%' ESCAPE '!' FROM registrations NOT INDEXED LIMIT 1")
}

/// Puts the pages of the schema of `template` in the place of those of `path`.
pub(super) fn graft(path: &Path, template: &Path) -> io::Result<()> {
    let failed = |_: rusqlite::Error| io::Error::other("the template cannot be read");
    let pages: Vec<u64> = {
        let template = Connection::open_with_flags(template, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        let mut statement =
            template.prepare("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'").map_err(failed)?;
        let found = statement.query_map(params![], |row| row.get::<_, i64>(0)).map_err(failed)?;
        found.filter_map(|page| page.ok().and_then(|page| u64::try_from(page).ok())).collect()
    };
    let mut source = File::open(template)?;
    let mut target = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = target.metadata()?.len();
    for page in pages {
        let at = page.saturating_sub(1) * PIECE as u64;
        let mut bytes = vec![0; PIECE];
        source.seek(SeekFrom::Start(at))?;
        source.read_exact(&mut bytes)?;
        if page == 1 {
            // how many pages there are is this file's own, and which of them are free is not known
            let count = u32::try_from(length / PIECE as u64).unwrap_or(u32::MAX);
            for (place, byte) in (28_usize..).zip(count.to_be_bytes().into_iter().chain([0; 8])) {
                if let Some(slot) = bytes.get_mut(place) {
                    *slot = byte;
                }
            }
        }
        target.seek(SeekFrom::Start(at))?;
        target.write_all(&bytes)?;
    }
    Ok(())
}

pub(super) fn io_failed(path: &Path) -> StoreError {
    StoreError::Open { path: path.to_owned(), problem: "its first pages cannot be read or mended".to_owned() }
}
