//! What proves that a client is gone, and what a refused write leaves.
//!
//! Gone is proved by one read, with the URL and the token that worked last, which the vendor answers with 404 or 410;
//! where the vendor has one credential for all clients, by a read or a complete list without the client. A 401 never
//! proves it (RFC 7592 §2 has that one answer for clients that are gone and for tokens that are not theirs), nor does
//! the status of a write: servers answer 404 to methods that they do not have.

use std::{borrow::Cow, sync::Arc};

use registrar_core::{Error, ErrorKind, OpSupport, Outcome, Result, VendorClient, VendorDetail};
use registrar_model::{
    ClientSpec, Loss, LossKind, Registration, Severity, State,
    account::{Drift, diff, drift, effective},
};
use registrar_store::{OperationState, RegistrationChange};

use crate::{
    backend::Backend,
    clock::now_ms,
    engine::{Engine, Failure, Turn, store_error},
    journal::{millis, with_state},
    management::Reach,
    record::Ongoing,
    writes::state_of,
};

/// What one read says of a client.
pub(crate) enum Presence {
    /// The vendor shows it; with the try of [`Reach`] that was used.
    Shown(Box<VendorClient>, usize),
    /// The vendor's own word that it is not there.
    Gone(Error),
    /// The server does not take the gateway's token for this client, or has never served its URL.
    Lost(Error),
    /// None of these.
    Unclear(Error),
}

/// What becomes of the record when a look does not find the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It is marked as gone.
    Noted,
    /// Nothing: the vendor may need time to show it.
    MayStillCome,
}

/// What a write that the vendor refused leaves.
pub(crate) enum Refused {
    /// The client is gone.
    Gone(Error),
    /// It is not known to be; this is to be told, and this changes in the record.
    Told(Error, Option<RegistrationChange>),
}

