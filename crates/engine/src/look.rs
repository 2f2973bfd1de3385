//! What a look at the vendor shows of a write whose answer was lost.

use std::{sync::Arc, time::Duration};

use registrar_core::{Error, ErrorKind, IdempotencyClass, Naming, Result, VendorClient};
use registrar_model::{ClientSpec, Issues, Loss, Position, State, account};
use registrar_store::{Action, Operation, OperationState, RegistrationChange};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    adoption::{Made, in_words, made},
    backend::Backend,
    clock::now_ms,
    dcr::Kept,
    engine::{Engine, store_error},
    gone::Presence,
    journal::{SECRET, UNDELIVERED, millis, with_state},
    naming,
    reconcile::{FIRST_WAIT, Finding},
    secret_needed,
    unread::with_unread,
    writes::{changed, registered, replacement, settle, state_of},
};

/// How long a list serves: a client in it that is deleted meanwhile would look like one that nobody has registered.
const FRESH: Duration = Duration::from_secs(5);
/// No vendor has more pages than this; a listing that does not end is no complete read.
const MAX_PAGES: usize = 10_000;

impl Engine {
    pub(crate) async fn look_for_created(
        &self,
        operation: &Operation,
        backend: &Arc<Backend>,
        round: &mut Round,
    ) -> Result<Finding> {
        let Some(asked) = desired(operation) else { return Ok(nothing_to_compare()) };
        let descriptor = backend.adapter.descriptor();
        if descriptor.idempotency == IdempotencyClass::D || !descriptor.operations.list.is_supported() {
            return Ok(Finding::Person {
                why: format!(
                    "{} offers no way to find out; look for the client in its console, then \
                     `registrar operations resolve` says what you found",
                    descriptor.title
                ),
                evidence: vec![("class", json!(descriptor.idempotency)), ("look_for", look_for(&asked.spec))],
            });
        }
        let listed = round.list(backend).await?;
        let seen = ("listed_at", json!(listed.began));
        // after the list: whoever has made a client that is in it is in the journal by now
        let siblings = self.siblings(operation).await?;
        if siblings.pending > 0 {
            return Ok(Finding::Later {
                why: "an equal registration is in progress; both would look alike".to_owned(),
                at: now_ms().saturating_add(millis(FIRST_WAIT)),
                evidence: vec![seen],
            });
        }
        let mark = asked.kept.record.as_ref().map(|_| naming::mark(operation.id));
        let naming = mark.as_deref().map_or(Naming::Plain, Naming::Distinct);
        let predicted = backend.adapter.preview_as(&asked.spec, naming)?.losses;
        let mut matching = Vec::new();
        for client in &listed.clients {
            if looks_like(&asked.spec, &client.spec, &predicted) && !self.is_registered(backend, client).await? {
                matching.push(client);
            }
        }
        // after the list: its answer shows the vendor's clock
        let skew = backend.gate.skew();
        let undated = matching.iter().any(|c| c.client_id_issued_at.is_none());
        let mut doubtful = Vec::new();
        matching.retain(|client| match made(client, operation, skew) {
            Made::Since | Made::Undated => true,
            Made::About(before) => {
                doubtful.push((client.client_id.to_string(), in_words(client, before, skew)));
                false
            }
            Made::LongBefore => false,
        });
        matching.sort_by_key(|c| c.client_id_issued_at);
        let ids: Vec<String> = matching.iter().map(|c| c.client_id.to_string()).collect();
        // unknown creates of the same content are alike: which of them made which client makes no difference
        if ids.len() > siblings.unknown + 1 || (undated && !ids.is_empty()) {
            return Ok(Finding::Person {
                why:
                    "more clients than we tried to make look like it, or the vendor does not say when they were made; \
                      adopt the right one with `registrar operations resolve`"
                        .to_owned(),
                evidence: vec![("candidates", json!(ids)), seen],
            });
        }
        if matching.is_empty() && !doubtful.is_empty() {
            // an equal create that was begun before may have made it, and says so soon
            if siblings.older > 0 {
                return Ok(Finding::Later {
                    why: "a client that looks like it may be that of an equal registration which is looked into too"
                        .to_owned(),
                    at: now_ms().saturating_add(millis(FIRST_WAIT)),
                    evidence: vec![seen],
                });
            }
            let (ids, words): (Vec<String>, Vec<String>) = doubtful.into_iter().unzip();
            return Ok(Finding::Person {
                why: format!(
                    "a client that looks like it may be somebody else's: {}; if it is this one, adopt it with `registrar \
                     operations resolve`, otherwise say that there is none",
                    words.join("; ")
                ),
                evidence: vec![("candidates", json!(ids)), seen],
            });
        }
        match matching.into_iter().next() {
            Some(client) => Ok(self.adoption(operation, backend, asked, predicted, client.clone()).noting(seen)),
            None => {
                let summary = "the vendor never made the client".to_owned();
                Ok(twice(operation, backend.visibility_grace, listed.began, summary, None).noting(seen))
            }
        }
    }

