//! The vendor's own credentials for managing one client (RFC 7592), which only some vendors give: kept sealed.
//!
//! Any answer may replace them. What was used successfully is given up only when what an answer brought has been used
//! successfully itself: servers do answer with URLs that they do not serve, and with tokens that they do not take.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use registrar_core::{Error, ErrorKind, ExposeSecret as _, Management, Outcome, Result, SecretString, Target};
use registrar_model::{Registration, RegistrationId};
use registrar_store::{
    Action, Intent, Lease, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    clock::now_ms,
    engine::Engine,
    journal::{LEASE_MARGIN, millis},
    keys::hash,
};

/// A URL and the token for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pair {
    uri: String,
    token: String,
}

impl Pair {
    fn of(management: &Management) -> Self {
        Self { uri: management.uri.to_string(), token: management.token.expose_secret().to_owned() }
    }

    fn to_management(&self) -> Option<Management> {
        Some(Management { uri: self.uri.parse().ok()?, token: SecretString::from(self.token.clone()) })
    }

    fn hash(&self) -> [u8; 32] {
        hash(&format!("{}\n{}", self.uri, self.token))
    }
}

/// What is sealed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pairs {
    /// The version of this form. The form before it had no version: it was one [`Pair`].
    v: u8,
    /// The last that a call has succeeded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worked: Option<Pair>,
    /// What an answer brought since, and no call has succeeded with yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<Pair>,
    /// A URL of an answer that failed while another worked: it is not tried again, however often it is repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

const VERSION: u8 = 2;

impl Pairs {
    fn read(plain: &[u8]) -> Option<Self> {
        serde_json::from_slice(plain).ok().or_else(|| {
            let pair: Pair = serde_json::from_slice(plain).ok()?;
            Some(Self { v: VERSION, candidate: Some(pair), ..Self::default() })
        })
    }

    /// What is tried, in this order: what came last; its token at the URL that worked, since either half may be wrong;
    /// what worked.
    fn tries(&self) -> Vec<Pair> {
        let mut tries: Vec<Pair> = self.candidate.iter().cloned().collect();
        if let Some(worked) = &self.worked {
            let newer = self.candidate.as_ref().map(|new| Pair { uri: worked.uri.clone(), token: new.token.clone() });
            for pair in newer.into_iter().chain([worked.clone()]) {
                if !tries.contains(&pair) {
                    tries.push(pair);
                }
            }
        }
        tries
    }

    /// After a call that succeeded with the try at `by` and was answered with `given`.
    fn after(&self, tries: &[Pair], by: usize, given: Option<Pair>) -> Option<Self> {
        let used = tries.get(by)?;
        let failed = tries.iter().take(by).map(|pair| &pair.uri).find(|uri| **uri != used.uri);
        let refused = failed.or(self.refused.as_ref()).filter(|uri| **uri != used.uri).cloned();
        let candidate = given
            .map(|pair| if Some(&pair.uri) == refused.as_ref() { Pair { uri: used.uri.clone(), ..pair } } else { pair })
            .filter(|pair| pair != used);
        Some(Self { v: VERSION, worked: Some(used.clone()), candidate, refused })
    }
}

/// Pairs that a call has succeeded with and that are kept as candidates: recording each such success would be a write
/// for the first read of every client. Forgetting one is safe: it counts as untried again.
#[derive(Debug, Default)]
pub(crate) struct Proved(Mutex<HashMap<RegistrationId, [u8; 32]>>);

impl Proved {
    /// How many are remembered: about 6 MB.
    const ROOM: usize = 65_536;

    fn note(&self, id: RegistrationId, pair: &Pair) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::ROOM {
            known.clear();
        }
        known.insert(id, pair.hash());
    }

    fn has(&self, id: RegistrationId, pair: &Pair) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).is_some_and(|hash| *hash == pair.hash())
    }
}

/// How one registered client is reached at its vendor.
pub(crate) struct Reach {
    /// In the order in which they are tried. Where the vendor has one credential for all clients, there is one without
    /// credentials of its own.
    targets: Vec<Target>,
    tries: Vec<Pair>,
    pairs: Pairs,
}

