//! `registrar store`: checking, copying and rebuilding the store that the configuration names.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use clap::{Args as ClapArgs, Subcommand};
use registrar_adapters::VENDORS;
use registrar_engine::{
    Config, Engine, EngineOptions,
    rebuild::{Asked, BackendReport, ByRecord, CompareOptions, Comparison},
};
use registrar_model::RegistrationId;
use registrar_store::{Count, Inspection, Merged, Rebuild, SqliteStore, Started, StoreError, TableReport};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    api,
    args::{ConfigArgs, Format},
    check::{self, unusable},
    connect::Network,
    failure::{Failure, LOCAL, LOST},
    output,
};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Say what is in the store and whether it is sound; a gateway may be running. Exit code 1 when it is damaged.
    Check {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Copy the store into a new file as it is at one moment; a gateway may be running.
    Backup {
        /// The new file; nothing is overwritten.
        file: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a new store from what is left of a damaged one, a backup, and the vendors' lists; no gateway may be running.
    ///
    /// Nothing is written to any vendor, and the damaged file is kept. Exit code 4 when something is lost.
    Rebuild(RebuildArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RebuildArgs {
    /// A backup: gives what cannot be read any more.
    #[arg(long, value_name = "BACKUP")]
    from: Option<PathBuf>,
    /// Record clients of the vendors that no record knows, under new ids.
    #[arg(long)]
    adopt: bool,
    /// Only say what would come of it.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(command: StoreCommand, format: Format) -> Result<(), Failure> {
    match command {
        StoreCommand::Check { config } => inspect(&config, format),
        StoreCommand::Backup { file, config } => backup(&file, &config, format),
        StoreCommand::Rebuild(args) => rebuild(&args, format),
    }
}

fn inspect(args: &ConfigArgs, format: Format) -> Result<(), Failure> {
    let url = check::store(args)?;
    let found = api::block_on(async { registrar_store::inspect(&url).await.map_err(|e| unusable(&url, &e)) })?;
    shown(&url, &found, format)?;
    if found.problems.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the store is damaged: {}\nstop the gateway, then `registrar store rebuild --from BACKUP`",
        found.problems.join("\n  ")
    );
    Err(Failure { code: LOCAL, text })
}

fn backup(file: &std::path::Path, args: &ConfigArgs, format: Format) -> Result<(), Failure> {
    let url = check::store(args)?;
    let copied = registrar_store::backup(&url, file).map_err(|e| unusable(&url, &e))?;
    output::note(&format!("{} is on the disk and sound", file.display()));
    if copied.is_empty() {
        let store = registrar_store::redacted(&url);
        output::note(&format!(
            "warning: {store} holds nothing, and so does the backup; is it the store of your gateway?"
        ));
    }
    shown(&format!("sqlite:{}", file.display()), &copied, format)
}

fn shown(url: &str, found: &Inspection, format: Format) -> Result<(), Failure> {
    let store = registrar_store::redacted(url);
    let is_sound = found.problems.is_empty();
    if format == Format::Json {
        return output::json(&json!({
            "store": store, "sound": is_sound, "schema_version": found.schema_version,
            "registrations": found.registrations, "open_operations": found.open_operations,
            "problems": found.problems,
        }));
    }
    let version = found.schema_version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
    let mut table = output::table(&["what", "backend", "state", "count"]);
    let mut add = |what: &str, counts: &[Count]| {
        for Count { backend, state, count } in counts {
            table.add_row([what.to_owned(), backend.clone(), state.clone(), count.to_string()]);
        }
    };
    add("registration", &found.registrations);
    add("open operation", &found.open_operations);
    let verdict = if is_sound { "sound" } else { "damaged" };
    output::data(&format!("{table}\n{store}: {verdict}, schema version {version}"))
}

/// What a rebuild came to.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    /// The file.
    store: String,
    /// The name that the damaged file has now; with `dry_run`, would have.
    damaged: Option<String>,
    dry_run: bool,
    /// Whether anything is known to be lost, or may be.
    lost: bool,
    tables: Vec<TableReport>,
    /// Registrations that a source still had, and that were removed as the journal says.
    removed: usize,
    sealing_key: SealingKey,
    /// API keys that only the backup had.
    api_keys_from_backup: Vec<String>,
    backends: Vec<BackendReport>,
    /// Operations that the gateway looks into when it starts.
    open_operations: i64,
    notes: Vec<String>,
}

/// Where the gateway's half of the key is that seals secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SealingKey {
    /// In the new store.
    Kept,
    /// In the configuration.
    Configured,
    /// Nothing is sealed.
    None,
    Lost,
}

