//! What a rebuilt store is to hold: which of two records is the later, and what the vendors have of it (reliability F34).
//! Vendors are only read.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use registrar_core::{Error, ErrorKind, Result, Target, VendorClient};
use registrar_model::{ClientId, ClientSpec, Hidden, OperationId, Registration, RegistrationId, State};
use registrar_store::{
    Action, Judge, MAX_PAGE, Operation, OperationState, Orphan, PageRequest, RegistrationFilter, StoreError,
};
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    clock::now_ms,
    engine::{Engine, store_error},
    gone::Absence,
    journal::millis,
    look::{desired, looks_like},
    writes::{registered, state_of},
};

/// No vendor has more pages than this; a listing that does not end is not complete.
const MAX_PAGES: usize = 10_000;

/// Decides by what the records themselves say.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByRecord;

impl Judge for ByRecord {
    /// What is final is later than what is open; then the later result, or the later owner, counts. A sealed secret that
    /// was destroyed stays destroyed.
    fn operation(&self, a: (&Operation, bool), b: (&Operation, bool)) -> Ordering {
        let place = |(operation, is_sealed): (&Operation, bool)| {
            let (time, fence) = (operation.updated_at, i64::try_from(operation.lease.fence).unwrap_or(i64::MAX));
            let rank = match operation.state {
                OperationState::Pending => 0,
                OperationState::Unknown => 1,
                OperationState::Failed => 2,
                OperationState::Succeeded => 3,
            };
            let is_final = operation.state.is_final();
            let order = if is_final { (time, fence) } else { (fence, time) };
            (is_final, order, rank, !is_sealed)
        };
        place(a).cmp(&place(b))
    }

    /// Versions count the writes to one record; of two records of one client, the one that was made later counts.
    fn registration(&self, a: &Registration, b: &Registration) -> Ordering {
        let place = |r: &Registration| (r.id, r.version, r.updated_at);
        place(a).cmp(&place(b))
    }

    fn removes(&self, operation: &Operation) -> bool {
        match operation.state {
            OperationState::Succeeded => operation.action == Action::Delete,
            // a person's word about a change or a rotation: `Resolution::Gone`
            OperationState::Failed => {
                operation.evidence.get("resolved_by").is_some()
                    && operation.action != Action::Create
                    && operation.summary.starts_with(crate::resolve::GONE)
            }
            OperationState::Pending | OperationState::Unknown => false,
        }
    }
}

/// What a vendor says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Found,
    Gone,
    /// It was not shown, and need not have been.
    Unknown,
}

/// The state of a record after a look at the vendor; `shown` is what the vendor shows.
fn state_after(current: State, presence: Presence, shown: Option<&ClientSpec>) -> State {
    match (presence, current) {
        (Presence::Found, State::Gone | State::Unknown) => shown.map_or(current, state_of),
        (Presence::Found, State::Active | State::Disabled) | (Presence::Unknown, State::Gone) => current,
        (Presence::Gone, _) => State::Gone,
        (Presence::Unknown, _) => State::Unknown,
    }
}

/// How a vendor was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// For all of its clients.
    List,
    /// For each client that is recorded.
    Read,
    /// Not at all.
    No,
}

/// A client of a vendor that no record knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotOurs {
    /// Its `client_id`.
    pub client_id: ClientId,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The registration that it was recorded as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adopted: Option<RegistrationId>,
    /// A create that is still open and asked for such a client: the gateway finds out about it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub may_be_of: Option<OperationId>,
}

/// What a look at one backend came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// Its name.
    pub backend: String,
    /// How it was asked.
    pub asked: Asked,
    /// Why not everything is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Registrations that the vendor has.
    pub found: usize,
    /// Registrations that it has not.
    pub gone: Vec<RegistrationId>,
    /// Registrations about which nothing could be found out.
    pub unknown: usize,
    /// Registrations with an operation that is open: the gateway settles it, and their state, when it starts.
    pub open: usize,
    /// Registrations whose record was lost and was made anew, under the old id, from what the vendor shows.
    pub restored: Vec<RegistrationId>,
    /// The vendor's clients that no record knows.
    pub not_ours: Vec<NotOurs>,
}

impl BackendReport {
    /// The report of a backend that was not asked.
    #[must_use]
    pub fn not_asked(backend: String, problem: Option<String>) -> Self {
        Self {
            backend,
            asked: Asked::No,
            problem,
            found: 0,
            gone: Vec::new(),
            unknown: 0,
            open: 0,
            restored: Vec::new(),
            not_ours: Vec::new(),
        }
    }
}