impl Engine {
    /// Asks the vendor for a client.
    pub(crate) async fn presence(&self, backend: &Backend, reach: &Reach) -> Presence {
        let (read, by) = reach.call(|target| backend.adapter.read(target)).await;
        let error = match read {
            Ok(client) => return Presence::Shown(Box::new(client), by),
            Err(error) => error.with_backend(backend.name.as_str()),
        };
        let status = status_of(&error);
        if reach.is_own() {
            return match status {
                // the adapter knows that this server says something else with it
                Some(404 | 410) if error.kind() != ErrorKind::NotFound => Presence::Unclear(error),
                Some(404 | 410) if reach.has_worked(by) => Presence::Gone(error.with_kind(ErrorKind::NotFound)),
                Some(401 | 404 | 410) => Presence::Lost(lost(&error)),
                // some servers refuse a token with 400
                Some(400) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UpstreamAuthentication) => {
                    Presence::Lost(lost(&error))
                }
                _ => Presence::Unclear(error),
            };
        }
        let is_list = backend.adapter.descriptor().operations.read == OpSupport::Emulated;
        let says_gone = match status {
            // absence from a complete list; a status would be about the list
            None => error.kind() == ErrorKind::NotFound,
            Some(401 | 403) => false,
            Some(status) => !is_list && (error.kind() == ErrorKind::NotFound || status == 410),
        };
        if !says_gone {
            return Presence::Unclear(error);
        }
        // a wrong base URL answers 404 to everything
        if !is_list && let Err(other) = backend.adapter.check().await {
            return Presence::Unclear(other.with_backend(backend.name.as_str()));
        }
        Presence::Gone(error.with_kind(ErrorKind::NotFound))
    }

    /// What to tell of a write that failed, and what it changes in the record. A refusal that could mean that the client
    /// is gone leads to one read.
    pub(crate) async fn refused(
        &self,
        backend: &Backend,
        current: &Registration,
        reach: &Reach,
        error: Error,
    ) -> Refused {
        if !asks_for_a_look(reach, &error) {
            let change = (error.outcome() == Outcome::Unknown).then(|| with_state(current.clone(), State::Unknown));
            return Refused::Told(error, change);
        }
        match self.presence(backend, reach).await {
            Presence::Shown(client, by) => {
                let change = self.seen_again(current, reach, by, &client).await;
                Refused::Told(not_offered(&error), change)
            }
            Presence::Gone(gone) => Refused::Gone(gone),
            Presence::Lost(lost) => Refused::Told(lost, management_lost(current)),
            Presence::Unclear(unclear) => {
                let change = (error.outcome() == Outcome::Unknown).then(|| with_state(current.clone(), State::Unknown));
                Refused::Told(unknown_where(&error, unclear), change)
            }
        }
    }

    /// Ends a write that failed.
    pub(crate) async fn ended(
        self: &Arc<Self>,
        operation: &Ongoing,
        backend: &Backend,
        current: &Registration,
        reach: &Reach,
        error: Error,
    ) -> Failure {
        let (error, change) = match self.refused(backend, current, reach, error).await {
            Refused::Gone(error) => (error, Some(with_state(current.clone(), State::Gone))),
            Refused::Told(error, change) => (error, change),
        };
        self.failed(operation, backend, change, error).await
    }

    /// How a client is reached that is about to be written to. A URL that never worked is tried by a read first: what a
    /// write there does, nobody knows.
    pub(crate) async fn tried(&self, current: Registration, turn: &Turn) -> Result<(Registration, Reach)> {
        let reach = self.reach(&current).await?;
        if !reach.has_new_uri() {
            return Ok((current, reach));
        }
        // what it shows is recorded; a read that failed says nothing about the write
        let _ = self.look_at(current.clone(), Some(turn), Absence::Noted).await;
        let current = self.registration(current.id).await?;
        let reach = self.reach(&current).await?;
        Ok((current, reach))
    }

    /// What changes in the record because the vendor shows the client: credentials, and what was thought of it before.
    async fn seen_again(
        &self,
        current: &Registration,
        reach: &Reach,
        by: usize,
        client: &VendorClient,
    ) -> Option<RegistrationChange> {
        self.next_seen(current, reach, by, client)
            .await
            .map(|next| RegistrationChange::Update { expected_version: current.version, registration: Arc::new(next) })
    }

    async fn next_seen(
        &self,
        current: &Registration,
        reach: &Reach,
        by: usize,
        client: &VendorClient,
    ) -> Option<Registration> {
        let credentials = self.credentials_after(current.id, reach, by, client.management.as_ref()).await;
        let was_lost = current.hidden.notes.management_lost;
        if credentials.is_none() && !was_lost && current.state != State::Gone {
            return None;
        }
        let mut next = Registration { version: current.version + 1, updated_at: now_ms(), ..current.clone() };
        if let Some(credentials) = credentials {
            next.hidden.management = Some(credentials);
        }
        next.hidden.notes.management_lost = false;
        if current.state == State::Gone {
            next.state = state_of(&client.spec);
        }
        Some(next)
    }

    /// The client as the vendor shows it now, and how that differs from what was recorded. What the look shows of the
    /// record itself is recorded: new credentials, that the client is gone, or there again, or cannot be managed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when only the vendor does not know it.
    pub async fn live(&self, id: registrar_model::RegistrationId) -> Result<(Registration, Vec<Drift>)> {
        let registration = self.registration(id).await?;
        if registration.hidden.management.is_none() {
            return self.look_at(registration, None, Absence::Noted).await;
        }
        // a server may replace the token with every read: two at once would lose one of the answers
        let turn = self.lock(id).await;
        let registration = self.registration(id).await?;
        self.look_at(registration, Some(&turn), Absence::Noted).await
    }

    /// As [`Self::live`], of a client whose turn the caller may have.
    pub(crate) async fn look_at(
        &self,
        mut registration: Registration,
        turn: Option<&Turn>,
        absence: Absence,
    ) -> Result<(Registration, Vec<Drift>)> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        backend.usable()?;
        let reach = self.reach(&registration).await?;
        match self.presence(&backend, &reach).await {
            Presence::Shown(client, by) => {
                if now_ms().saturating_sub(registration.created_at) < millis(backend.visibility_grace) {
                    self.sightings.note(registration.id);
                }
                if let Some(next) = self.next_seen(&registration, &reach, by, &client).await {
                    let what = if registration.state == State::Gone {
                        "the vendor shows the client again"
                    } else if registration.hidden.notes.management_lost {
                        "the server takes the gateway's token for this client again"
                    } else {
                        "kept the credentials that the vendor has replaced"
                    };
                    if self.note_look(what, &registration, &next, turn).await {
                        registration = next;
                    }
                }
                let drift = drift(&registration.observed, &client.spec);
                registration.spec = Arc::new(with_what_only_we_keep(&registration, client.spec));
                Ok((registration, drift))
            }
            Presence::Gone(error) => {
                if absence == Absence::Noted && matches!(registration.state, State::Active | State::Disabled) {
                    let mut next = next_with(&registration, State::Gone);
                    next.hidden.notes.management_lost = false;
                    self.note_look("the vendor does not have the client any more", &registration, &next, turn).await;
                }
                Err(error)
            }
            Presence::Lost(error) => {
                if let Some(next) = next_lost(&registration) {
                    let what = "the server does not take the gateway's token for this client";
                    self.note_look(what, &registration, &next, turn).await;
                }
                Err(error)
            }
            Presence::Unclear(error) => Err(unread(error)),
        }
    }

    /// Records what a look has shown, in the journal too, unless a write to the client is open: that records more. True
    /// when it is recorded.
    async fn note_look(&self, what: &str, before: &Registration, next: &Registration, turn: Option<&Turn>) -> bool {
        let _turn = match turn {
            Some(_) => None,
            None => Some(self.lock(before.id).await),
        };
        let noted = async {
            let pending = self.any_operation(OperationState::Pending, |o| o.registration == Some(before.id)).await?;
            let current = self.store.registration(before.id).await.map_err(store_error)?;
            if pending || current.is_none_or(|current| current.version != before.version) {
                return Ok(false);
            }
            self.record("registrar", "", what, next.clone()).await.map(|()| true).map_err(store_error)
        };
        let noted: Result<bool> = noted.await;
        match noted {
            Ok(noted) => noted,
            Err(error) => {
                tracing::error!(registration = %before.id, %error, what, "what a look has shown was not recorded");
                false
            }
        }
    }
}

