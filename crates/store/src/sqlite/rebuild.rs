//! A new store from what is left of an old one: what can be read of the damaged file, and what a backup has besides.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use registrar_model::{OperationId, Registration, RegistrationId};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::Value};
use serde::{Deserialize, Serialize};

use super::{
    open, row,
    salvage::{Row, Source, Table, Unread, Walk, tables},
    store_error, write,
};
use crate::{Operation, RegistrationChange, StoreError, row::ChangeRow};

/// Decides between two sources. It does not matter which source is read first: of two that are equally late and differ all
/// the same, that of a sound file counts.
pub trait Judge {
    /// Which of two records of the same operation is the later; of each, whether it has a sealed secret.
    fn operation(&self, a: (&Operation, bool), b: (&Operation, bool)) -> Ordering;
    /// Which of two records of the same client is the later.
    fn registration(&self, a: &Registration, b: &Registration) -> Ordering;
    /// Whether this operation has removed its registration.
    fn removes(&self, operation: &Operation) -> bool;
}

/// What became of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// Rows of the damaged file.
    pub salvaged: usize,
    /// Rows that only the backup had, or had later.
    pub from_backup: usize,
    /// Rows that are known to have been there and could be read nowhere: ids and names, never secrets.
    pub lost: Vec<String>,
    /// More rows may be lost than are listed: neither the table nor an index of it could be read to the end.
    pub gap: bool,
}

/// A registration of which only the journal knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its id.
    pub id: RegistrationId,
    /// Its backend.
    pub backend: String,
    /// The create that made it.
    pub created_by: OperationId,
    /// What that create says of itself.
    pub summary: String,
}

/// What two sources came to.
#[derive(Debug, Default)]
pub struct Merged {
    /// Table by table.
    pub tables: Vec<TableReport>,
    /// Registrations that one source still had and the journal says were removed.
    pub removed: usize,
    /// Keys of the gateway's API that only the backup had: they may have been deleted since.
    pub api_keys_from_backup: Vec<String>,
    /// Registrations that the journal says were made, and that no source has.
    pub orphans: Vec<Orphan>,
    /// Whether the gateway's own sealing key is there.
    pub has_seal_key: bool,
    /// Rows with something sealed in them: one-time secrets, and vendors' credentials of single clients.
    pub sealed: (i64, i64),
    /// What else a person should know.
    pub notes: Vec<String>,
}

/// One of the sources.
struct Side {
    source: Source,
    walks: HashMap<String, Walk>,
}

/// What is known of each row while sources are put together: which of them it is from.
#[derive(Default)]
struct Origins(HashMap<String, usize>);

/// Where the tables of both sources go.
struct Target<'j> {
    connection: Connection,
    judge: &'j dyn Judge,
    tables: Vec<Table>,
    operations: Origins,
    registrations: Origins,
    /// Registrations that both sources have alike.
    alike: HashSet<String>,
    removed: BTreeSet<String>,
}

