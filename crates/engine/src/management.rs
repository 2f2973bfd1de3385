//! The vendor's own credentials for managing one client (RFC 7592), which only some vendors give: kept sealed.

use std::sync::Arc;

use registrar_core::{Error, ErrorKind, ExposeSecret as _, Management, Result, SecretString, Target, VendorClient};
use registrar_model::{Hidden, Registration, RegistrationId};
use registrar_store::{
    Action, Intent, Lease, Operation, OperationState, OperationUpdate, RegistrationChange, StoreError,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    clock::now_ms,
    engine::Engine,
    journal::{LEASE_MARGIN, millis},
};

#[derive(Serialize, Deserialize)]
struct Plain {
    uri: String,
    token: String,
}

/// In the evidence of an operation that is about the gateway's own record alone: no vendor knows of it.
pub(crate) const OWN_RECORD: &str = "own_record";

fn context(id: RegistrationId) -> String {
    format!("management {id}")
}

/// Whether the vendor's answer to a call for this client says that it is gone. A server that gives every client a token of
/// its own has one answer, mostly 401, for clients that are gone and for tokens that are not theirs (RFC 7592 §2.3), and
/// ours may be an old one: there, only 404 and 410 speak of the client.
pub(crate) fn is_gone(registration: &Registration, error: &Error) -> bool {
    let of_the_client = || matches!(error.vendor().and_then(|vendor| vendor.status), Some(404 | 410));
    error.kind() == ErrorKind::NotFound && (registration.hidden.management.is_none() || of_the_client())
}

impl Engine {
    /// How to address a registered client, with the vendor's credentials for it.
    pub(crate) async fn target(&self, registration: &Registration) -> Result<Target> {
        let management = match &registration.hidden.management {
            None => None,
            Some(sealed) => {
                let opened = self.vault().await?.open(&context(registration.id), "", sealed);
                let plain: Option<Plain> = opened.and_then(|p| serde_json::from_slice(&p).ok());
                let management = plain
                    .and_then(|p| Some(Management { uri: p.uri.parse().ok()?, token: SecretString::from(p.token) }));
                Some(management.ok_or_else(|| {
                    let detail =
                        "the vendor's credentials for this client cannot be opened; was the sealing key changed?";
                    Error::new(ErrorKind::Internal, detail)
                })?)
            }
        };
        Ok(Target {
            client_id: registration.client_id.clone(),
            vendor_ref: registration.vendor_ref.clone(),
            management,
            auth_method: registration.observed.metadata.token_endpoint_auth_method.clone(),
        })
    }

    /// The vendor's credentials in the form in which they are kept.
    pub(crate) async fn kept(&self, id: RegistrationId, management: Option<&Management>) -> Option<Vec<u8>> {
        let management = management?;
        let plain = Plain { uri: management.uri.to_string(), token: management.token.expose_secret().to_owned() };
        let sealed = match self.vault().await {
            Ok(vault) => serde_json::to_vec(&plain).ok().and_then(|p| vault.seal(&context(id), "", &p).ok()),
            Err(_) => None,
        };
        if sealed.is_none() {
            tracing::error!(registration = %id, "the vendor's credentials for this client could not be sealed: it cannot be managed");
        }
        sealed
    }

    /// Keeps credentials that the vendor has replaced while the client was read (RFC 7592 §3 allows that).
    pub(crate) async fn renew_management(&self, current: &Registration, used: &Target, shown: &VendorClient) {
        let Some(new) = &shown.management else { return };
        let same = used
            .management
            .as_ref()
            .is_some_and(|old| old.uri == new.uri && old.token.expose_secret() == new.token.expose_secret());
        if same {
            return;
        }
        let hidden = Hidden { management: self.kept(current.id, Some(new)).await, ..current.hidden.clone() };
        let registration = Registration { hidden, version: current.version + 1, ..current.clone() };
        let what = "kept the credentials that the vendor has replaced";
        let kept = self.record("registrar", "", what, registration).await;
        if let Err(error) = kept {
            tracing::error!(registration = %current.id, %error, "the vendor's new credentials for this client were not kept");
        }
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
