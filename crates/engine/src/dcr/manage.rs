//! Management of a client by its own registration access token (RFC 7592).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use registrar_core::{Error, ErrorKind, Offers, Result, SecretString};
use registrar_model::{ClientMetadata, Hidden, NewRegistration, Registration, RegistrationId, State};
use registrar_store::OperationState;
use serde_json::{Map, Value};

use super::{Record, UpdateOptions, choices, instance, secret_hash, token, unused};
use crate::{
    clock::now_ms,
    engine::{Caller, Engine, Failure, Turn, Written, store_error},
    gone::Absence,
    journal::millis,
};

/// Somebody who has shown the registration access token of a client.
#[derive(Debug)]
pub struct Holder {
    /// The client.
    pub registration: Registration,
    /// The hash of the token that was shown.
    presented: [u8; 32],
}

/// What a registration access token is of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Newest,
    /// The one before, which still works: the newest was never used, and not much time has passed.
    Previous,
}

/// What a client has done that may lead to a new registration access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It has asked for the header fields: nobody would see a new token.
    Head,
    /// It has read its registration.
    Read,
    /// It has changed it.
    Update,
}

impl Holder {
    /// The name for the journal.
    #[must_use]
    pub fn principal(&self) -> String {
        format!("rat:{}", self.registration.id)
    }

