//! Reading what can be read of a file that may be damaged. Nothing here writes to the file itself: it is copied first,
//! with its log, and whatever has to be mended to be read at all is mended in the copy.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, ToSql,
    types::{Value, ValueRef},
};

use super::{
    mend::{Fit, connect, copy, fits, graft, holds_rows, io_failed},
    store_error,
};
use crate::StoreError;

/// How many row numbers are tried one by one where neither end of a table nor an index tells which there are.
const PROBES: i64 = 1 << 16;

/// A table, as the present schema has it.
#[derive(Debug)]
pub(super) struct Table {
    pub name: String,
    /// The columns of its primary key, in order.
    pub key: Vec<String>,
    pub columns: Vec<String>,
    has_rowid: bool,
}

/// The tables of a store.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
               AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    names
        .map(|found| {
            let (name, without_rowid): (String, bool) = found?;
            let columns = columns(connection, &name)?;
            let mut key: Vec<(i64, String)> =
                columns.iter().filter(|(_, at)| *at > 0).map(|(name, at)| (*at, name.clone())).collect();
            key.sort();
            Ok(Table {
                key: key.into_iter().map(|(_, name)| name).collect(),
                columns: columns.into_iter().map(|(name, _)| name).collect(),
                has_rowid: !without_rowid,
                name,
            })
        })
        .collect()
}

/// The columns of a table, each with its place in the primary key, from 1; 0 outside of it.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, i64)>> {
    let mut statement = connection.prepare("SELECT name, pk FROM pragma_table_info(?1)")?;
    let found = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    found.collect()
}

/// A row as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub columns: &'a [String],
    pub values: &'a [Value],
}

impl Row<'_> {
    pub(super) fn get(&self, column: &str) -> Option<&Value> {
        self.columns.iter().position(|name| name == column).and_then(|at| self.values.get(at))
    }

    pub(super) fn text(&self, column: &str) -> Option<&str> {
        match self.get(column) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn integer(&self, column: &str) -> Option<i64> {
        match self.get(column) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }
}

/// A row that is, or may be, in the file and could not be read.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    /// By what it is known, for people: never a secret.
    pub name: String,
    /// Its primary key, as far as an index still tells it.
    pub key: Vec<(String, Value)>,
}

/// How far a table could be read.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Every row was read, and the indexes agree.
    pub complete: bool,
    /// More rows may be missing than those in `unread`.
    pub gap: bool,
    pub unread: Vec<Unread>,
}

/// A copy of a file that may be damaged, open for reading.
#[derive(Debug)]
pub(super) struct Source {
    connection: Connection,
    /// What `PRAGMA integrity_check` found; nothing in a sound file.
    pub problems: Vec<String>,
    pub version: i32,
    /// Which pages could not be copied, and whether the first ones were put back from elsewhere: for people.
    pub notes: Vec<String>,
}

impl Source {
    /// Copies `file` and its log into `folder` under `name`, and opens the copy. Where its first pages, which say what
    /// else is in the file, cannot be read, those of the first of `templates` that fits are put in their place.
    ///
    /// # Errors
    /// [`StoreError::Open`] when it cannot be copied; [`StoreError::Incompatible`] when it is another program's, or of a
    /// newer version.
    pub(super) fn open(
        file: &Path,
        folder: &Path,
        name: &str,
        templates: &[&Path],
        known: &[Table],
        latest: i32,
    ) -> Result<Self, StoreError> {
        let mut notes = Vec::new();
        let at = folder.join(name);
        let again = || {
            let skipped = copy(file, &at).and_then(|skipped| {
                let log = beside(file, "-wal");
                Ok(skipped + if log.exists() { copy(&log, &beside(&at, "-wal"))? } else { 0 })
            });
            skipped.map_err(|error| StoreError::Open {
                path: file.to_owned(),
                problem: format!("it cannot be copied ({error}); the folder of the store needs as much free space"),
            })
        };
        let skipped = again()?;
        if skipped > 0 {
            notes.push(format!("{skipped} pages cannot be read from the disk"));
        }
        let mut opened = connect(&at);
        if !opened.as_ref().is_ok_and(|c| fits(c, known, latest) == Fit::Ours) {
            if let Ok(Fit::Newer(problem)) = opened.as_ref().map(|c| fits(c, known, latest)) {
                return Err(StoreError::Incompatible(problem));
            }
            for template in templates {
                drop(opened);
                again()?;
                opened = graft(&at, template).map_err(|_| io_failed(file)).and_then(|()| connect(&at));
                if opened.as_ref().is_ok_and(|c| fits(c, known, latest) == Fit::Ours && holds_rows(c)) {
                    notes.push(
                        "its first pages cannot be read; those of another store of this gateway say where its \
                                tables are"
                            .to_owned(),
                    );
                    break;
                }
            }
        }
        let connection = match opened {
            Ok(connection) => connection,
            // not a single table: an empty one has as much to say
            Err(_) => Connection::open_in_memory().map_err(store_error)?,
        };
        let problems = problems(&connection, "integrity_check(20)");
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap_or(0);
        Ok(Self { connection, problems, version, notes })
    }

