//! Management of a client by its own registration access token (RFC 7592).

use std::sync::Arc;

use registrar_core::{Error, ErrorKind, Offers, Result, SecretString};
use registrar_model::{ClientMetadata, Hidden, NewRegistration, Registration, RegistrationId, State};
use registrar_store::OperationState;
use serde_json::{Map, Value};

use super::{Record, UpdateOptions, choices, instance, secret_hash, token, unused};
use crate::{
    clock::now_ms,
    engine::{Caller, Engine, Failure, Written, store_error},
    journal::millis,
};

/// Somebody who has shown the registration access token of a client.
#[derive(Debug)]
pub struct Holder {
    /// The client.
    pub registration: Registration,
    /// With the token before the current one, which still works for a while.
    previous: bool,
}

impl Holder {
    /// The name for the journal.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("rat:{}", self.registration.id)
    }

    /// Whether a secret is the client's; also false when the gateway has not seen it.
    #[must_use]
    pub fn has_secret(&self, presented: &str) -> bool {
        let stored = Record::of(&self.registration.hidden).and_then(|r| r.secret).unwrap_or_default();
        let presented = secret_hash(presented);
        !self.registration.spec.metadata.is_public()
            && aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_bytes(), stored.as_bytes()).is_ok()
    }
}

impl Engine {
    /// The client that a registration access token is for.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidToken`], the same for wrong tokens and for clients that do not exist, were switched off, have
    /// expired, or were not registered at the standards face.
    pub async fn holder(&self, id: &str, presented: &str) -> Result<Holder> {
        let presented = token::access_token_hash(presented).ok_or_else(refused)?;
        let found = match id.parse::<RegistrationId>() {
            Ok(id) => self.store.registration(id).await.map_err(store_error)?,
            Err(_) => None,
        };
        let hidden = found.as_ref().map(|r| &r.hidden);
        // an unknown client costs the same comparisons as a wrong token
        let current = hidden.and_then(|h| h.access_token).unwrap_or_default();
        let (previous, until) = hidden.and_then(|h| h.previous_access_token).unwrap_or_default();
        let is_current = token::is_same(&presented, &current);
        let is_previous = token::is_same(&presented, &previous) && now_ms() < until;
        let now = now_ms();
        let alive =
            |r: &Registration| matches!(r.state, State::Active | State::Unknown) && !unused::has_expired(r, now);
        match found {
            Some(registration) if (is_current || is_previous) && alive(&registration) => {
                Ok(Holder { registration, previous: !is_current })
            }
            _ => Err(refused()),
        }
    }

    /// What a client can do with its own registration: a server need not have RFC 7592.
    ///
    /// # Errors
    /// The backend is gone from the configuration, or the vendor's credentials for this client cannot be opened.
    pub async fn offers(&self, holder: &Holder) -> Result<Offers> {
        let backend = self.runtime.load().backend(&holder.registration.backend)?;
        Ok(backend.adapter.offers(&self.target(&holder.registration).await?))
    }

    /// The client's metadata as it is now (RFC 7592 §2.1): the record, corrected by what the vendor shows.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidToken`] when the vendor does not have the client any more or has it switched off; otherwise
    /// as a read.
    pub async fn own(&self, holder: &Holder) -> Result<ClientMetadata> {
        let registration = &holder.registration;
        let mut metadata = registration.spec.metadata.encode();
        for drift in self.seen(registration).await? {
            let Some(name) = drift.field.strip_prefix("metadata.") else { continue };
            match drift.vendor {
                Some(value) => metadata.insert(name.to_owned(), value),
                None => metadata.remove(name),
            };
        }
        let mut issues = registrar_model::Issues::lenient();
        let at = registrar_model::Position::root();
        Ok(ClientMetadata::decode(&metadata, &at, &mut issues).0)
    }