fn rebuild(args: &RebuildArgs, format: Format) -> Result<(), Failure> {
    let config = check::load(&args.config)?;
    let url = config.store.url.clone();
    output::note(&format!("store: {}", registrar_store::redacted(&url)));
    let Some(path) = registrar_store::file(&url).map_err(|e| unusable(&url, &e))? else {
        return Err(Failure::local(
            "only a store in SQLite is rebuilt; PostgreSQL has its own tools: restore a dump with `pg_restore`",
        ));
    };
    let failed = |error: StoreError| unusable(&url, &error);
    let report = match Rebuild::start(&path, args.from.is_some(), args.dry_run).map_err(failed)? {
        Started::Finished(report) => {
            output::note("an earlier rebuild was interrupted; its new store is in its place now");
            serde_json::from_slice(&report).map_err(|_| {
                Failure::local("the report of the earlier rebuild cannot be read; the store is in place")
            })?
        }
        Started::Anew(rebuild) => {
            let merged = rebuild.merge(args.from.as_deref(), &ByRecord, output::note).map_err(failed)?;
            let (mut report, comparison) = api::block_on(compared(&rebuild, config, merged, args))?;
            report.store = path.display().to_string();
            let damaged = rebuild.damaged_name();
            report.damaged = damaged.as_ref().map(|name| name.display().to_string());
            if args.dry_run {
                output::note("a dry run: nothing is changed");
            } else {
                output::note("recording what the vendors have");
                rebuild.record(comparison.changes).map_err(failed)?;
                let noted = serde_json::to_vec(&report).map_err(|e| Failure::local(e.to_string()))?;
                output::note("checking the new store, and putting it into place");
                rebuild.finish(damaged.as_deref(), &noted).map_err(failed)?;
            }
            report
        }
    };
    told(&report, format)?;
    if report.lost {
        return Err(Failure { code: LOST, text: "something is lost, or may be; see above".to_owned() });
    }
    Ok(())
}

/// Asks the vendors, over the new store.
async fn compared(
    rebuild: &Rebuild,
    config: Config,
    merged: Merged,
    args: &RebuildArgs,
) -> Result<(Report, Comparison), Failure> {
    let url = format!("sqlite:{}", rebuild.path().display());
    let seal_key = config.idempotency.seal_key;
    let sealing_key = match (&seal_key, merged.has_seal_key, merged.sealed) {
        (Some(_), _, _) => SealingKey::Configured,
        (None, true, _) => SealingKey::Kept,
        (None, false, (0, 0)) => SealingKey::None,
        (None, false, _) => SealingKey::Lost,
    };
    let store = SqliteStore::open(&rebuild.path()).map_err(|e| unusable(&url, &e))?;
    let network = Network::new().map_err(Failure::local)?;
    let options = EngineOptions { seal_key, registration: config.registration, ..EngineOptions::default() };
    let engine = Engine::new(Arc::new(store), VENDORS, config.backends, config.routes, &network)
        .map_err(Failure::local)?
        .with_options(options);
    let how =
        CompareOptions { adopt: args.adopt, dry_run: args.dry_run, has_seal_key: sealing_key != SealingKey::Lost };
    let comparison = engine.compare_with_vendors(&merged.orphans, how, output::note).await;
    engine.shutdown().await;
    let mut comparison = comparison.map_err(|e| Failure::of(&e))?;
    let held = registrar_store::inspect(&url).await.map_err(|e| unusable(&url, &e))?;
    let mut backends = std::mem::take(&mut comparison.backends);
    for Count { backend, count, .. } in &held.registrations {
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        match backends.iter_mut().find(|report| report.backend == *backend) {
            // those that were asked have counted for themselves
            Some(report) if report.asked == Asked::No => report.unknown += count,
            Some(_) => {}
            None => {
                let problem = Some("it is not in the configuration".to_owned());
                let report = BackendReport::not_asked(backend.clone(), problem);
                backends.push(BackendReport { unknown: count, ..report });
            }
        }
    }
    let tables = accounted(merged.tables, &backends, &comparison.lost);
    let restored = backends.iter().any(|report| !report.restored.is_empty());
    let lost = tables.iter().any(|t| t.gap || !t.lost.is_empty()) || restored || sealing_key == SealingKey::Lost;
    let mut notes = merged.notes;
    if sealing_key == SealingKey::Lost {
        let (secrets, credentials) = merged.sealed;
        notes.push(format!(
            "the gateway's sealing key is lost, and the gateway makes another: {secrets} one-time secrets cannot be \
             shown again to whoever repeats their request, and {credentials} clients cannot be read, changed or deleted \
             at their vendor, whose own credentials for them (RFC 7592) were sealed with it. If another backup has the \
             key, rebuild again with `--from` that one"
        ));
    }
    if !merged.api_keys_from_backup.is_empty() {
        notes.push(format!(
            "API keys that only the backup had: {}; delete those that were revoked since (`registrar keys delete`)",
            merged.api_keys_from_backup.join(", ")
        ));
    }
    let report = Report {
        store: String::new(),
        damaged: None,
        dry_run: args.dry_run,
        lost,
        tables,
        removed: merged.removed,
        sealing_key,
        api_keys_from_backup: merged.api_keys_from_backup,
        backends,
        open_operations: held.open_operations.iter().map(|count| count.count).sum(),
        notes,
    };
    Ok((report, comparison))
}