    /// The client becomes the registration that was asked for. Nobody has its secret.
    pub(crate) fn adoption(
        &self,
        operation: &Operation,
        backend: &Backend,
        asked: Asked,
        predicted: Vec<Loss>,
        client: VendorClient,
    ) -> Finding {
        let predicted = with_unread(&asked.spec, &client, predicted);
        let (losses, shown) = settle(&asked.spec, &client.spec, predicted, Vec::new());
        let id = operation.registration.unwrap_or_else(registrar_model::RegistrationId::generate);
        let client = VendorClient { secret: None, ..client };
        let registration = registered(id, backend, client, shown, asked.labels, asked.kept.hidden());
        let summary =
            format!("registered client {}, found at the vendor after its answer was lost", registration.client_id);
        Finding::Performed {
            summary,
            change: Some(RegistrationChange::Insert(Arc::new(registration))),
            evidence: vec![("adopted", json!(true)), ("losses", json!(losses))],
        }
    }

    pub(crate) async fn look_at_updated(&self, operation: &Operation, backend: &Backend) -> Result<Finding> {
        let Some(asked) = desired(operation) else { return Ok(nothing_to_compare()) };
        let current = match operation.registration {
            Some(id) => self.store.registration(id).await.map_err(store_error)?,
            None => None,
        };
        let Some(current) = current else {
            let summary = "the client was removed since".to_owned();
            return Ok(Finding::NotPerformed { summary, change: None, evidence: Vec::new() });
        };
        let reach = self.reach(&current).await?;
        let shown = match self.presence(backend, &reach).await {
            Presence::Shown(client, _) => client.spec,
            // such a server has one answer for clients that are gone and for tokens that are not theirs, and a change is
            // when it replaces the token (RFC 7592 §3)
            Presence::Lost(_) => {
                return Ok(Finding::Person {
                    why: "the vendor no longer accepts the token for managing this client: the change was done and replaced \
                          the token, or the client is gone; look for it at the vendor"
                        .to_owned(),
                    evidence: vec![("look_for", look_for(&asked.spec))],
                });
            }
            Presence::Gone(_) => {
                let summary = "the vendor does not know the client any more".to_owned();
                let change = Some(with_state(current, State::Gone));
                return Ok(Finding::NotPerformed { summary, change, evidence: Vec::new() });
            }
            Presence::Unclear(error) => return Err(error),
        };
        let plan = backend.adapter.preview_update(reach.newest(), &current.spec, &asked.spec)?;
        let predicted = plan.losses;
        if looks_like(&asked.spec, &shown, &predicted) {
            let issued = !plan.value.is_empty()
                && (backend.adapter.update_issued_secret(&current.spec, &asked.spec, &shown)
                    || secret_needed::is_needed(&current.spec, &shown));
            let (losses, record) = settle(&asked.spec, &shown, predicted, Vec::new());
            let mut registration = changed(current, record, shown, asked.labels, None);
            asked.kept.keep(&mut registration.hidden);
            let registration = Arc::new(registration);
            return Ok(Finding::Performed {
                summary: "updated, as the vendor shows".to_owned(),
                change: Some(replacement(&registration)),
                // the answer that held it was lost
                evidence: [("losses", json!(losses))]
                    .into_iter()
                    .chain(issued.then(|| (SECRET, json!(UNDELIVERED))))
                    .collect(),
            });
        }
        let drift = account::drift(&current.observed, &shown);
        if drift.is_empty() {
            let state = state_of(&current.observed);
            let summary = "the vendor shows the client as it was before".to_owned();
            return Ok(twice(operation, backend.visibility_grace, now_ms(), summary, Some(with_state(current, state))));
        }
        Ok(Finding::Person {
            why: "the client is neither as it was before nor as was asked; read it with ?source=vendor and update it again"
                .to_owned(),
            evidence: vec![("drift", json!(drift))],
        })
    }