    /// How the vendor's client differs from the record.
    async fn seen(&self, registration: &Registration) -> Result<Vec<registrar_model::account::Drift>> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        if !backend.adapter.offers(&self.target(registration).await?).read {
            return Ok(Vec::new());
        }
        match self.live(registration.id).await {
            // disabled beats the token (CVE-2026-9705)
            Ok((shown, _)) if shown.spec.policy.enabled == Some(false) => Err(refused()),
            Ok((_, drift)) => Ok(drift),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // some vendors show a new client only after a while
                let age = now_ms().saturating_sub(registration.created_at);
                if age < millis(backend.visibility_grace) { Ok(Vec::new()) } else { Err(refused()) }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the client's metadata be exactly this (RFC 7592 §2.2); what only administrators decide stays. `statement` is
    /// what [`Self::take_statement`] took out of the request.
    ///
    /// # Errors
    /// As [`Self::replace`], and as [`Self::own`].
    pub async fn replace_own(
        self: &Arc<Self>,
        caller: &Caller,
        holder: &Holder,
        mut request: NewRegistration,
        statement: Option<String>,
    ) -> Result<Written, Failure> {
        let backend = self.runtime.load().backend(&holder.registration.backend)?;
        choices::resolve(backend.adapter.as_ref(), &mut request)?;
        self.seen(&holder.registration).await?;
        let current = self.registration(holder.registration.id).await?;
        request.unknown.clear();
        let other_software = !instance::is_same_software(&current.spec.metadata, &request.spec.metadata);
        request.spec.policy.clone_from(&current.spec.policy);
        request.spec.vendor.clone_from(&current.spec.vendor);
        request.labels = current.labels;
        let record = Record::of(&current.hidden).unwrap_or_default();
        {
            let runtime = self.runtime.load();
            let route = runtime.routes.iter().find(|r| Some(&r.name) == record.route.as_ref());
            self.demand(route, record.terms.as_ref(), &mut request.spec.metadata)?;
        }
        let turn = if other_software && self.is_single(record.route.as_deref()) {
            self.only_instance(&request.spec.metadata, Some(current.id)).await?
        } else {
            None
        };
        let options = UpdateOptions { statement: Some(statement), turn };
        self.replace_with(caller, current.id, request, None, options).await
    }

    /// Deletes the client (RFC 7592 §2.3).
    ///
    /// # Errors
    /// [`ErrorKind::MethodNotAllowed`], before any call, where the vendor documents no deletion; otherwise as
    /// [`Self::delete`].
    pub async fn delete_own(self: &Arc<Self>, caller: &Caller, holder: &Holder) -> Result<(), Failure> {
        let backend = self.runtime.load().backend(&holder.registration.backend)?;
        if !backend.adapter.descriptor().operations.delete.is_supported() {
            let detail = "clients cannot be deleted here; the operator can switch this one off";
            return Err(Error::new(ErrorKind::MethodNotAllowed, detail).into());
        }
        self.delete(caller, holder.registration.id, None).await.map(drop)
    }

    /// A new registration access token where one is due: after an update if the configuration says so, and whenever
    /// the one before the current was shown, because then the answer with the current one was lost. One that is due
    /// while something else is still to be recorded is renewed another time.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn renewed(&self, caller: &Caller, holder: &Holder, updated: bool) -> Result<Option<SecretString>> {
        if holder.previous || (updated && self.options.registration.rotate) {
            return self.reissue(caller, holder.registration.id, None).await;
        }
        Ok(None)
    }

    /// Issues a new registration access token; the one before still works for the grace period. `record` is kept of a
    /// client that was found again after its registration's answer was lost, and of which nothing else is kept.
    ///
    /// Nothing is issued while the result of a write to the client is still to be recorded: the token would take the
    /// version that the result is to be recorded as, and with that the only copy of what the vendor has issued.
    pub(super) async fn reissue(
        &self,
        caller: &Caller,
        id: RegistrationId,
        record: Option<Record>,
    ) -> Result<Option<SecretString>> {
        // a result that is recorded later keeps the client to itself meanwhile; the answer that holds it shall not wait
        let Ok(_one_at_a_time) = tokio::time::timeout(LONGEST_TURN, self.lock(id)).await else { return Ok(None) };
        // none is in progress here now: what is pending has ended, or another process is at it
        if self.any_operation(OperationState::Pending, |o| o.registration == Some(id)).await? {
            return Ok(None);
        }
        let current = self.registration(id).await?;
        let (fresh, stored) = token::new_access_token()?;
        let until = now_ms().saturating_add(millis(self.options.registration.rotation_grace));
        let mut hidden = Hidden {
            access_token: Some(stored),
            previous_access_token: current.hidden.access_token.map(|old| (old, until)),
            ..current.hidden
        };
        if let (None, Some(record)) = (&hidden.dcr, record) {
            record.keep(&mut hidden);
        }
        let next = Registration { hidden, version: current.version + 1, ..current };
        let what = "issued a new registration access token";
        self.record(&caller.principal, &caller.request_id, what, next).await.map_err(store_error)?;
        Ok(Some(fresh))
    }
}

/// How long a new token waits for another write to the client.
const LONGEST_TURN: std::time::Duration = std::time::Duration::from_millis(500);

/// What every token that opens nothing is told.
pub(super) fn refused() -> Error {
    Error::new(ErrorKind::InvalidToken, "the registration access token is not valid for this client")
}

/// The members that an update must not have (RFC 7592 §2.2).
const NEVER_IN_UPDATES: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

impl Holder {
    /// Checks the members of an update that only a server may set.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`].
    pub fn check_update(&self, body: &Map<String, Value>) -> Result<()> {
        let invalid = |detail: String| Err(Error::new(ErrorKind::InvalidRequest, detail));
        if let Some(name) = NEVER_IN_UPDATES.iter().find(|n| body.contains_key(**n)) {
            return invalid(format!("an update must not have `{name}` (RFC 7592 section 2.2)"));
        }
        if body.get("client_id").and_then(Value::as_str) != Some(self.registration.client_id.as_str()) {
            return invalid("an update must have the `client_id` of this client (RFC 7592 section 2.2)".to_owned());
        }
        match body.get("client_secret") {
            None | Some(Value::Null) => Ok(()),
            Some(Value::String(secret)) if self.has_secret(secret) => Ok(()),
            Some(_) => invalid("`client_secret` is not the current one; it may be left out".to_owned()),
        }
    }
}