    /// Shows every row of a table that can be read, once; `show` says whether it means anything.
    ///
    /// # Errors
    /// Those of `show`. What cannot be read is in the answer.
    pub(super) fn walk(
        &self,
        table: &Table,
        show: &mut dyn FnMut(Row<'_>) -> Result<bool, StoreError>,
    ) -> Result<Walk, StoreError> {
        let found = columns(&self.connection, &table.name).unwrap_or_default();
        let present: Vec<String> =
            found.into_iter().map(|(name, _)| name).filter(|n| table.columns.contains(n)).collect();
        if present.is_empty() {
            // an older schema does not have it; or there is no schema to be read at all
            let has_schema = self.version > 0;
            return Ok(Walk { complete: has_schema, gap: !has_schema, unread: Vec::new() });
        }
        let key = if table.has_rowid { vec!["rowid".to_owned()] } else { table.key.clone() };
        let mut reading = Reading { source: self, table, key, present, seen: HashSet::new(), walk: Walk::default() };
        reading.run(show)?;
        Ok(reading.walk)
    }
}

/// One table being read.
struct Reading<'s> {
    source: &'s Source,
    table: &'s Table,
    /// What finds a row: its number, or the primary key.
    key: Vec<String>,
    present: Vec<String>,
    seen: HashSet<String>,
    walk: Walk,
}

type Show<'f> = dyn FnMut(Row<'_>) -> Result<bool, StoreError> + 'f;