    pub(crate) async fn look_for_deleted(&self, operation: &Operation, backend: &Backend) -> Result<Finding> {
        let current = match operation.registration {
            Some(id) => self.store.registration(id).await.map_err(store_error)?,
            None => None,
        };
        let Some(current) = current else {
            let summary = "the client is gone".to_owned();
            return Ok(Finding::Performed { summary, change: None, evidence: Vec::new() });
        };
        let reach = self.reach(&current).await?;
        match self.presence(backend, &reach).await {
            Presence::Shown(..) => {
                let state = state_of(&current.observed);
                let summary = "the vendor still has the client".to_owned();
                Ok(twice(operation, backend.visibility_grace, now_ms(), summary, Some(with_state(current, state))))
            }
            Presence::Lost(_) => Ok(Finding::Person {
                why: "the vendor does not accept the token for managing this client: the client is gone, or the token was \
                      replaced before; look for it at the vendor, then `registrar operations resolve` says what you found"
                    .to_owned(),
                evidence: vec![("client_id", json!(current.client_id)), ("look_for", look_for(&current.spec))],
            }),
            Presence::Gone(_) => Ok(Finding::Performed {
                summary: format!("deleted client {}, as the vendor shows", current.client_id),
                change: Some(RegistrationChange::Remove { id: current.id }),
                evidence: Vec::new(),
            }),
            Presence::Unclear(error) => Err(error),
        }
    }

    async fn siblings(&self, operation: &Operation) -> Result<Siblings> {
        let mut out = Siblings::default();
        let own = wish(operation);
        let mut older = 0;
        for state in [OperationState::Pending, OperationState::Unknown] {
            let count = if state == OperationState::Pending { &mut out.pending } else { &mut out.unknown };
            let each = self.each_in(state, |o| {
                let is_other = o.id != operation.id && o.action == Action::Create && o.backend == operation.backend;
                // equal requests mostly have equal texts
                let is_equal = is_other && (o.desired == operation.desired || wish(&o) == own);
                *count += usize::from(is_equal);
                let is_older = o.created_at < operation.created_at && o.evidence.get("needs").is_none();
                older += usize::from(is_equal && is_older);
            });
            each.await.map_err(store_error)?;
        }
        out.older = older;
        Ok(out)
    }

    pub(crate) async fn is_registered(&self, backend: &Backend, client: &VendorClient) -> Result<bool> {
        let found = self.store.registered(&backend.name, &client.client_id).await;
        found.map(|id| id.is_some()).map_err(store_error)
    }
}

/// What one round reads of the vendors: a complete list serves every create that is looked for in it.
#[derive(Default)]
pub(crate) struct Round {
    /// Of one backend at a time: the operations of a round come backend by backend.
    listed: Option<Listed>,
}

/// Every client of a vendor.
struct Listed {
    backend: Arc<Backend>,
    /// Unix milliseconds; what the vendor showed by then is in the list.
    began: i64,
    /// When it was complete, by a clock that nobody sets back.
    ended: Instant,
    clients: Vec<VendorClient>,
}

impl Round {
    async fn list(&mut self, backend: &Arc<Backend>) -> Result<&Listed> {
        let listed = match self.listed.take() {
            Some(listed) if Arc::ptr_eq(&listed.backend, backend) && listed.ended.elapsed() < FRESH => listed,
            _ => {
                let began = now_ms();
                let clients = complete_list(backend).await?;
                Listed { backend: Arc::clone(backend), began, ended: Instant::now(), clients }
            }
        };
        Ok(self.listed.insert(listed))
    }
}

/// Other creates of the same content whose outcome is open.
#[derive(Default)]
struct Siblings {
    pending: usize,
    unknown: usize,
    /// Those among them that were begun before and do not wait for a person.
    older: usize,
}

/// What an operation asked for.
pub(crate) struct Asked {
    pub(crate) spec: ClientSpec,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// What the standards face has brought along.
    pub(crate) kept: Kept<'static>,
}

/// What an operation asked the vendor for.
fn wish(operation: &Operation) -> Option<Map<String, Value>> {
    let mut object = serde_json::from_str(operation.desired.as_deref()?).ok()?;
    // no vendor sees it
    Kept::take(&mut object);
    Some(object)
}