    /// Whether there is another token beside the one that was shown, as far as was known when it was shown.
    fn may_be_previous(&self) -> bool {
        self.registration.hidden.previous_access_token.is_some()
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
        match found {
            Some(registration) if (is_current || is_previous) && is_alive(&registration, now_ms()) => {
                Ok(Holder { registration, presented })
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
        Ok(backend.adapter.offers(self.reach(&holder.registration).await?.newest()))
    }

    /// The client's metadata as it is now (RFC 7592 §2.1): the record, which the holder then has too, corrected by what
    /// the vendor shows.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidToken`] when the vendor does not have the client any more or has it switched off; otherwise
    /// as a read.
    pub async fn own(&self, holder: &mut Holder) -> Result<ClientMetadata> {
        let id = holder.registration.id;
        // a server may replace its token with every read: two at once would lose one of the answers
        let turn = match holder.registration.hidden.management {
            Some(_) => Some(self.lock(id).await),
            None => None,
        };
        holder.registration = self.still(holder).await?;
        let mut metadata = holder.registration.spec.metadata.encode();
        for drift in self.seen(holder.registration.clone(), turn.as_ref()).await? {
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

    /// The client as it is recorded now, if what was shown still opens it.
    async fn still(&self, holder: &Holder) -> Result<Registration> {
        let found = self.store.registration(holder.registration.id).await.map_err(store_error)?;
        let current = found.ok_or_else(refused)?;
        standing(&current, &holder.presented, now_ms()).map(|_| current)
    }

    /// How the vendor's client differs from the record.
    async fn seen(
        &self,
        registration: Registration,
        turn: Option<&Turn>,
    ) -> Result<Vec<registrar_model::account::Drift>> {
        let backend = self.runtime.load().backend(&registration.backend)?;
        if !backend.adapter.offers(self.reach(&registration).await?.newest()).read {
            return Ok(Vec::new());
        }
        // some vendors show a new client only after a while; one that they have shown needs no time any more
        let (id, age) = (registration.id, now_ms().saturating_sub(registration.created_at));
        let may_still_come =
            registration.state != State::Gone && age < millis(backend.visibility_grace) && !self.sightings.has(id);
        let found = if may_still_come { Absence::MayStillCome } else { Absence::Noted };
        match self.look_at(registration, turn, found).await {
            // disabled beats the token (CVE-2026-9705)
            Ok((shown, _)) if shown.spec.policy.enabled == Some(false) => Err(refused()),
            Ok((_, drift)) => Ok(drift),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // 410 says that it was there
                let was_there = error.vendor().and_then(|vendor| vendor.status) == Some(410);
                if may_still_come && !was_there { Ok(Vec::new()) } else { Err(refused()) }
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
        choices::resolve(backend.adapter.as_ref(), &mut request, Some(&holder.registration.spec))?;
        let id = holder.registration.id;
        // from here on nobody else changes the client: what an administrator does is done before or comes after
        let turn = self.lock(id).await;
        let current = self.still(holder).await?;
        self.seen(current, Some(&turn)).await?;
        // what the look has shown may be recorded
        let mut current = self.still(holder).await?;
        if standing(&current, &holder.presented, now_ms())? == Standing::Newest {
            current.hidden.previous_access_token = None;
        }
        request.unknown.clear();
        let other_software = !instance::is_same_software(&current.spec.metadata, &request.spec.metadata);
        request.spec.policy.clone_from(&current.spec.policy);
        request.spec.vendor.clone_from(&current.spec.vendor);
        request.labels.clone_from(&current.labels);
        as_shown(&current.spec.metadata, &mut request.spec.metadata);
        let record = Record::of(&current.hidden).unwrap_or_default();
        {
            let runtime = self.runtime.load();
            let route = runtime.routes.iter().find(|r| Some(&r.name) == record.route.as_ref());
            self.demand(route, record.terms.as_ref(), &mut request.spec.metadata)?;
        }
        let instance = if other_software && self.is_single(record.route.as_deref()) {
            self.only_instance(&request.spec.metadata, Some(id)).await?
        } else {
            None
        };
        let options = UpdateOptions { statement: Some(statement), turn: instance };
        self.update(caller, current, request, options, turn).await
    }

    /// Deletes the client (RFC 7592 §2.3).
    ///
    /// # Errors
    /// [`ErrorKind::MethodNotAllowed`], before any call, where the vendor documents no deletion;
    /// [`ErrorKind::InvalidToken`] when somebody else had deleted it (RFC 7592 §2.3); otherwise as [`Self::delete`].
    pub async fn delete_own(self: &Arc<Self>, caller: &Caller, holder: &Holder) -> Result<(), Failure> {
        let backend = self.runtime.load().backend(&holder.registration.backend)?;
        if !backend.adapter.descriptor().operations.delete.is_supported() {
            let detail = "clients cannot be deleted here; the operator can switch this one off";
            return Err(Error::new(ErrorKind::MethodNotAllowed, detail).into());
        }
        let presented = holder.presented;
        let still = move |current: &Registration| standing(current, &presented, now_ms()).map(drop);
        let done = self.delete_when(caller, holder.registration.id, still).await?;
        if done.was_gone { Err(refused().into()) } else { Ok(()) }
    }

    /// A new registration access token where one is due: after an update if the configuration says so, and whenever
    /// the one before the newest was shown: then the answer with the newest was lost. The one that was shown goes on to
    /// work for its time; it ends with the first use of a newer one. A token that is due while something else is still to
    /// be recorded is issued another time.
    ///
    /// # Errors
    /// A store that does not work.
    pub async fn renewed(&self, caller: &Caller, holder: &Holder, after: After) -> Result<Option<SecretString>> {
        let turn = match (after, self.options.registration.rotate, holder.may_be_previous()) {
            (After::Update, true, _) | (_, _, true) => {
                tokio::time::timeout(LONGEST_TURN, self.lock(holder.registration.id)).await
            }
            _ => return Ok(None),
        };
        // a result that is recorded late may still hold the client; the answer that is to be given does not wait for it
        let Ok(_one_at_a_time) = turn else { return Ok(None) };
        // the administrator has ended the token since: what was done for it is done, and nothing more
        let Ok(current) = self.still(holder).await else { return Ok(None) };
        let id = current.id;
        match (standing(&current, &holder.presented, now_ms())?, after) {
            (Standing::Previous, After::Head) => Ok(None),
            (Standing::Previous, After::Read | After::Update) => {
                // updates at the same time have one outcome
                let known = self.renewals.of(id, &holder.presented, &current);
                if let (After::Update, Some(known)) = (after, known) {
                    return Ok(Some(known));
                }
                // the answer with the newest token was lost
                self.issue(caller, current, None, Keep::Previous, &holder.presented).await
            }
            (Standing::Newest, After::Update) if self.options.registration.rotate => {
                self.issue(caller, current, None, Keep::Current, &holder.presented).await
            }
            (Standing::Newest, _) => {
                // the newest is in use: the one before it ends
                if current.hidden.previous_access_token.is_some() && !self.is_being_written(id).await? {
                    let hidden = Hidden { previous_access_token: None, ..current.hidden };
                    let next = Registration { hidden, version: current.version + 1, ..current };
                    let what = "the registration access token before the newest has ended";
                    self.record(&caller.principal, &caller.request_id, what, next).await.map_err(store_error)?;
                }
                Ok(None)
            }
        }
    }

    /// Whether a write to the client is in progress: here, none is in the caller's turn; another process may be at it.
    async fn is_being_written(&self, id: RegistrationId) -> Result<bool> {
        self.any_operation(OperationState::Pending, |o| o.registration == Some(id)).await
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
        // a late recording may still hold this client's lock; the answer does not wait for it
        let Ok(_one_at_a_time) = tokio::time::timeout(LONGEST_TURN, self.lock(id)).await else { return Ok(None) };
        let current = self.registration(id).await?;
        self.issue(caller, current, record, Keep::Current, &[0; 32]).await
    }

    /// Issues a new token to a client, in its turn. `shown` is the hash of what it has shown.
    async fn issue(
        &self,
        caller: &Caller,
        current: Registration,
        record: Option<Record>,
        keep: Keep,
        shown: &[u8; 32],
    ) -> Result<Option<SecretString>> {
        if self.is_being_written(current.id).await? {
            return Ok(None);
        }
        let (fresh, stored) = token::new_access_token()?;
        let until = now_ms().saturating_add(millis(self.options.registration.rotation_grace));
        let previous_access_token = match keep {
            Keep::Current => current.hidden.access_token.map(|old| (old, until)),
            Keep::Previous => current.hidden.previous_access_token,
        };
        let mut hidden = Hidden { access_token: Some(stored), previous_access_token, ..current.hidden };
        if let (None, Some(record)) = (&hidden.dcr, record) {
            record.keep(&mut hidden);
        }
        let id = current.id;
        let next = Registration { hidden, version: current.version + 1, ..current };
        let what = "issued a new registration access token";
        self.record(&caller.principal, &caller.request_id, what, next).await.map_err(store_error)?;
        self.renewals.note(id, *shown, stored, &fresh, until);
        Ok(Some(fresh))
    }
}

/// Which token stays beside a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// The newest so far, for the time of grace.
    Current,
    /// The one before it: the newest so far was never used, and ends.
    Previous,
}

/// Tokens that were just issued: an update that shows the same token within the time of grace gets the same one. They are in
/// memory only; after a restart, another one is issued.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<HashMap<RegistrationId, Renewal>>);

struct Renewal {
    shown: [u8; 32],
    stored: [u8; 32],
    token: SecretString,
    until: i64,
}

impl std::fmt::Debug for Renewal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Renewal").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Renewals {
    /// How many are remembered.
    const ROOM: usize = 4096;

    fn note(&self, id: RegistrationId, shown: [u8; 32], stored: [u8; 32], token: &SecretString, until: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= Self::ROOM {
            let now = now_ms();
            known.retain(|_, renewal| renewal.until > now);
        }
        if known.len() < Self::ROOM {
            known.insert(id, Renewal { shown, stored, token: token.clone(), until });
        }
    }

    /// The token that was issued to whoever shows this one, if it is still the newest.
    fn of(&self, id: RegistrationId, shown: &[u8; 32], current: &Registration) -> Option<SecretString> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let renewal = known.get(&id).filter(|renewal| renewal.shown == *shown && renewal.until > now_ms())?;
        (current.hidden.access_token == Some(renewal.stored)).then(|| renewal.token.clone())
    }
}

/// A client that is gone is looked for again when it shows its token: the vendor may have it after all.
fn is_alive(registration: &Registration, now: i64) -> bool {
    matches!(registration.state, State::Active | State::Unknown | State::Gone)
        && !unused::has_expired(registration, now)
}

/// What a token is of a client.
///
/// # Errors
/// [`ErrorKind::InvalidToken`] when it opens nothing, now.
fn standing(registration: &Registration, presented: &[u8; 32], now: i64) -> Result<Standing> {
    let hidden = &registration.hidden;
    let current = hidden.access_token.unwrap_or_default();
    let (previous, until) = hidden.previous_access_token.unwrap_or_default();
    let is_newest = token::is_same(presented, &current);
    let is_previous = token::is_same(presented, &previous) && now < until;
    if !is_alive(registration, now) {
        return Err(refused());
    }
    match (is_newest, is_previous) {
        (true, _) => Ok(Standing::Newest),
        (false, true) => Ok(Standing::Previous),
        (false, false) => Err(refused()),
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
    /// Whether a body is what a GET has answered, whole: the client's URL, the token that it has shown, its id and time of
    /// issue. RFC 7592 §2.2 wants them left out; clients that change one member of what they read often do not.
    fn is_own_answer(&self, body: &Map<String, Value>) -> bool {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let r = &self.registration;
        let place = format!("/register/{}", r.id);
        text("registration_client_uri").is_some_and(|uri| uri.ends_with(&place))
            && text("registration_access_token")
                .and_then(token::access_token_hash)
                .is_some_and(|hash| token::is_same(&hash, &self.presented))
            && text("client_id") == Some(r.client_id.as_str())
            && body.get("client_id_issued_at").and_then(Value::as_i64) == r.client_id_issued_at
            && !body.contains_key("client_secret")
    }

    /// Checks the members of an update that only a server may set.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`].
    pub fn check_update(&self, body: &Map<String, Value>) -> Result<()> {
        let invalid = |detail: String| Err(Error::new(ErrorKind::InvalidRequest, detail));
        if self.is_own_answer(body) {
            return Ok(());
        }
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

/// Takes back what a GET has shown as in force because the record says nothing else (RFC 7591 §2): it asks for no change.
fn as_shown(recorded: &ClientMetadata, sent: &mut ClientMetadata) {
    if recorded.grant_types.is_none() && sent.effective_grant_types() == recorded.effective_grant_types() {
        sent.grant_types = None;
    }
    if recorded.response_types.is_none() && sent.effective_response_types() == recorded.effective_response_types() {
        sent.response_types = None;
    }
    if recorded.token_endpoint_auth_method.is_none() && sent.auth_method() == recorded.auth_method() {
        sent.token_endpoint_auth_method = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(document: Value) -> ClientMetadata {
        let request = NewRegistration::decode(&serde_json::json!({ "metadata": document })).unwrap();
        (*request.spec.metadata).clone()
    }

    #[test]
    fn what_is_in_force_without_a_word_stays_without_one() {
        let cb = serde_json::json!(["https://a.example/cb"]);
        let recorded = metadata(serde_json::json!({ "redirect_uris": cb }));
        let mut shown = metadata(serde_json::json!({
            "redirect_uris": cb,
            "grant_types": ["authorization_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
        }));
        as_shown(&recorded, &mut shown);
        assert_eq!(shown, recorded);
        // a wish for something else is one
        let other = serde_json::json!({
            "redirect_uris": cb,
            "grant_types": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_method": "client_secret_post",
        });
        let mut asked = metadata(other.clone());
        as_shown(&recorded, &mut asked);
        assert_eq!(asked, metadata(other.clone()));
        // and what the record says is kept as it is said
        let mut again = metadata(other.clone());
        as_shown(&metadata(other.clone()), &mut again);
        assert_eq!(again, metadata(other));
    }
}