/// A call of an adapter.
pub(crate) type Calling<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl Reach {
    /// What came last.
    pub(crate) fn newest(&self) -> &Target {
        // there is always one
        &self.targets[0]
    }

    /// Whether the client is managed with a token of its own.
    pub(crate) fn is_own(&self) -> bool {
        !self.tries.is_empty()
    }

    /// Whether the URL to be tried first never worked, and another one did.
    pub(crate) fn has_new_uri(&self) -> bool {
        let new = self.pairs.candidate.as_ref().zip(self.pairs.worked.as_ref());
        new.is_some_and(|(new, worked)| new.uri != worked.uri)
    }

    /// Whether the try at `by` is what a call succeeded with before.
    pub(crate) fn has_worked(&self, by: usize) -> bool {
        !self.is_own() || self.tries.get(by).is_some_and(|pair| Some(pair) == self.pairs.worked.as_ref())
    }

    /// Makes a call with what came last, and where that is refused, with what came before it. Also says which was used.
    pub(crate) async fn call<'a, T>(
        &'a self,
        call: impl Fn(&'a Target) -> Calling<'a, T> + Send + Sync,
    ) -> (Result<T>, usize) {
        let mut by = 0;
        loop {
            let done = call(&self.targets[by]).await;
            match &done {
                Err(error) if by + 1 < self.targets.len() && refuses_pair(error) => by += 1,
                _ => return (done, by),
            }
        }
    }
}

/// Whether a call failed in a way that another URL or token may mend, and did nothing.
fn refuses_pair(error: &Error) -> bool {
    let by_status = match error.vendor().and_then(|vendor| vendor.status) {
        Some(status) => matches!(status, 300..=399 | 401 | 403 | 404 | 405 | 410 | 501),
        // never connected, or nothing was sent because the URL cannot be used
        None => matches!(error.kind(), ErrorKind::UpstreamUnavailable | ErrorKind::UnsupportedByBackend),
    };
    let refuses = by_status || matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UpstreamAuthentication);
    error.outcome() == Outcome::NotPerformed && refuses
}

/// In the evidence of an operation that is about the gateway's own record alone: no vendor knows of it.
pub(crate) const OWN_RECORD: &str = "own_record";

fn context(id: RegistrationId) -> String {
    format!("management {id}")
}

impl Engine {
    /// How a registered client is reached, with the vendor's credentials for it.
    pub(crate) async fn reach(&self, registration: &Registration) -> Result<Reach> {
        let mut pairs = match &registration.hidden.management {
            None => Pairs::default(),
            Some(sealed) => {
                let opened = self.vault().await?.open(&context(registration.id), "", sealed);
                opened.and_then(|plain| Pairs::read(&plain)).ok_or_else(cannot_be_opened)?
            }
        };
        if let Some(candidate) = pairs.candidate.take_if(|pair| self.proved.has(registration.id, pair)) {
            pairs.worked = Some(candidate);
        }
        let tries = pairs.tries();
        let target = |management| Target {
            client_id: registration.client_id.clone(),
            vendor_ref: registration.vendor_ref.clone(),
            management,
            auth_method: registration.observed.metadata.token_endpoint_auth_method.clone(),
            scope: registration.observed.metadata.scope.clone(),
        };
        let managed = |pair: &Pair| pair.to_management().map(|m| target(Some(m))).ok_or_else(cannot_be_opened);
        let mut targets = tries.iter().map(managed).collect::<Result<Vec<_>>>()?;
        if targets.is_empty() {
            targets.push(target(None));
        }
        Ok(Reach { targets, tries, pairs })
    }

    /// The credentials of a new client in the form in which they are kept.
    pub(crate) async fn kept(&self, id: RegistrationId, management: Option<&Management>) -> Option<Vec<u8>> {
        let candidate = Some(Pair::of(management?));
        self.sealed_pairs(id, &Pairs { v: VERSION, candidate, ..Pairs::default() }).await
    }

    async fn sealed_pairs(&self, id: RegistrationId, pairs: &Pairs) -> Option<Vec<u8>> {
        let sealed = match self.vault().await {
            Ok(vault) => serde_json::to_vec(pairs).ok().and_then(|p| vault.seal(&context(id), "", &p).ok()),
            Err(_) => None,
        };
        if sealed.is_none() {
            tracing::error!(registration = %id, "the vendor's credentials for this client could not be sealed: it cannot be managed");
        }
        sealed
    }

    /// The credentials after a call that succeeded with the try at `by` and was answered with `given`, in the form in
    /// which they are kept; `None` when what is kept is still right.
    pub(crate) async fn credentials_after(
        &self,
        id: RegistrationId,
        reach: &Reach,
        by: usize,
        given: Option<&Management>,
    ) -> Option<Vec<u8>> {
        let next = reach.pairs.after(&reach.tries, by, given.map(Pair::of))?;
        if next == reach.pairs {
            return None;
        }
        if let (Some(worked), None, 0) = (&next.worked, &next.candidate, by) {
            // what was tried first works, and nothing came since
            self.proved.note(id, worked);
            return None;
        }
        self.sealed_pairs(id, &next).await
    }

