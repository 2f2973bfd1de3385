//! Settling an operation by a person's word.

use registrar_core::{Error, ErrorKind, Result, Target, VendorClient};
use registrar_model::{ClientSpec, Registration, State, spec::same_value};
use registrar_store::{Action, Operation, OperationState, RegistrationChange};
use serde_json::json;

use crate::{
    adoption::{Made, made},
    engine::{Engine, store_error},
    journal::with_state,
    look::{complete_list, desired},
    reconcile::Finding,
    writes::state_of,
};

/// How the summary of an operation begins that [`Resolution::Gone`] has settled.
pub(crate) const GONE: &str = "the client is gone from the vendor";

/// How a person settles an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The vendor has the client: this one.
    Adopt {
        /// Its `client_id` at the vendor.
        client_id: registrar_model::ClientId,
        /// What the vendor's paths address it by, where that is not its `client_id`.
        vendor_ref: Option<String>,
        /// Also when it is not like what was asked for.
        force: bool,
    },
    /// The vendor did nothing.
    Absent,
    /// The vendor does not have the client that was to be changed or deleted any more: nor will the gateway.
    Gone,
}

impl Engine {
    /// Settles an operation by a person's word: the only way where the vendor cannot be asked.
    ///
    /// # Errors
    /// [`ErrorKind::OperationNotFound`]; [`ErrorKind::Validation`] when it is not unknown, when something else than a
    /// create is to be adopted, when the client of a create is to be gone, or the client is registered already;
    /// [`ErrorKind::NotFound`] when the vendor does not know the client.
    pub async fn resolve(
        &self,
        principal: &str,
        id: registrar_model::OperationId,
        how: Resolution,
    ) -> Result<Operation> {
        let missing = || Error::new(ErrorKind::OperationNotFound, "there is no operation with this id");
        let operation = self.store.operation(id).await.map_err(store_error)?.ok_or_else(missing)?;
        if operation.state != OperationState::Unknown {
            let detail =
                format!("the operation is {}, not unknown; there is nothing to resolve", operation.state.as_str());
            return Err(Error::new(ErrorKind::Validation, detail));
        }
        let by = ("resolved_by", json!(principal));
        let is_gone = how == Resolution::Gone;
        let finding = match how {
            Resolution::Absent => {
                let change = match operation.registration {
                    Some(registration) => {
                        let current = self.store.registration(registration).await.map_err(store_error)?;
                        current.filter(|r| r.state == State::Unknown).map(|r: Registration| {
                            let state = state_of(&r.observed);
                            with_state(r, state)
                        })
                    }
                    None => None,
                };
                let summary = format!("declared not done by {principal}");
                Finding::NotPerformed { summary, change, evidence: Vec::new() }
            }
            Resolution::Gone => {
                let of_a_client = operation.registration.filter(|_| operation.action != Action::Create);
                let Some(registration) = of_a_client else {
                    let detail =
                        "a create that made no client is `absent`; only a client that was registered can be gone";
                    return Err(Error::new(ErrorKind::Validation, detail));
                };
                let change = Some(RegistrationChange::Remove { id: registration });
                let summary = format!("{GONE}, says {principal}");
                if operation.action == Action::Delete {
                    Finding::Performed { summary, change, evidence: vec![by] }
                } else {
                    // whether the change or the new secret came before that makes no difference any more
                    Finding::NotPerformed { summary, change, evidence: Vec::new() }
                }
            }
            Resolution::Adopt { client_id, vendor_ref, force } => {
                let adopted = self.adopt(&operation, client_id, vendor_ref, force).await?;
                let Finding::Performed { summary, change, mut evidence } = adopted else {
                    return Err(Error::new(ErrorKind::Internal, "an adoption is a performed write"));
                };
                evidence.push(by);
                let how = if force { ", who insisted" } else { "" };
                if force {
                    evidence.push(("forced_by", json!(principal)));
                }
                Finding::Performed { summary: format!("{summary}; adopted by {principal}{how}"), change, evidence }
            }
        };
        if self.conclude(&operation, finding).await? && is_gone {
            // whatever else was open at the client went with it
            self.supersede(&operation, &[Action::Update, Action::Delete, Action::Rotate]).await;
        }
        self.store.operation(id).await.map_err(store_error)?.ok_or_else(missing)
    }

    async fn adopt(
        &self,
        operation: &Operation,
        client_id: registrar_model::ClientId,
        vendor_ref: Option<String>,
        force: bool,
    ) -> Result<Finding> {
        let refuse = |detail: &'static str| Err(Error::new(ErrorKind::Validation, detail));
        if operation.action != Action::Create {
            return refuse(
                "only a create can be settled by adopting a client; an update or deletion is simply done again",
            );
        }
        let Some(asked) = desired(operation) else {
            return refuse("what was asked for is not recorded, so there is nothing to adopt");
        };
        let name = operation.backend.parse().map_err(|_| Error::new(ErrorKind::BackendNotFound, "no such backend"))?;
        let backend = self.runtime.load().backend(&name)?;
        let client = if backend.adapter.descriptor().operations.list.is_supported() {
            let listed = complete_list(&backend).await?;
            listed.into_iter().find(|c| c.client_id == client_id)
        } else {
            let vendor_ref = vendor_ref.unwrap_or_else(|| client_id.to_string());
            match backend
                .adapter
                .read(&Target { client_id: client_id.clone(), vendor_ref, management: None, auth_method: None })
                .await
            {
                Ok(client) => Some(client),
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            }
        };
        let Some(client) = client else {
            return Err(Error::new(ErrorKind::NotFound, "the vendor knows no client of this id"));
        };
        if self.is_registered(&backend, &client).await? {
            return refuse("this client is registered already");
        }
        if let Some(difference) = unlike(operation, &asked.spec, &client, backend.gate.skew()).filter(|_| !force) {
            let detail = format!(
                "this client is not like the one that was asked for: {difference}. If it is the right one all the same, \
                 resolve with `force`; the journal says who did"
            );
            return Err(Error::new(ErrorKind::Validation, detail));
        }
        let predicted = backend.adapter.preview(&asked.spec)?.losses;
        Ok(self.adoption(operation, &backend, asked, predicted, client))
    }
}

/// In what a client is plainly not the one that a create asked for.
fn unlike(operation: &Operation, asked: &ClientSpec, client: &VendorClient, skew: Option<i64>) -> Option<&'static str> {
    let same = |field: &str| match (asked.field(field), client.spec.field(field)) {
        (Some(wanted), Some(got)) => same_value(field, &wanted, &got),
        // what a vendor does not hold says nothing
        _ => true,
    };
    if !same("metadata.redirect_uris") {
        return Some("its redirect URIs are others");
    }
    if !same("metadata.client_name") {
        return Some("its name is another");
    }
    (made(client, operation, skew) == Made::LongBefore).then_some("it was made more than 5 minutes before")
}