impl Reading<'_> {
    fn run(&mut self, show: &mut Show<'_>) -> Result<(), StoreError> {
        let check = format!("integrity_check({})", quoted(&self.table.name));
        let sound = problems(&self.source.connection, &check).is_empty();
        let up = self.scan("ASC", show)?;
        if up && sound {
            self.walk.complete = self.walk.unread.is_empty();
            return Ok(());
        }
        // from the other end down to what was read already: then nothing is between them
        let mut told = !up && self.scan("DESC", show)?;
        // an index is another copy of what rows there are
        let mut expected = BTreeMap::new();
        for (index, columns) in self.indexes() {
            told |= self.entries(&index, &columns, &mut expected);
        }
        self.walk.gap = !told;
        for (_, (key, unread)) in expected {
            self.look_up(&key, Some(unread), show)?;
        }
        if self.table.has_rowid && self.walk.gap {
            self.probe(show)?;
        }
        Ok(())
    }

    /// Reads in the order of the key until the end, or the first page that cannot be read; true at the end.
    fn scan(&mut self, order: &str, show: &mut Show<'_>) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT {}, {} FROM {} NOT INDEXED ORDER BY {}",
            list(&self.key, ""),
            list(&self.present, ""),
            quoted(&self.table.name),
            list(&self.key, order)
        );
        self.query(&sql, &[], order == "DESC", show).map(|(end, _)| end)
    }

    /// Shows the rows of a query; whether all were read, and how many there were. Stops at a row that was seen if told.
    fn query(
        &mut self,
        sql: &str,
        bound: &[&dyn ToSql],
        until_seen: bool,
        show: &mut Show<'_>,
    ) -> Result<(bool, usize), StoreError> {
        let mut count = 0;
        let Ok(mut statement) = self.source.connection.prepare_cached(sql) else { return Ok((false, count)) };
        let Ok(mut rows) = statement.query(bound) else { return Ok((false, count)) };
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok((true, count)),
                Err(_) => return Ok((false, count)),
            };
            count += 1;
            let mut values = Vec::with_capacity(self.key.len() + self.present.len());
            for at in 0..self.key.len() + self.present.len() {
                values.push(row.get_ref(at).ok().and_then(owned));
            }
            let Some(key) = values.iter().take(self.key.len()).cloned().collect::<Option<Vec<Value>>>() else {
                self.walk.unread.push(Unread { name: "a row without a key".to_owned(), key: Vec::new() });
                continue;
            };
            if !self.seen.insert(format!("{key:?}")) {
                if until_seen {
                    return Ok((true, count));
                }
                continue;
            }
            let rest = values.split_off(self.key.len());
            let known: Vec<(String, Value)> = self
                .table
                .key
                .iter()
                .filter_map(|column| {
                    let at = self.present.iter().position(|name| name == column)?;
                    Some((column.clone(), rest.get(at)?.clone()?))
                })
                .collect();
            let means = match rest.into_iter().collect::<Option<Vec<Value>>>() {
                Some(values) => show(Row { columns: &self.present, values: &values })?,
                None => false,
            };
            if !means {
                self.walk.unread.push(Unread { name: told(&known, &key), key: known });
            }
        }
    }

    /// The indexes that have an entry for every row, with their columns.
    fn indexes(&self) -> Vec<(String, Vec<String>)> {
        let read = || {
            let sql = "SELECT name FROM pragma_index_list(?1) WHERE partial = 0";
            let mut statement = self.source.connection.prepare(sql)?;
            let names = statement.query_map([&self.table.name], |row| row.get(0))?;
            names
                .map(|name| {
                    let name: String = name?;
                    let sql = "SELECT name FROM pragma_index_info(?1) WHERE name IS NOT NULL";
                    let mut statement = self.source.connection.prepare(sql)?;
                    let columns = statement.query_map([&name], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
                    Ok((name, columns))
                })
                .collect::<rusqlite::Result<Vec<_>>>()
        };
        // the primary key of a table without row numbers is the table itself
        let own = |columns: &Vec<String>| !self.table.has_rowid && *columns == self.table.key;
        read().unwrap_or_default().into_iter().filter(|(_, columns)| !own(columns)).collect()
    }

    /// Adds the rows that an index knows and that were not read; true when all of the index could be read.
    fn entries(&self, index: &str, columns: &[String], expected: &mut BTreeMap<String, (Vec<Value>, Unread)>) -> bool {
        // a table without row numbers is found by its key, which every index of it has
        let extra: &[String] = if self.table.has_rowid { columns } else { &[] };
        let sql = |order: &str| {
            let wanted: Vec<String> = self.key.iter().chain(extra).cloned().collect();
            format!(
                "SELECT {} FROM {} INDEXED BY {} ORDER BY {}",
                list(&wanted, ""),
                quoted(&self.table.name),
                quoted(index),
                list(columns, order)
            )
        };
        let mut read = |order: &str| -> rusqlite::Result<()> {
            let mut statement = self.source.connection.prepare(&sql(order))?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let value = |at: usize| row.get_ref(at).ok().and_then(owned);
                let Some(key) = (0..self.key.len()).map(value).collect::<Option<Vec<_>>>() else { continue };
                let found = format!("{key:?}");
                if self.seen.contains(&found) {
                    continue;
                }
                let all: Vec<(String, Value)> = self
                    .key
                    .iter()
                    .chain(extra)
                    .enumerate()
                    .filter_map(|(at, column)| Some((column.clone(), value(at)?)))
                    .collect();
                let of_key = |(column, _): &&(String, Value)| self.table.key.contains(column);
                let known: Vec<(String, Value)> = all.iter().filter(of_key).cloned().collect();
                let name = told(if known.is_empty() { &all } else { &known }, &key);
                let unread = Unread { name, key: known };
                let entry = expected.entry(found).or_insert_with(|| (key.clone(), unread.clone()));
                if entry.1.key.is_empty() {
                    entry.1 = unread;
                }
            }
            Ok(())
        };
        read("ASC").is_ok() || {
            // an error only means that the middle is missing
            let _ = read("DESC");
            false
        }
    }

    fn look_up(&mut self, key: &[Value], unread: Option<Unread>, show: &mut Show<'_>) -> Result<bool, StoreError> {
        let condition: Vec<String> = self.key.iter().map(|column| format!("{} = ?", column_name(column))).collect();
        let sql = format!(
            "SELECT {}, {} FROM {} NOT INDEXED WHERE {}",
            list(&self.key, ""),
            list(&self.present, ""),
            quoted(&self.table.name),
            condition.join(" AND ")
        );
        let bound: Vec<&dyn ToSql> = key.iter().map(|value| value as &dyn ToSql).collect();
        let (_, count) = self.query(&sql, &bound, false, show)?;
        if count == 0
            && let Some(unread) = unread
        {
            self.walk.unread.push(unread);
        }
        Ok(count > 0)
    }

    /// Tries the row numbers that lie between those that were read, and some after the last.
    fn probe(&mut self, show: &mut Show<'_>) -> Result<(), StoreError> {
        let number = |seen: &String| seen.strip_prefix("[Integer(")?.strip_suffix(")]")?.parse::<i64>().ok();
        let mut numbers: Vec<i64> = self.seen.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let mut left = PROBES;
        let mut before = 0_i64;
        let ends = numbers.into_iter().map(Some).chain([None]);
        for end in ends {
            let end = end.unwrap_or_else(|| before.saturating_add(left));
            for number in before + 1..end {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                self.look_up(&[Value::Integer(number)], None, show)?;
            }
            before = before.max(end);
        }
        Ok(())
    }
}

