//! New secrets for clients that are registered.

use std::sync::Arc;

use registrar_core::Error;
use registrar_model::{OperationId, Registration, RegistrationId, State};
use registrar_store::Action;

use crate::{
    clock::now_ms,
    dcr,
    engine::{Caller, Engine, Failure, NewSecret, SecretState},
    journal::{Start, Success, Wish},
    writes::{Subject, issued, replacement, state_of, supported},
};

/// The answer to a rotation.
#[derive(Debug)]
pub struct Rotated {
    /// The secret, or, to a repetition, what became of it.
    pub secret: Result<NewSecret, SecretState>,
    /// The journal entry.
    pub operation: OperationId,
    /// As [`Written::recorded`](crate::Written::recorded).
    pub recorded: bool,
}

impl Engine {
    /// Issues a new secret.
    ///
    /// # Errors
    /// `unsupported-by-backend`, before any call, for public clients and vendors without rotation.
    pub async fn rotate_secret(self: &Arc<Self>, caller: &Caller, id: RegistrationId) -> Result<Rotated, Failure> {
        if let Some(done) = self.earlier(caller).await? {
            let secret = self.issued_again(caller, &done).await?;
            return Ok(Rotated { secret, operation: done.id, recorded: true });
        }
        let Subject { current, backend, turn } = self.subject(id, |_| Ok(())).await?;
        supported(backend.adapter.descriptor().operations.rotate_secret, &backend, "rotating a secret")?;
        if current.spec.metadata.is_public() {
            let detail = "a public client (token_endpoint_auth_method none) has no secret to rotate";
            return Err(Error::unsupported(detail).with_backend(backend.name.as_str()).into());
        }
        backend.admits_writes()?;
        let (current, reach) = self.tried(current, &turn).await?;
        let (engine, caller, operation_id) = (Arc::clone(self), caller.clone(), OperationId::generate());
        self.detached(
            operation_id,
            Box::pin(async move {
                let wish = Wish::about(operation_id, Action::Rotate, id, &backend, turn);
                let operation = match engine.begin(&caller, wish).await? {
                    Start::Now(operation) => operation,
                    Start::Done(earlier) => {
                        let secret = engine.issued_again(&caller, &earlier).await?;
                        return Ok(Rotated { secret, operation: earlier.id, recorded: true });
                    }
                };
                let (rotated, _) = reach.call(|target| backend.adapter.rotate_secret(target)).await;
                let secret = match rotated {
                    Ok(secret) => issued(secret),
                    Err(error) => return Err(engine.ended(&operation, &backend, &current, &reach, error).await),
                };
                let had_open_writes = current.state == State::Unknown;
                // nothing that a look at the vendor can find out is open besides: then it is as it was seen last
                let settled =
                    had_open_writes && !engine.others_are_open(&operation, &[Action::Rotate]).await.unwrap_or(true);
                let state = if settled { state_of(&current.observed) } else { current.state };
                // clients of the standards face may show their secret later: it is recognised by its hash
                let expires = current.hidden.unused_until.is_some();
                let change = (current.hidden.dcr.is_some() || expires || state != current.state).then(|| {
                    let (version, updated_at) = (current.version + 1, now_ms());
                    let mut next = Registration { state, version, updated_at, ..current.clone() };
                    next.hidden.unused_until = None;
                    dcr::note_secret(&mut next.hidden, Some(&secret));
                    replacement(&Arc::new(next))
                });
                let losses = Vec::new().into();
                let success = Success {
                    summary: "issued a new secret".into(),
                    losses: &losses,
                    change,
                    secret: Some(&secret),
                    steps: None,
                };
                // the caller gets the only copy of the secret even if it is not recorded (reliability F31)
                let unrecorded = engine.succeeded(&caller, &operation, &backend, success).await.err();
                let recorded = unrecorded.is_none();
                if recorded && had_open_writes {
                    engine.supersede(&operation, &[Action::Rotate]).await;
                }
                let operation = unrecorded.and_then(|failure| failure.operation).unwrap_or(operation_id);
                Ok(Rotated { secret: Ok(secret), operation, recorded })
            }),
        )
        .await
    }
}