/// What is lost of the registrations, now that the vendors were asked: not what they have, and not what they do not have.
fn accounted(mut tables: Vec<TableReport>, backends: &[BackendReport], lost: &[RegistrationId]) -> Vec<TableReport> {
    let settled: BTreeSet<String> =
        backends.iter().flat_map(|b| b.restored.iter().chain(&b.gone)).map(ToString::to_string).collect();
    for table in tables.iter_mut().filter(|table| table.table == "registrations") {
        let names = std::mem::take(&mut table.lost).into_iter().filter(|name| !settled.contains(name));
        let all: BTreeSet<String> = names.chain(lost.iter().map(ToString::to_string)).collect();
        table.lost = all.into_iter().collect();
    }
    tables
}

fn told(report: &Report, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(report);
    }
    let mut tables = output::table(&["table", "salvaged", "from backup", "lost"]);
    for table in &report.tables {
        let more = if table.gap { " or more" } else { "" };
        let lost = format!("{}{more}", table.lost.len());
        tables.add_row([table.table.clone(), table.salvaged.to_string(), table.from_backup.to_string(), lost]);
    }
    let mut backends =
        output::table(&["backend", "asked", "found", "gone", "unknown", "open", "restored", "not ours", "problem"]);
    for backend in &report.backends {
        let asked = match backend.asked {
            Asked::List => "list",
            Asked::Read => "each client",
            Asked::No => "no",
        };
        backends.add_row([
            backend.backend.clone(),
            asked.to_owned(),
            backend.found.to_string(),
            backend.gone.len().to_string(),
            backend.unknown.to_string(),
            backend.open.to_string(),
            backend.restored.len().to_string(),
            backend.not_ours.len().to_string(),
            backend.problem.clone().unwrap_or_default(),
        ]);
    }
    let mut text = format!("{tables}\n\n{backends}\n");
    for table in &report.tables {
        for name in &table.lost {
            text.push_str(&format!("\nlost from {}: {name}", table.table));
        }
    }
    for backend in &report.backends {
        for client in &backend.not_ours {
            let name = client.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
            let what = match (client.adopted, client.may_be_of) {
                (Some(id), _) => format!("recorded as {id}"),
                (None, Some(operation)) => format!("left to {operation}, which may have made it"),
                (None, None) => "no record knows it (--adopt)".to_owned(),
            };
            text.push_str(&format!("\n{}: {}{name}: {what}", backend.backend, client.client_id));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("\n{note}"));
    }
    text.push_str(&match report.open_operations {
        0 => "\nno operation is open".to_owned(),
        1 => "\n1 operation is open: the gateway looks into it when it starts".to_owned(),
        open => format!("\n{open} operations are open: the gateway looks into them when it starts"),
    });
    match (&report.damaged, report.dry_run) {
        (Some(name), false) => text.push_str(&format!("\nthe old file is kept as {name}")),
        (Some(name), true) => text.push_str(&format!("\nthe old file would be kept as {name}")),
        (None, _) => {}
    }
    output::data(&text)
}