/// What a row is called: by its key where that is a text, by its number otherwise. Hashes say nothing to anybody.
fn told(known: &[(String, Value)], key: &[Value]) -> String {
    let words = |values: &mut dyn Iterator<Item = &Value>| {
        let texts: Vec<String> = values
            .map(|value| match value {
                Value::Text(text) => text.chars().take(80).collect(),
                Value::Integer(number) => format!("row {number}"),
                Value::Blob(bytes) => bytes.iter().take(8).map(|b| format!("{b:02x}")).collect(),
                Value::Real(_) | Value::Null => "?".to_owned(),
            })
            .collect();
        texts.join(" ")
    };
    if known.is_empty() { words(&mut key.iter()) } else { words(&mut known.iter().map(|(_, value)| value)) }
}

fn owned(value: ValueRef<'_>) -> Option<Value> {
    Some(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(bytes) => Value::Text(str::from_utf8(bytes).ok()?.to_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn column_name(name: &str) -> String {
    // in quotes it would be a text where a table has no such column
    if name == "rowid" { name.to_owned() } else { quoted(name) }
}

fn list(columns: &[String], order: &str) -> String {
    columns.iter().map(|name| format!("{} {order}", column_name(name))).collect::<Vec<_>>().join(", ")
}

/// What a check of SQLite's finds; nothing when all is well.
pub(super) fn problems(connection: &Connection, pragma: &str) -> Vec<String> {
    let read = || {
        let mut statement = connection.prepare(&format!("PRAGMA {pragma}"))?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        loop {
            match rows.next() {
                Ok(Some(row)) => found.push(row.get::<_, String>(0)?),
                Ok(None) => return Ok(found),
                Err(error) => {
                    found.push(store_error(error).to_string());
                    return Ok(found);
                }
            }
        }
    };
    let found: rusqlite::Result<Vec<String>> = read();
    match found {
        Ok(found) if found == ["ok"] => Vec::new(),
        Ok(found) => found.iter().flat_map(|text| text.lines()).map(str::to_owned).collect(),
        Err(error) => vec![store_error(error).to_string()],
    }
}

/// The name of what SQLite keeps beside a file.
pub(super) fn beside(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
