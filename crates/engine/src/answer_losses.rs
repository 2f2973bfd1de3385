//! Losses that show only in the answer to a create.
//!
//! One read settles whether they are real: some servers leave out of that answer what they hold. What remains and is not
//! allowed ends in a deletion of the client that was just made, where the vendor deletes clients; elsewhere in a 201
//! that tells it plainly.

use registrar_core::{Error, ErrorKind, Outcome, VendorClient};
use registrar_model::{ClientSpec, Loss, NewRegistration};
use serde_json::Value;
use url::Url;

use crate::{
    backend::Backend, config::OnLoss, engine::Engine, loss_policy, reported::Reported, unread::with_unread,
    writes::settle,
};

/// A new client as it is after a look: what it lost, and what its record shows where that is not just what the vendor
/// shows.
pub(crate) struct Judged {
    pub(crate) losses: Reported,
    pub(crate) shown: Option<ClientSpec>,
}

/// Why the policy refuses losses that nobody foretold, if it does. Foretold ones were admitted before the call.
///
/// Three are told and lead to no deletion, because the client is not weaker: a member that cannot be read, another
/// spelling of the same redirect URIs, and a public client that was given a secret.
pub(crate) fn refusal(
    policy: OnLoss,
    request: &NewRegistration,
    client: &VendorClient,
    losses: &[Loss],
) -> Option<Error> {
    loss_policy::admit(policy, &request.allow_loss, losses).err()?;
    let is_unread = |loss: &Loss| client.unread.iter().any(|unread| unread.field == loss.field);
    let is_weaker = |loss: &&Loss| !is_unread(loss) && !is_spelling(loss) && !is_stronger(loss);
    let weaker: Vec<Loss> = losses.iter().filter(is_weaker).cloned().collect();
    loss_policy::admit(policy, &request.allow_loss, &weaker).err()
}

/// Whether a public client has become one with a secret, which the caller gets.
fn is_stronger(loss: &Loss) -> bool {
    let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
    let is_secret = |method: String| method.starts_with("client_secret_");
    loss.field == "metadata.token_endpoint_auth_method"
        && text(&loss.wanted).is_some_and(|wanted| wanted == "none")
        && text(&loss.got).is_some_and(is_secret)
}

/// Whether a loss is another spelling of the same URIs, as `https://a.example` and `https://a.example/`.
fn is_spelling(loss: &Loss) -> bool {
    let urls = |value: &Option<Value>| -> Option<Vec<Url>> {
        let texts = value.as_ref()?.as_array()?.iter();
        let mut urls = texts.map(|text| Url::parse(text.as_str()?).ok()).collect::<Option<Vec<_>>>()?;
        urls.sort();
        Some(urls)
    };
    loss.field == "metadata.redirect_uris" && urls(&loss.wanted).is_some_and(|wanted| Some(wanted) == urls(&loss.got))
}

impl Engine {
    /// Looks once at a client that was just made and whose answer shows refused losses. What is found takes the place of
    /// the answer; `None` when it could not be looked at.
    pub(crate) async fn looked_at_again(
        &self,
        backend: &Backend,
        request: &NewRegistration,
        client: &mut VendorClient,
        losses: &[Loss],
    ) -> Option<Judged> {
        let target = client.target();
        let read = backend.adapter.read(&target).await.ok().filter(|read| read.client_id == client.client_id)?;
        let mut predicted = backend.adapter.preview(&request.spec).ok()?.losses;
        // what the adapter has said of the answer, and no look shows
        let unseen = |loss: &&Loss| {
            [&request.spec, &client.spec].iter().all(|spec| spec.field(&loss.field).is_none())
                && !predicted.iter().any(|known| known.field == loss.field)
        };
        let unseen: Vec<Loss> = losses.iter().filter(unseen).cloned().collect();
        predicted.extend(unseen);
        client.spec = read.spec;
        client.unread = read.unread;
        let predicted = with_unread(&request.spec, client, predicted);
        client.management = read.management.or_else(|| client.management.take());
        let (losses, shown) = settle(&request.spec, &client.spec, predicted, request.own_losses());
        Some(Judged { losses, shown })
    }

    /// Deletes a client that was just made, because it is not what was asked for. The refusal to tell, or `None` when the
    /// vendor still has it.
    pub(crate) async fn unmade(&self, backend: &Backend, client: &VendorClient, refusal: Error) -> Option<Error> {
        if !backend.adapter.descriptor().operations.delete.is_supported() {
            return None;
        }
        let target = client.target();
        if let Err(error) = backend.adapter.delete(&target).await {
            let is_gone = match error.outcome() {
                // one read tells; this one-credential vendor or this pair has just been used
                Outcome::Unknown => matches!(
                    backend.adapter.read(&target).await,
                    Err(read) if matches!(read.vendor().and_then(|vendor| vendor.status), Some(404 | 410))
                ),
                Outcome::NotPerformed | Outcome::Performed => false,
            };
            if !is_gone {
                tracing::warn!(
                    backend = %backend.name, client_id = %client.client_id, code = error.kind().slug(),
                    "a client that is not what was asked for could not be deleted again"
                );
                return None;
            }
        }
        let detail = format!(
            "{}; the vendor had made client {} that way, and it was deleted again",
            refusal.detail(),
            client.client_id
        );
        let mut told = Error::new(ErrorKind::UnsupportedByBackend, detail)
            .with_issues(refusal.issues().to_vec())
            .with_losses(refusal.losses().to_vec())
            .with_backend(backend.name.as_str());
        if let Some(advice) = refusal.advice() {
            told = told.with_advice(advice.to_owned());
        }
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use registrar_model::{LossKind, Severity};
    use serde_json::json;

    use super::*;

    #[test]
    fn another_spelling_of_a_uri_is_no_weaker_client() {
        let loss = |wanted: Value, got: Value| Loss {
            field: "metadata.redirect_uris".into(),
            kind: LossKind::Substituted,
            severity: Severity::Security,
            reason: "r".into(),
            wanted: Some(wanted),
            got: Some(got),
        };
        let a = "https://a.example";
        for (wanted, got, same) in [
            (json!([a]), json!(["https://a.example/"]), true),
            (json!([a, "https://b.example/cb"]), json!(["https://B.example:443/cb", "https://a.example/"]), true),
            (json!([a]), json!(["https://a.example/cb"]), false),
            (json!([a]), json!(["http://a.example/"]), false),
            (json!([a]), json!(["https://a.example/", "https://b.example/"]), false),
            (json!([a]), json!("https://a.example/"), false),
        ] {
            assert_eq!(is_spelling(&loss(wanted.clone(), got.clone())), same, "{wanted} {got}");
        }
    }
}