/// How vendors are compared with the records.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Whether clients that no record knows become registrations.
    pub adopt: bool,
    /// Whether nothing that is found out will be kept. Then clients with credentials of their own are not read: reading one
    /// may replace them (RFC 7592 §2.1).
    pub dry_run: bool,
    /// Whether what is sealed can be opened.
    pub has_seal_key: bool,
}

/// What a look at all backends came to.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Backend by backend.
    pub backends: Vec<BackendReport>,
    /// Registrations to be recorded, in the place of those with the same id or as new ones.
    pub changes: Vec<Registration>,
    /// Registrations of which only the journal knows, and about which no vendor could be asked.
    pub lost: Vec<RegistrationId>,
}

/// Everything about one backend while it is compared.
struct Look<'a> {
    backend: &'a Backend,
    options: CompareOptions,
    report: BackendReport,
    changes: Vec<Registration>,
    lost: Vec<RegistrationId>,
}

impl Engine {
    /// Compares the records of every configured backend with what its vendor has. Nothing is written to any vendor, and
    /// nothing here but credentials that a vendor replaces while a client is read; the caller records the changes.
    /// Registrations with an open operation are left as they are.
    ///
    /// # Errors
    /// A store that does not work. A vendor that does not answer is in the report.
    pub async fn compare_with_vendors(
        &self,
        orphans: &[Orphan],
        options: CompareOptions,
        tell: fn(&str),
    ) -> Result<Comparison> {
        let mut open = Vec::new();
        for state in [OperationState::Pending, OperationState::Unknown] {
            self.each_in(state, |operation| open.push(operation)).await.map_err(store_error)?;
        }
        let mut out = Comparison::default();
        let runtime = self.runtime.load_full();
        for backend in runtime.backends.values() {
            let orphans: Vec<&Orphan> = orphans.iter().filter(|o| o.backend == backend.name.as_str()).collect();
            let report = BackendReport::not_asked(backend.name.to_string(), None);
            let mut look = Look { backend, options, report, changes: Vec::new(), lost: Vec::new() };
            if !backend.enabled {
                look.report.problem = Some("it is disabled in the configuration".to_owned());
                look.lost.extend(orphans.iter().map(|orphan| orphan.id));
            } else if backend.adapter.descriptor().operations.list.is_supported() {
                tell(&format!("asking `{}` for its list", backend.name));
                self.compare_list(&mut look, &open, &orphans).await.map_err(store_error)?;
            } else {
                tell(&format!("asking `{}` for each client: it has no list", backend.name));
                self.compare_each(&mut look, &open, &orphans).await.map_err(store_error)?;
            }
            out.backends.push(look.report);
            out.changes.extend(look.changes);
            out.lost.extend(look.lost);
        }
        let known = |orphan: &&Orphan| runtime.backends.keys().any(|name| name.as_str() == orphan.backend);
        out.lost.extend(orphans.iter().filter(|orphan| !known(orphan)).map(|orphan| orphan.id));
        Ok(out)
    }

    /// The registrations at a backend, page by page.
    async fn page_at(
        &self,
        backend: &Backend,
        after: Option<String>,
    ) -> std::result::Result<(Vec<Registration>, Option<String>), StoreError> {
        let filter = RegistrationFilter { backend: Some(backend.name.clone()), ..RegistrationFilter::default() };
        let page = self.store.registrations(&filter, PageRequest { limit: MAX_PAGE, after }).await?;
        Ok((page.items, page.next))
    }