fn status_of(error: &Error) -> Option<u16> {
    error.vendor().and_then(|vendor| vendor.status)
}

/// Whether the refusal of a write could mean that the client is gone or cannot be managed. The vendor did nothing.
fn asks_for_a_look(reach: &Reach, error: &Error) -> bool {
    let status = status_of(error);
    let by_status = matches!(status, Some(404 | 405 | 410 | 501)) || (reach.is_own() && status == Some(401));
    let by_kind = error.outcome() == Outcome::NotPerformed
        && (error.kind() == ErrorKind::NotFound
            || (reach.is_own() && error.kind() == ErrorKind::UpstreamAuthentication && status.is_some()));
    by_status || by_kind
}

/// The vendor shows the client and refuses the write all the same.
fn not_offered(error: &Error) -> Error {
    let vendor = error.vendor().cloned().unwrap_or_default();
    if matches!(vendor.status, Some(400 | 401)) {
        let detail = "the server refuses this with the token of this client, which it takes for reading";
        return Error::new(ErrorKind::UpstreamAuthorization, detail).with_vendor(vendor);
    }
    let detail = match vendor.status {
        Some(status) => {
            format!("the vendor has the client and does not offer this for it (status {status}); nothing was done")
        }
        None => "the vendor has the client and does not offer this for it; nothing was done".to_owned(),
    };
    Error::new(ErrorKind::MethodNotAllowed, detail).with_vendor(vendor)
}

/// The write was refused, and the read that was to tell why has failed too.
fn unknown_where(error: &Error, unclear: Error) -> Error {
    let told = unread(unclear);
    if error.outcome() == Outcome::Unknown { told.with_outcome(Outcome::Unknown) } else { told }
}

/// An unclear answer to a read never says that there is no such client.
fn unread(error: Error) -> Error {
    if error.kind() == ErrorKind::NotFound { error.with_kind(ErrorKind::UpstreamRejected) } else { error }
}

/// The server does not take the gateway's token for one client.
fn lost(error: &Error) -> Error {
    let vendor: VendorDetail = error.vendor().cloned().unwrap_or_default();
    let (detail, advice) = match vendor.status {
        Some(404 | 410) => (
            "the server does not know the URL that it gave for managing this client, which has never worked; that does not \
             prove that the client is gone",
            "look for the client at the server; where it is gone, register it anew",
        ),
        _ => (
            "the server does not accept the token that it gave the gateway for this client: the client was switched off or \
             removed there, or its token was replaced, and nothing proves which",
            "look for the client at the server: where it is switched off, switch it on again; where it is gone or its \
             token was replaced, register it anew",
        ),
    };
    Error::new(ErrorKind::UpstreamAuthentication, detail)
        .with_advice(advice)
        .with_vendor(vendor)
        .with_backend(error.backend().unwrap_or_default())
        .with_management_lost()
}

/// The client as the vendor shows it, with the members that the record alone keeps: what a read gives out may be sent back.
fn with_what_only_we_keep(registration: &Registration, shown: ClientSpec) -> ClientSpec {
    if Arc::ptr_eq(&registration.spec, &registration.observed) {
        return shown;
    }
    let ours = |path: &String| registration.observed.field(path).is_none() && shown.field(path).is_none();
    let kept: Vec<Loss> = diff(&registration.spec, &registration.observed)
        .into_iter()
        .filter(ours)
        .map(|path| Loss {
            field: path.into(),
            kind: LossKind::LocalOnly,
            severity: Severity::Info,
            reason: "".into(),
            wanted: None,
            got: None,
        })
        .collect();
    let whole = match effective(&registration.spec, &shown, &kept) {
        Ok(Cow::Owned(whole)) => Some(whole),
        Ok(Cow::Borrowed(_)) | Err(_) => None,
    };
    whole.unwrap_or(shown)
}

fn next_with(current: &Registration, state: State) -> Registration {
    Registration { state, version: current.version + 1, updated_at: now_ms(), ..current.clone() }
}

fn next_lost(current: &Registration) -> Option<Registration> {
    if current.hidden.notes.management_lost {
        return None;
    }
    let mut next = next_with(current, current.state);
    next.hidden.notes.management_lost = true;
    Some(next)
}

fn management_lost(current: &Registration) -> Option<RegistrationChange> {
    let registration = Arc::new(next_lost(current)?);
    Some(RegistrationChange::Update { registration, expected_version: current.version })
}