pub(crate) fn desired(operation: &Operation) -> Option<Asked> {
    let object = &mut serde_json::from_str(operation.desired.as_deref()?).ok()?;
    let kept = Kept::take(object)?;
    let mut issues = Issues::lenient();
    let (spec, _) = ClientSpec::decode(object, &Position::root(), &mut issues);
    let labels = object.get("labels").cloned().map(serde_json::from_value).transpose().ok()?.unwrap_or_default();
    issues.is_empty().then_some(Asked { spec, labels, kept })
}

fn nothing_to_compare() -> Finding {
    Finding::Person {
        why: "what was asked for is not recorded, so that the vendor cannot be compared with it".to_owned(),
        evidence: Vec::new(),
    }
}

/// The members by which a person recognises the client.
fn look_for(spec: &ClientSpec) -> Value {
    json!({
        "client_name": spec.metadata.client_name,
        "redirect_uris": spec.metadata.redirect_uris.as_ref().map(|uris| {
            uris.iter().map(registrar_model::RedirectUri::as_str).collect::<Vec<_>>()
        }),
    })
}

/// Every client of the vendor.
///
/// # Errors
/// Whatever keeps the list from being complete: absence can only be seen in a complete one.
pub(crate) async fn complete_list(backend: &Backend) -> Result<Vec<VendorClient>> {
    let mut out = Vec::new();
    let mut page = None;
    for _ in 0..MAX_PAGES {
        let found = backend.adapter.list(page.take()).await?;
        out.extend(found.items);
        match found.next {
            Some(next) => page = Some(next),
            None => return Ok(out),
        }
    }
    Err(Error::new(ErrorKind::UpstreamMalformed, "the vendor's list does not end"))
}

/// Whether what the vendor shows is what a write of `asked` would have led to: every field that was asked for is as it
/// was asked or as the mapping foretold. Values of the vendor's own, for fields that were not asked for, may differ.
pub(crate) fn looks_like(asked: &ClientSpec, shown: &ClientSpec, predicted: &[Loss]) -> bool {
    account::diff(asked, shown).iter().all(|path| {
        let got = shown.field(path);
        match predicted.iter().find(|loss| loss.field == *path) {
            Some(loss) => match (&loss.got, &got) {
                (Some(foretold), Some(got)) => registrar_model::spec::same_value(path, foretold, got),
                (foretold, got) => foretold.is_none() == got.is_none(),
            },
            None => asked.field(path).is_none(),
        }
    })
}

/// "Not done" is believed when it was seen before, and again after the vendor's visibility grace. `at` is when the vendor
/// was asked, in Unix milliseconds.
fn twice(
    operation: &Operation,
    grace: Duration,
    at: i64,
    summary: String,
    change: Option<RegistrationChange>,
) -> Finding {
    let since = operation.evidence.get("unseen_since").and_then(Value::as_i64);
    let grace = millis(grace);
    match since {
        Some(since) if at.saturating_sub(since) >= grace => {
            Finding::NotPerformed { summary, change, evidence: Vec::new() }
        }
        since => {
            let since = since.unwrap_or(at);
            Finding::Later {
                why: format!("{summary}, so far; it is looked at again when the vendor had time to show it"),
                at: since.saturating_add(grace),
                evidence: vec![("unseen_since", json!(since))],
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use registrar_core::Outcome;
    use registrar_model::OperationId;
    use registrar_store::Lease;

    use super::*;

    /// A list that was begun within the grace proves nothing, however late it is looked into.
    #[test]
    fn what_counts_is_when_the_vendor_was_asked() {
        let operation = |evidence| Operation {
            id: OperationId::generate(),
            action: Action::Create,
            backend: "a".to_owned(),
            registration: None,
            state: OperationState::Unknown,
            outcome: Outcome::Unknown,
            summary: "".into(),
            created_at: 0,
            updated_at: 0,
            attempts: 1,
            evidence,
            request_id: "".into(),
            principal: "".into(),
            desired: None,
            lease: Lease::default(),
        };
        let look = |evidence, at| twice(&operation(evidence), Duration::from_millis(50), at, "absent".to_owned(), None);
        let since = |at: i64| json!({ "unseen_since": at });
        for (evidence, at, again) in [(json!({}), 1000, 1050), (since(1000), 1049, 1050), (since(1000), 900, 1050)] {
            let Finding::Later { at: wanted, .. } = look(evidence, at) else { panic!("believed at {at}") };
            assert_eq!(wanted, again);
        }
        assert!(matches!(look(since(1000), 1050), Finding::NotPerformed { .. }));
    }
}