    async fn compare_list(
        &self,
        look: &mut Look<'_>,
        open: &[Operation],
        orphans: &[&Orphan],
    ) -> std::result::Result<(), StoreError> {
        look.report.asked = Asked::List;
        let (clients, failed) = everything(look.backend).await;
        let is_complete = failed.is_none();
        look.report.problem = failed.map(|error| format!("its list could not be read to the end: {}", error.detail()));
        let mut by_id: BTreeMap<ClientId, VendorClient> =
            clients.into_iter().map(|client| (client.client_id.clone(), client)).collect();
        let busy = with_open_operations(open);
        let mut after = None;
        loop {
            let (records, next) = self.page_at(look.backend, after).await?;
            for record in records {
                let shown = by_id.remove(&record.client_id);
                // a vendor may show a client late
                let is_new = now_ms().saturating_sub(record.updated_at) < millis(look.backend.visibility_grace);
                let presence = match &shown {
                    Some(_) => Presence::Found,
                    None if is_complete && !is_new => Presence::Gone,
                    None => Presence::Unknown,
                };
                look.note(record, presence, shown.as_ref().map(|client| &client.spec), &busy);
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        for orphan in orphans {
            let made = by_id.keys().find(|client_id| is_made_by(orphan, client_id)).cloned();
            match made.and_then(|client_id| by_id.remove(&client_id)) {
                Some(client) => look.restore(orphan, client),
                // a complete list without it: it was deleted, and that is what is not known any more
                None if is_complete => look.report.gone.push(orphan.id),
                None => look.lost.push(orphan.id),
            }
        }
        for (_, client) in by_id {
            look.not_ours(client, open);
        }
        Ok(())
    }

    async fn compare_each(
        &self,
        look: &mut Look<'_>,
        open: &[Operation],
        orphans: &[&Orphan],
    ) -> std::result::Result<(), StoreError> {
        look.report.asked = Asked::Read;
        let busy = with_open_operations(open);
        let mut after = None;
        loop {
            let (records, next) = self.page_at(look.backend, after).await?;
            for record in records {
                let (presence, shown) = match self.read_one(look, &record).await {
                    Ok(shown) => (Presence::Found, Some(shown)),
                    Err(error) if error.kind() == ErrorKind::NotFound => (Presence::Gone, None),
                    Err(error) => {
                        look.report.problem.get_or_insert_with(|| format!("{}: {}", record.id, error.detail()));
                        (Presence::Unknown, None)
                    }
                };
                // reading may have brought new credentials, and with them another version
                let record = self.store.registration(record.id).await?.unwrap_or(record);
                look.note(record, presence, shown.as_ref(), &busy);
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        for orphan in orphans {
            let client = match client_id_of(orphan) {
                Some(client_id) => {
                    let vendor_ref = client_id.to_string();
                    let target = Target { client_id, vendor_ref, management: None, auth_method: None, scope: None };
                    look.backend.adapter.read(&target).await.ok()
                }
                None => None,
            };
            match client {
                Some(client) => look.restore(orphan, client),
                None => look.lost.push(orphan.id),
            }
        }
        Ok(())
    }

    /// [`ErrorKind::NotFound`] only where it is proved that the client is gone.
    async fn read_one(&self, look: &Look<'_>, record: &Registration) -> Result<ClientSpec> {
        if record.hidden.management.is_some() {
            let refuse = |detail: &'static str| Err(Error::new(ErrorKind::Internal, detail));
            if !look.options.has_seal_key {
                return refuse("the vendor's credentials for it cannot be opened: the sealing key is lost");
            }
            if look.options.dry_run {
                return refuse("not read in a dry run: reading it may replace the vendor's credentials for it");
            }
        }
        let (shown, _) = self.look_at(record.clone(), None, Absence::MayStillCome).await?;
        Ok(ClientSpec::clone(&shown.spec))
    }
}

impl Look<'_> {
    /// Notes what the vendor says of a record.
    fn note(
        &mut self,
        record: Registration,
        presence: Presence,
        shown: Option<&ClientSpec>,
        busy: &HashSet<RegistrationId>,
    ) {
        if busy.contains(&record.id) {
            self.report.open += 1;
            return;
        }
        match presence {
            Presence::Found => self.report.found += 1,
            Presence::Gone => self.report.gone.push(record.id),
            Presence::Unknown => self.report.unknown += 1,
        }
        let state = state_after(record.state, presence, shown);
        if state != record.state {
            let version = record.version + 1;
            self.changes.push(Registration { state, version, updated_at: now_ms(), ..record });
        }
    }

    /// A record under its old id, with what the vendor shows; its labels and what else only the gateway kept are lost.
    fn restore(&mut self, orphan: &Orphan, client: VendorClient) {
        self.report.restored.push(orphan.id);
        self.changes.push(adopted(orphan.id, self.backend, client));
    }

    fn not_ours(&mut self, client: VendorClient, open: &[Operation]) {
        let may_be_of = open
            .iter()
            .filter(|o| o.action == Action::Create && o.backend == self.backend.name.as_str())
            .find(|o| could_be(o, self.backend, &client))
            .map(|o| o.id);
        let (client_id, name) = (client.client_id.clone(), client.spec.metadata.client_name.clone());
        let adopted = (self.options.adopt && may_be_of.is_none()).then(|| {
            let registration = adopted(RegistrationId::generate(), self.backend, client);
            let id = registration.id;
            self.changes.push(registration);
            id
        });
        self.report.not_ours.push(NotOurs { client_id, name, adopted, may_be_of });
    }
}

fn adopted(id: RegistrationId, backend: &Backend, client: VendorClient) -> Registration {
    registered(id, backend, VendorClient { secret: None, ..client }, None, BTreeMap::new(), Hidden::default())
}

fn with_open_operations(open: &[Operation]) -> HashSet<RegistrationId> {
    open.iter().filter_map(|operation| operation.registration).collect()
}

/// Whether an open create may have made this client; when in doubt, it may.
fn could_be(operation: &Operation, backend: &Backend, client: &VendorClient) -> bool {
    let Some(asked) = desired(operation) else { return true };
    let Ok(plan) = backend.adapter.preview(&asked.spec) else { return true };
    looks_like(&asked.spec, &client.spec, &plan.losses)
}

/// The client that a create says it has made, see `registered client …` in the journal.
fn client_id_of(orphan: &Orphan) -> Option<ClientId> {
    orphan.summary.strip_prefix(MADE)?.split([',', ';']).next()?.parse().ok()
}

fn is_made_by(orphan: &Orphan, client_id: &ClientId) -> bool {
    let rest = orphan.summary.strip_prefix(MADE).and_then(|rest| rest.strip_prefix(client_id.as_str()));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(", found") || rest.starts_with("; adopted"))
}

/// How the summary of a create begins that has made a client.
const MADE: &str = "registered client ";

/// Every client of the vendor, as far as its list could be read.
async fn everything(backend: &Backend) -> (Vec<VendorClient>, Option<Error>) {
    let mut out = HashMap::new();
    let mut page = None;
    for _ in 0..MAX_PAGES {
        match backend.adapter.list(page.take()).await {
            Ok(found) => {
                out.extend(found.items.into_iter().map(|client| (client.client_id.clone(), client)));
                match found.next {
                    Some(next) => page = Some(next),
                    None => return (out.into_values().collect(), None),
                }
            }
            Err(error) => return (out.into_values().collect(), Some(error)),
        }
    }
    let endless = Error::new(ErrorKind::UpstreamMalformed, "the vendor's list does not end");
    (out.into_values().collect(), Some(endless))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use registrar_core::Outcome;
    use registrar_store::Lease;
    use serde_json::json;

    use super::*;

    fn operation(state: OperationState, updated_at: i64, fence: u64) -> Operation {
        Operation {
            id: OperationId::generate(),
            action: Action::Create,
            backend: "a".to_owned(),
            registration: None,
            state,
            outcome: Outcome::Unknown,
            summary: "".into(),
            created_at: 0,
            updated_at,
            attempts: 1,
            evidence: json!({}),
            request_id: "".into(),
            principal: "".into(),
            desired: None,
            lease: Lease { fence, ..Lease::default() },
        }
    }

    fn registration(id: RegistrationId, version: u64, updated_at: i64) -> Registration {
        Registration {
            id,
            backend: "a".parse().unwrap(),
            kind: "k".to_owned(),
            client_id: "c".parse().unwrap(),
            vendor_ref: "c".to_owned(),
            client_id_issued_at: None,
            version,
            created_at: 0,
            updated_at,
            state: State::Active,
            spec: std::sync::Arc::default(),
            observed: std::sync::Arc::default(),
            labels: BTreeMap::new(),
            hidden: Hidden::default(),
        }
    }

    /// The winner of three, put together in the order of `order`.
    fn best<T: Clone>(all: &[T], order: [usize; 3], compare: impl Fn(&T, &T) -> Ordering) -> T {
        let mut kept = all[order[0]].clone();
        for at in &order[1..] {
            if compare(&all[*at], &kept) == Ordering::Greater {
                kept = all[*at].clone();
            }
        }
        kept
    }

    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

    proptest! {
        #[test]
        fn the_order_of_sources_makes_no_difference(
            raw in prop::collection::vec((0..4_usize, 0..3_i64, 0..3_u64, any::<bool>()), 3)
        ) {
            let state = |at: usize| OperationState::ALL[at];
            let all: Vec<(Operation, bool)> =
                raw.iter().map(|(s, time, fence, sealed)| (operation(state(*s), *time, *fence), *sealed)).collect();
            let compare = |a: &(Operation, bool), b: &(Operation, bool)| ByRecord.operation((&a.0, a.1), (&b.0, b.1));
            let winner = best(&all, ORDERS[0], compare);
            for order in ORDERS {
                prop_assert_eq!(compare(&best(&all, order, compare), &winner), Ordering::Equal);
            }
            // nothing that is final in either is open again
            prop_assert_eq!(winner.0.state.is_final(), all.iter().any(|(o, _)| o.state.is_final()));
            for one in &all {
                prop_assert_eq!(compare(one, one), Ordering::Equal);
                prop_assert_ne!(compare(one, &winner), Ordering::Greater);
            }
            let id = [RegistrationId::generate(), RegistrationId::generate()];
            let all: Vec<Registration> =
                raw.iter().map(|(s, time, version, _)| registration(id[s % 2], *version, *time)).collect();
            let compare = |a: &Registration, b: &Registration| ByRecord.registration(a, b);
            let winner = best(&all, ORDERS[0], compare);
            for order in ORDERS {
                prop_assert_eq!(compare(&best(&all, order, compare), &winner), Ordering::Equal);
            }
            let newest = all.iter().filter(|r| r.id == winner.id).map(|r| r.version).max();
            prop_assert_eq!(newest, Some(winner.version));
        }
    }

    #[test]
    fn a_second_look_that_shows_the_same_changes_nothing() {
        let disabled = {
            let mut spec = ClientSpec::default();
            spec.policy.enabled = Some(false);
            spec
        };
        for shown in [&ClientSpec::default(), &disabled] {
            for current in [State::Active, State::Disabled, State::Unknown, State::Gone] {
                for presence in [Presence::Found, Presence::Gone, Presence::Unknown] {
                    let once = state_after(current, presence, Some(shown));
                    assert_eq!(state_after(once, presence, Some(shown)), once, "{current:?} {presence:?}");
                    let found = state_after(once, Presence::Found, Some(shown));
                    assert!(matches!(found, State::Active | State::Disabled), "{current:?} {presence:?}");
                }
            }
        }
        // what was known to be gone is not unknown again, and an unreachable vendor proves nothing
        assert_eq!(state_after(State::Gone, Presence::Unknown, None), State::Gone);
        assert_eq!(state_after(State::Active, Presence::Unknown, None), State::Unknown);
        assert_eq!(state_after(State::Unknown, Presence::Found, Some(&disabled)), State::Disabled);
    }

    #[test]
    fn only_deletions_and_a_persons_word_remove() {
        let of = |action, state, summary: &str, evidence| Operation {
            action,
            summary: summary.to_owned().into(),
            evidence,
            ..operation(state, 0, 1)
        };
        let said = "the client is gone from the vendor, says ci";
        let by = json!({ "resolved_by": "ci" });
        for (operation, expected) in [
            (of(Action::Delete, OperationState::Succeeded, "deleted client c", json!({})), true),
            (of(Action::Delete, OperationState::Unknown, "", json!({})), false),
            (of(Action::Delete, OperationState::Failed, "refused", json!({})), false),
            (of(Action::Update, OperationState::Succeeded, "switched off", json!({})), false),
            (of(Action::Update, OperationState::Failed, said, by.clone()), true),
            (of(Action::Update, OperationState::Failed, "declared not done by ci", by), false),
            (of(Action::Update, OperationState::Failed, said, json!({})), false),
        ] {
            assert_eq!(ByRecord.removes(&operation), expected, "{operation:?}");
        }
    }

    #[test]
    fn a_create_names_the_client_that_it_made() {
        let of = |summary: &str| Orphan {
            id: RegistrationId::generate(),
            backend: "a".to_owned(),
            created_by: OperationId::generate(),
            summary: summary.to_owned(),
        };
        let id = |text: &str| text.parse::<ClientId>().unwrap();
        for summary in [
            "registered client c-1",
            "registered client c-1, found at the vendor after its answer was lost",
            "registered client c-1, found at the vendor after its answer was lost; adopted by ci",
        ] {
            assert_eq!(client_id_of(&of(summary)), Some(id("c-1")));
            assert!(is_made_by(&of(summary), &id("c-1")) && !is_made_by(&of(summary), &id("c-")), "{summary}");
        }
        assert_eq!(client_id_of(&of("in progress")), None);
        assert!(!is_made_by(&of("registered client c-12"), &id("c-1")));
    }
}