    /// Replaces the record of a client, one version up, without asking the vendor for anything; in the journal as
    /// `what`.
    pub(crate) async fn record(
        &self,
        principal: &str,
        request_id: &str,
        what: &str,
        registration: Registration,
    ) -> std::result::Result<(), StoreError> {
        let now = now_ms();
        let operation = Operation {
            id: registrar_model::OperationId::generate(),
            action: Action::Update,
            backend: registration.backend.to_string(),
            registration: Some(registration.id),
            state: OperationState::Pending,
            outcome: registrar_core::Outcome::Unknown,
            summary: "in progress".into(),
            created_at: now,
            updated_at: now,
            attempts: 1,
            evidence: json!({ OWN_RECORD: true }),
            request_id: request_id.into(),
            principal: principal.into(),
            desired: None,
            lease: Lease {
                owner: Arc::clone(&self.instance),
                until: now.saturating_add(millis(LEASE_MARGIN)),
                fence: 1,
            },
        };
        let (state, outcome) = (OperationState::Succeeded, registrar_core::Outcome::Performed);
        let update = Arc::new(OperationUpdate::of(&operation, state, outcome, what.to_owned(), now));
        let expected_version = registration.version.saturating_sub(1);
        let change = RegistrationChange::Update { registration: Arc::new(registration), expected_version };
        self.store.begin(Intent { operation: Arc::new(operation), key: None, spend: None }).await?;
        let Err(error) = self.store.finish(Arc::clone(&update), Some(change)).await else { return Ok(()) };
        let id = update.id;
        let failed = OperationUpdate {
            state: OperationState::Failed,
            outcome: registrar_core::Outcome::NotPerformed,
            summary: format!("the record was not changed: {error}").into(),
            ..Arc::unwrap_or_clone(update)
        };
        match self.store.finish(Arc::new(failed), None).await {
            Ok(()) => {}
            // the try that failed may have been recorded all the same
            Err(StoreError::AlreadyFinished) => {
                let found = self.store.operation(id).await?;
                if found.is_some_and(|operation| operation.state == OperationState::Succeeded) {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(operation = %id, %error, "not closed; it will be when its lease has ended"),
        }
        Err(error)
    }
}

fn cannot_be_opened() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the vendor's credentials for this client cannot be opened; was the sealing key changed?",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(uri: &str, token: &str) -> Pair {
        Pair { uri: uri.to_owned(), token: token.to_owned() }
    }

    fn pairs(worked: Option<Pair>, candidate: Option<Pair>) -> Pairs {
        Pairs { v: VERSION, worked, candidate, refused: None }
    }

    #[test]
    fn the_form_before_this_one_can_be_read() {
        let old = Pairs::read(br#"{"uri":"https://a.example/c","token":"t"}"#).unwrap();
        assert!(old == pairs(None, Some(pair("https://a.example/c", "t"))), "nobody knows whether it worked");
        let now = pairs(Some(pair("u", "t")), Some(pair("v", "s")));
        assert!(Pairs::read(&serde_json::to_vec(&now).unwrap()).unwrap() == now);
        assert!(Pairs::read(b"{}").is_none() && Pairs::read(b"").is_none());
    }

    #[test]
    fn either_half_of_what_an_answer_brought_may_be_wrong() {
        let known = pairs(Some(pair("right", "old")), Some(pair("wrong", "new")));
        let tries = known.tries();
        assert!(tries == [pair("wrong", "new"), pair("right", "new"), pair("right", "old")]);
        // the URL is wrong and the token is new: from now on, that URL is not tried again
        let after = known.after(&tries, 1, Some(pair("wrong", "newer"))).unwrap();
        assert!(after.worked == Some(pair("right", "new")) && after.candidate == Some(pair("right", "newer")));
        let again = after.after(&after.tries(), 0, Some(pair("wrong", "newer"))).unwrap();
        assert!(again.candidate.is_none() && again.tries() == [pair("right", "newer")]);
    }

    #[test]
    fn what_worked_is_kept_until_the_new_has_worked() {
        let first = pairs(None, Some(pair("u", "a")));
        let second = first.after(&first.tries(), 0, Some(pair("u", "b"))).unwrap();
        assert!(second.tries() == [pair("u", "b"), pair("u", "a")]);
        let third = second.after(&second.tries(), 0, None).unwrap();
        assert!(third.tries() == [pair("u", "b")]);
        let kept = second.after(&second.tries(), 1, None).unwrap();
        assert!(kept.tries() == [pair("u", "a")], "what worked, when the new one did not");
    }
}