/// Makes `new`, a store of the present schema, from a damaged file and a backup, either of which may be missing. `work` is
/// a folder for copies of both.
///
/// # Errors
/// [`StoreError::Open`] when a source cannot be copied, [`StoreError::Incompatible`] when it is not a store that this
/// program knows, or what the new file meets.
pub(super) fn merge(
    new: &Path,
    work: &Path,
    damaged: Option<&Path>,
    backup: Option<&Path>,
    judge: &dyn Judge,
    tell: fn(&str),
) -> Result<Merged, StoreError> {
    let fresh = work.join("fresh.db");
    open::leave(open::writer(&fresh, super::BUSY)?, false);
    let connection = open::writer(new, super::BUSY)?;
    let tables = tables(&connection).map_err(store_error)?;
    let latest: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(store_error)?;
    // the copy: to open the backup itself may leave a log beside it
    let copied = work.join("backup.db");
    let mut templates: Vec<&Path> = backup.map(|_| copied.as_path()).into_iter().collect();
    templates.push(&fresh);
    let mut merged = Merged::default();
    let mut sides = Vec::new();
    let files = [(backup, "the backup", "backup.db", &[][..]), (damaged, "the store", "damaged.db", &templates)];
    for (file, name, copy, templates) in files {
        let Some(file) = file else { continue };
        tell(&format!("reading {name}, {}", file.display()));
        let source = Source::open(file, work, copy, templates, &tables, latest)?;
        match source.problems.len() {
            0 => merged.notes.push(format!("{name} is sound")),
            _ => merged.notes.push(format!("{name} is damaged: {}", source.problems.join("; "))),
        }
        merged.notes.extend(source.notes.iter().map(|note| format!("{name}: {note}")));
        sides.insert(0, Side { source, walks: HashMap::new() });
    }
    let mut target = Target {
        connection,
        judge,
        tables,
        operations: Origins::default(),
        registrations: Origins::default(),
        alike: HashSet::new(),
        removed: BTreeSet::new(),
    };
    write::execute(&target.connection, "BEGIN IMMEDIATE").map_err(store_error)?;
    target.fill(&mut sides, damaged.is_some(), &mut merged)?;
    merged.orphans = target.orphans()?;
    merged.removed = target.removed.len();
    target.count_sealed(&mut merged).map_err(store_error)?;
    write::execute(&target.connection, "COMMIT").map_err(store_error)?;
    open::leave(target.connection, false);
    Ok(merged)
}

impl Target<'_> {
    fn fill(&mut self, sides: &mut [Side], has_store: bool, merged: &mut Merged) -> Result<(), StoreError> {
        let tables = std::mem::take(&mut self.tables);
        // what others refer to comes first
        let rank = |table: &Table| match table.name.as_str() {
            "operations" => 0,
            "registrations" => 1,
            _ => 2,
        };
        let mut order: Vec<&Table> = tables.iter().collect();
        order.sort_by_key(|table| rank(table));
        let mut is_cleared = false;
        for table in order {
            if rank(table) == 2 && !std::mem::replace(&mut is_cleared, true) {
                self.remove_deleted()?;
            }
            let mut counts = [0_usize; 2];
            for at in 0..sides.len() {
                let from_backup = at == 1 || !has_store;
                let is_current = at == 1 && self.is_whole_and_later(sides, &table.name);
                let labels_whole =
                    sides.first().and_then(|side| side.walks.get("labels")).is_none_or(|walk| walk.complete);
                let is_sound = |at: usize| sides.get(at).is_some_and(|side: &Side| side.source.problems.is_empty());
                let prevails = at == 1 && is_sound(1) && !is_sound(0);
                let Some(side) = sides.get_mut(at) else { continue };
                let walk = side.source.walk(table, &mut |row| {
                    let taken = match table.name.as_str() {
                        "operations" => self.take_operation(table, row, at, prevails)?,
                        // they belong to the record that counts, wherever that is from
                        "labels" => self.take_label(table, row, at, labels_whole)?,
                        // it was there, and is not any more
                        _ if is_current && !self.has(table, row)? => Taken::Left,
                        "registrations" => self.take_registration(table, row, at, prevails)?,
                        "idempotency_keys" => self.take_idempotency_key(table, row, at)?,
                        "gateway" => self.take_value(table, row, prevails)?,
                        "api_keys" => self.take_api_key(table, row)?,
                        "initial_access_tokens" => self.take_initial_access_token(table, row)?,
                        _ => self.take(table, row)?,
                    };
                    if let (Taken::New, Some(count)) = (taken, counts.get_mut(usize::from(from_backup))) {
                        *count += 1;
                        if at == 1 && table.name == "api_keys" {
                            merged.api_keys_from_backup.extend(row.text("name").map(str::to_owned));
                        }
                    }
                    Ok(taken != Taken::Refused)
                })?;
                side.walks.insert(table.name.clone(), walk);
            }
            merged.tables.push(TableReport {
                table: table.name.clone(),
                salvaged: counts[0],
                from_backup: counts[1],
                ..TableReport::default()
            });
        }
        for report in &mut merged.tables {
            let Some(table) = tables.iter().find(|table| table.name == report.table) else { continue };
            let whole = self.is_whole_and_later(sides, &table.name);
            let mut lost = BTreeSet::new();
            // what a whole table does not have is not missed
            for side in sides.iter().take(if whole { 1 } else { 2 }) {
                let Some(walk) = side.walks.get(&table.name) else { continue };
                for unread in &walk.unread {
                    if !self.is_there(table, unread)? {
                        lost.insert(unread.name.clone());
                    }
                }
            }
            report.gap = sides.first().and_then(|side| side.walks.get(&table.name)).is_some_and(|walk| walk.gap);
            report.lost = lost.into_iter().collect();
            // a row may have been replaced, or removed, since it was counted
            let origins = [("operations", &self.operations), ("registrations", &self.registrations)];
            if let Some((_, origins)) = origins.into_iter().find(|(name, _)| *name == table.name) {
                report.salvaged = origins.0.values().filter(|at| **at == 0 && has_store).count();
                report.from_backup = origins.0.len() - report.salvaged;
            }
        }
        if sides.len() == 2 && self.operations.0.values().any(|at| *at == 1) {
            merged.notes.push("the backup knows of writes that could not be read in the store".to_owned());
        }
        self.tables = tables;
        Ok(())
    }

    /// Whether the first source has all of a table, and the second knows of no later write: then what only the second has
    /// was deleted since. Operations are never deleted, so that their journals tell.
    fn is_whole_and_later(&self, sides: &[Side], table: &str) -> bool {
        let Some(store) = sides.first().filter(|_| sides.len() == 2) else { return false };
        let whole = |name: &str| store.walks.get(name).is_some_and(|walk| walk.complete);
        whole(table) && whole("operations") && self.operations.0.values().all(|at| *at == 0)
    }

    /// Inserts a row as it is; columns that it does not have get what the schema gives them.
    fn insert(&self, table: &Table, row: Row<'_>) -> Result<bool, StoreError> {
        let columns: Vec<String> = row.columns.iter().map(|name| format!("\"{name}\"")).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({places})", table.name, columns.join(", "));
        let mut statement = self.connection.prepare_cached(&sql).map_err(store_error)?;
        match statement.execute(params_from_iter(row.values)) {
            Ok(_) => Ok(true),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => Ok(false),
            Err(error) => Err(store_error(error)),
        }
    }

    fn has(&self, table: &Table, row: Row<'_>) -> Result<bool, StoreError> {
        let key = table.key.iter().filter_map(|column| Some((column.clone(), row.get(column)?.clone()))).collect();
        self.is_there(table, &Unread { name: String::new(), key })
    }

    /// Whether a row is in the new store, or rightly is not.
    fn is_there(&self, table: &Table, unread: &Unread) -> Result<bool, StoreError> {
        if unread.key.len() < table.key.len() {
            return Ok(false);
        }
        let of = |column: &str| unread.key.iter().find(|(name, _)| name == column).map(|(_, value)| value);
        let owner = of(if table.name == "registrations" { "id" } else { "registration_id" });
        if let Some(Value::Text(id)) = owner
            && self.removed.contains(id)
        {
            return Ok(true);
        }
        let condition: Vec<String> = unread.key.iter().map(|(column, _)| format!("\"{column}\" = ?")).collect();
        let sql = format!("SELECT 1 FROM \"{}\" WHERE {}", table.name, condition.join(" AND "));
        let mut statement = self.connection.prepare_cached(&sql).map_err(store_error)?;
        statement.exists(params_from_iter(unread.key.iter().map(|(_, value)| value))).map_err(store_error)
    }

    /// Does something that leaves no trace unless it says so.
    fn tentatively(&self, work: impl FnOnce() -> Result<Taken, StoreError>) -> Result<Taken, StoreError> {
        let execute = |sql: &str| write::execute(&self.connection, sql).map_err(store_error);
        execute("SAVEPOINT one_row")?;
        let taken = work()?;
        if taken != Taken::New {
            execute("ROLLBACK TO one_row")?;
        }
        execute("RELEASE one_row")?;
        Ok(taken)
    }

    fn delete(&self, table: &str, id: &str) -> Result<(), StoreError> {
        let sql = format!("DELETE FROM \"{table}\" WHERE id = ?1");
        self.connection.prepare_cached(&sql).and_then(|mut s| s.execute([id])).map(drop).map_err(store_error)
    }

    fn operation(&self, id: &str) -> Result<Option<(Operation, bool)>, StoreError> {
        let sql = format!("SELECT {}, sealed IS NOT NULL FROM operations WHERE id = ?1", row::OPERATION);
        let mut statement = self.connection.prepare_cached(&sql).map_err(store_error)?;
        let sealed = statement.column_count() - 1;
        let mut rows = statement.query([id]).map_err(store_error)?;
        let Some(found) = rows.next().map_err(store_error)? else { return Ok(None) };
        Ok(Some((row::operation(found)?, found.get(sealed).map_err(store_error)?)))
    }

    fn registration(&self, id: &str) -> Result<Option<Registration>, StoreError> {
        let sql = format!("SELECT {} FROM registrations r WHERE r.id = ?1", row::REGISTRATION);
        super::read::one(&self.connection, &sql, &[&id], row::registration)
    }

    fn take_operation(&mut self, table: &Table, row: Row<'_>, at: usize, prevails: bool) -> Result<Taken, StoreError> {
        let Some(id) = row.text("id") else { return Ok(Taken::Refused) };
        let have = self.operation(id)?;
        let taken = self.tentatively(|| {
            self.delete("operations", id)?;
            if !self.insert(table, row)? {
                return Ok(Taken::Refused);
            }
            let Ok(Some(found)) = self.operation(id) else { return Ok(Taken::Refused) };
            let later = have.as_ref().is_none_or(|have| {
                let order = self.judge.operation((&found.0, found.1), (&have.0, have.1));
                order == Ordering::Greater || (order == Ordering::Equal && prevails && found != *have)
            });
            Ok(if later { Taken::New } else { Taken::Left })
        })?;
        if taken == Taken::New {
            self.operations.0.insert(id.to_owned(), at);
        }
        Ok(taken)
    }

    fn take_registration(
        &mut self,
        table: &Table,
        row: Row<'_>,
        at: usize,
        prevails: bool,
    ) -> Result<Taken, StoreError> {
        let Some(id) = row.text("id") else { return Ok(Taken::Refused) };
        // a row that has the same id, or is the same client of the vendor
        let sql = "SELECT id FROM registrations WHERE id = ?1 OR (backend = ?2 AND client_id = ?3)";
        let same: Vec<String> = {
            let mut statement = self.connection.prepare_cached(sql).map_err(store_error)?;
            let found = statement.query_map(params![id, row.text("backend"), row.text("client_id")], |row| row.get(0));
            found.and_then(Iterator::collect).map_err(store_error)?
        };
        let have: Vec<Registration> =
            same.iter().map(|id| self.registration(id)).filter_map(Result::transpose).collect::<Result<_, _>>()?;
        let mut is_alike = false;
        let taken = self.tentatively(|| {
            for id in &same {
                self.delete("registrations", id)?;
            }
            if !self.insert(table, row)? {
                return Ok(Taken::Refused);
            }
            let Ok(Some(found)) = self.registration(id) else { return Ok(Taken::Refused) };
            is_alike = have.iter().any(|have| have.id == found.id && have.version == found.version);
            let later = |have: &Registration| {
                let order = self.judge.registration(&found, have);
                order == Ordering::Greater || (order == Ordering::Equal && prevails && found != *have)
            };
            Ok(if have.iter().all(later) { Taken::New } else { Taken::Left })
        })?;
        if is_alike {
            self.alike.insert(id.to_owned());
        }
        if taken == Taken::New {
            for id in same {
                self.registrations.0.remove(&id);
            }
            self.registrations.0.insert(id.to_owned(), at);
        }
        Ok(taken)
    }

    /// Removes the registrations that the journal says were removed.
    fn remove_deleted(&mut self) -> Result<(), StoreError> {
        let sql =
            format!("SELECT {} FROM operations WHERE registration IS NOT NULL AND action <> 'create'", row::OPERATION);
        let ids: Vec<String> = super::read::all(&self.connection, &sql, &[], row::operation)?
            .into_iter()
            .filter(|operation| self.judge.removes(operation))
            .filter_map(|operation| operation.registration)
            .map(|id| id.to_string())
            .collect();
        for id in ids {
            self.delete("registrations", &id)?;
            self.registrations.0.remove(&id);
            self.removed.insert(id);
        }
        Ok(())
    }

    fn take(&self, table: &Table, row: Row<'_>) -> Result<Taken, StoreError> {
        if self.has(table, row)? {
            return Ok(Taken::Left);
        }
        Ok(if self.insert(table, row)? { Taken::New } else { Taken::Refused })
    }

    fn take_label(&self, table: &Table, row: Row<'_>, at: usize, whole: bool) -> Result<Taken, StoreError> {
        let Some(id) = row.text("registration_id") else { return Ok(Taken::Refused) };
        match self.registrations.0.get(id) {
            Some(from) if *from == at || (!whole && self.alike.contains(id)) => self.take(table, row),
            // the registration is gone, or had other labels later
            _ => Ok(Taken::Left),
        }
    }

    fn take_idempotency_key(&self, table: &Table, row: Row<'_>, at: usize) -> Result<Taken, StoreError> {
        if at == 1
            && let Some(id) = row.text("operation")
            && let Some((operation, _)) = self.operation(id)?
            && operation.state == crate::OperationState::Failed
            && operation.outcome == registrar_core::Outcome::NotPerformed
        {
            // it may have been given back since; whoever comes again tries anew, and nothing was done
            return Ok(Taken::Left);
        }
        let key = match row.get("key") {
            Some(Value::Blob(key)) => key,
            _ => return Ok(Taken::Refused),
        };
        let sql = "SELECT created_at FROM idempotency_keys WHERE key = ?1";
        let have: Option<i64> =
            self.connection.query_row(sql, [key], |row| row.get(0)).optional().map_err(store_error)?;
        if have.is_some_and(|have| have >= row.integer("created_at").unwrap_or(i64::MIN)) {
            return Ok(Taken::Left);
        }
        self.tentatively(|| {
            let sql = "DELETE FROM idempotency_keys WHERE key = ?1";
            self.connection.execute(sql, [key]).map_err(store_error)?;
            let written = self.insert(table, row)?;
            let sql = "SELECT operation, fingerprint FROM idempotency_keys WHERE key = ?1";
            let means = || matches!(super::read::one(&self.connection, sql, &[&key], row::key_use), Ok(Some(_)));
            Ok(if written && means() { Taken::New } else { Taken::Refused })
        })
    }

    /// A value is written once and never changes: where two differ, that of a sound file is right.
    fn take_value(&self, table: &Table, row: Row<'_>, prevails: bool) -> Result<Taken, StoreError> {
        let sql = "DELETE FROM gateway WHERE name = ?1 AND value <> ?2";
        if prevails {
            self.connection.execute(sql, params![row.text("name"), row.get("value")]).map_err(store_error)?;
        }
        self.take(table, row)
    }

    fn take_api_key(&self, table: &Table, row: Row<'_>) -> Result<Taken, StoreError> {
        let (Some(id), Some(name)) = (row.text("id"), row.text("name")) else { return Ok(Taken::Refused) };
        if self.has(table, row)? {
            return Ok(Taken::Left);
        }
        let sql = "SELECT created_at FROM api_keys WHERE name = ?1";
        let have: Option<i64> =
            self.connection.query_row(sql, [name], |row| row.get(0)).optional().map_err(store_error)?;
        // deleted and made anew under the same name
        if have.is_some_and(|have| have >= row.integer("created_at").unwrap_or(i64::MIN)) {
            return Ok(Taken::Left);
        }
        self.tentatively(|| {
            self.connection.execute("DELETE FROM api_keys WHERE name = ?1", [name]).map_err(store_error)?;
            let written = self.insert(table, row)?;
            let sql = format!("SELECT {} FROM api_keys WHERE id = ?1", row::API_KEY);
            let means = || matches!(super::read::one(&self.connection, &sql, &[&id], row::api_key), Ok(Some(_)));
            Ok(if written && means() { Taken::New } else { Taken::Refused })
        })
    }

    fn take_initial_access_token(&self, table: &Table, row: Row<'_>) -> Result<Taken, StoreError> {
        let Some(id) = row.text("id") else { return Ok(Taken::Refused) };
        if self.has(table, row)? {
            // what was spent stays spent
            let sql = "UPDATE initial_access_tokens SET uses_left = min(uses_left, ?2) WHERE id = ?1";
            self.connection.execute(sql, params![id, row.integer("uses_left")]).map_err(store_error)?;
            return Ok(Taken::Left);
        }
        self.tentatively(|| {
            let written = self.insert(table, row)?;
            let sql = format!("SELECT {} FROM initial_access_tokens WHERE id = ?1", row::INITIAL_ACCESS_TOKEN);
            let read = super::read::one(&self.connection, &sql, &[&id], row::initial_access_token);
            Ok(if written && matches!(read, Ok(Some(_))) { Taken::New } else { Taken::Refused })
        })
    }

    /// The registrations that were made and never removed, and are not there.
    fn orphans(&self) -> Result<Vec<Orphan>, StoreError> {
        let sql = format!(
            "SELECT {} FROM operations WHERE action = 'create' AND state = 'succeeded' AND registration IS NOT NULL \
             AND registration NOT IN (SELECT id FROM registrations)",
            row::OPERATION
        );
        let found = super::read::all(&self.connection, &sql, &[], row::operation)?;
        let mut orphans = BTreeMap::new();
        for operation in found {
            let Some(id) = operation.registration.filter(|id| !self.removed.contains(&id.to_string())) else {
                continue;
            };
            let (backend, created_by, summary) = (operation.backend, operation.id, operation.summary);
            orphans.insert(id, Orphan { id, backend, created_by, summary: summary.into_owned() });
        }
        Ok(orphans.into_values().collect())
    }

    fn count_sealed(&self, merged: &mut Merged) -> rusqlite::Result<()> {
        let count = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        merged.has_seal_key = count("SELECT count(*) FROM gateway WHERE name = 'seal_key' AND length(value) = 32")? > 0;
        merged.sealed = (
            count("SELECT count(*) FROM operations WHERE sealed IS NOT NULL")?,
            count("SELECT count(*) FROM registrations WHERE management IS NOT NULL")?,
        );
        Ok(())
    }
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    New,
    /// There is a later one, or it was deleted since.
    Left,
    /// It means nothing: damaged.
    Refused,
}

/// Records registrations as they are: changed ones in the place of those with the same id, others as new.
///
/// # Errors
/// What the file meets.
pub(super) fn record(path: &Path, registrations: Vec<Registration>) -> Result<(), StoreError> {
    let connection = open::writer(path, super::BUSY)?;
    let transaction = connection.unchecked_transaction().map_err(store_error)?;
    let mut prepared = write::Prepared::new(&transaction).map_err(store_error)?;
    for registration in registrations {
        let sql = "SELECT version FROM registrations WHERE id = ?1";
        let id = registration.id.to_string();
        let version: Option<i64> =
            transaction.query_row(sql, [id], |row| row.get(0)).optional().map_err(store_error)?;
        let registration = std::sync::Arc::new(registration);
        let change = match version {
            Some(version) => {
                let expected_version = crate::row::read_version(version);
                RegistrationChange::Update { registration, expected_version }
            }
            None => RegistrationChange::Insert(registration),
        };
        write::change_registry(&mut prepared, &ChangeRow::new(change)?).map_err(store_error)??;
    }
    drop(prepared);
    transaction.commit().map_err(store_error)?;
    open::leave(connection, false);
    Ok(())
}
