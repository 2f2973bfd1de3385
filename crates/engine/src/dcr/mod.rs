//! Policy of the standards face (RFC 7591, RFC 7592): who may register where, and who may manage what was registered.

mod choices;
mod discovery;
mod instance;
mod kept;
mod limit;
mod manage;
mod places;
mod root;
mod software;
mod terms;
mod token;
mod unused;

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use registrar_core::{Error, ErrorKind, ExposeSecret as _, Outcome, Result, SecretString};
use registrar_model::{ClientMetadata, Hidden, Issues, NewRegistration};
use registrar_store::InitialAccessToken;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use choices::{MAX_CHOICES, choices};
pub(crate) use discovery::unserved;
pub use discovery::{missing_for_oauth, missing_for_openid, servable};
pub(crate) use kept::Kept;
pub(crate) use limit::Limiter;
pub use limit::{Asker, Rate};
pub(crate) use manage::Renewals;
pub use manage::{After, Holder};
pub(crate) use places::{Place, Places};
pub use software::{Statement, StatementIssuer, StatementKey, statement_of};
pub use terms::{Terms, is_claimable};
pub(crate) use token::refused as no_use_left;
pub use token::{Grant, NewInitialAccessToken, create as create_initial_access_token};
pub(crate) use unused::Retries;
pub use unused::{Expired, Expiry};

use crate::{
    clock::now_ms,
    config::{OnLoss, RouteConfig},
    engine::{Caller, Engine, Failure, NewSecret, Written},
    idempotency::Idempotency,
    keys::hash,
    routing::{self, Rule},
};

/// Who may register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nobody.
    #[default]
    Closed,
    /// Whoever has an initial access token, in the `Authorization` field or as the last segment of the path.
    Token,
    /// Anyone, within the configured rate.
    Open,
}

/// What holders of a registration access token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manage {
    /// `GET`
    pub read: bool,
    /// `PUT`
    pub update: bool,
    /// `DELETE`
    pub delete: bool,
}

/// `[registration]`
#[derive(Clone, Debug)]
pub struct RegistrationConfig {
    /// For routes that do not say.
    pub access: Access,
    /// Whether the endpoint without a route's name is there; by default where exactly one route may register.
    pub root: Option<bool>,
    /// How often one client address may register where it needs no token.
    pub rate: Rate,
    /// How often all together may, a route.
    pub quota: Option<Rate>,
    /// How many clients that registered without a token may live, a route.
    pub max_clients: Option<u64>,
    /// When such a client is deleted if it was never used.
    pub expire_unused: Expiry,
    /// Only these redirect hosts.
    pub redirect_hosts: Option<BTreeSet<String>>,
    /// Refuses application schemes that are not reversed domain names; they are only warned about otherwise.
    pub strict_schemes: bool,
    /// Refuses a second client with the same `software_id` and `software_version` (RFC 7591 §5).
    pub single_instance: bool,
    /// How many proxies of ours append to `X-Forwarded-For`; 0 does not read it.
    pub proxies: usize,
    /// Whether an update issues a new registration access token.
    pub rotate: bool,
    /// How long the one before still works.
    pub rotation_grace: Duration,
    /// What clients may do with their registrations.
    pub manage: Manage,
    /// Whose software statements are believed; nobody's by default.
    pub software_statements: Vec<StatementIssuer>,
}

impl Default for RegistrationConfig {
    fn default() -> Self {
        Self {
            access: Access::Closed,
            root: None,
            rate: Rate { count: 60, period: Duration::from_hours(1) },
            quota: None,
            max_clients: None,
            expire_unused: Expiry::Never,
            redirect_hosts: None,
            strict_schemes: false,
            single_instance: false,
            proxies: 0,
            rotate: false,
            rotation_grace: Duration::from_mins(10),
            manage: Manage { read: true, update: true, delete: true },
            software_statements: Vec::new(),
        }
    }
}

/// The keys of a route that are for the standards face.
#[derive(Debug, Default)]
pub struct RouteRegistration {
    /// Who may register; `[registration]` decides when absent.
    pub access: Option<Access>,
    /// How often one client address may.
    pub rate: Option<Rate>,
    /// How often all together may.
    pub quota: Option<Rate>,
    /// How many clients that registered without a token may live.
    pub max_clients: Option<u64>,
    /// When such a client is deleted if it was never used.
    pub expire_unused: Option<Expiry>,
    /// Only these redirect hosts.
    pub redirect_hosts: Option<BTreeSet<String>>,
    /// Whether one software may have one client only.
    pub single_instance: Option<bool>,
    /// What the metadata must fulfil.
    pub policy: Option<Rule>,
    /// Members of the discovery document, such as the vendor's endpoints.
    pub discovery: Map<String, Value>,
}

/// What the gateway keeps of a client that was registered at the standards face.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The route it was registered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The terms of the initial access token it was registered with; updates meet them too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// SHA-256 of its secret, to compare an update's `client_secret` with (RFC 7592 §2.2), in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The software statement that it was registered or last updated with, unmodified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
}

impl Record {
    /// What is kept of a registration; `None` when it was not registered at the standards face.
    pub(crate) fn of(hidden: &Hidden) -> Option<Self> {
        serde_json::from_value(hidden.dcr.clone()?).ok()
    }

    fn keep(self, hidden: &mut Hidden) {
        hidden.dcr = serde_json::to_value(self).ok();
    }
}

/// Remembers the hash of a secret that was just issued, for clients of the standards face.
pub(crate) fn note_secret(hidden: &mut Hidden, secret: Option<&NewSecret>) {
    if let (Some(record), Some(secret)) = (Record::of(hidden), secret) {
        Record { secret: Some(secret_hash(secret.value.expose_secret())), ..record }.keep(hidden);
    }
}

/// What is kept of a client that was found, now that the answer to its registration has come: a secret that was issued
/// since is newer than the answer's.
pub(crate) fn completed(found: &Hidden, given: &Hidden) -> Option<Value> {
    match (Record::of(found), Record::of(given)) {
        (Some(record @ Record { secret: None, .. }), Some(Record { secret: Some(secret), .. })) => {
            serde_json::to_value(Record { secret: Some(secret), ..record }).ok()
        }
        _ => found.dcr.clone().or_else(|| given.dcr.clone()),
    }
}

fn secret_hash(secret: &str) -> String {
    hash(secret).iter().map(|b| format!("{b:02x}")).collect()
}

/// What a create brings along from the standards face.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// The loss policy of the route that was chosen.
    pub(crate) on_loss: Option<OnLoss>,
    /// The hash of the registration access token.
    pub(crate) access_token: Option<[u8; 32]>,
    /// What is kept.
    pub(crate) record: Option<Record>,
    /// The initial access token to spend, by its id.
    pub(crate) spend: Option<String>,
    /// Let go of when the registration is recorded.
    pub(crate) turn: Option<instance::Turn>,
    /// As [`Hidden::open_route`].
    pub(crate) open_route: Option<String>,
    /// As [`Hidden::unused_until`].
    pub(crate) unused_until: Option<i64>,
    /// Given back when the registration is recorded.
    pub(crate) place: Option<Arc<Place>>,
}

impl CreateOptions {
    /// What the journal keeps.
    pub(crate) fn kept(&self) -> Kept<'_> {
        Kept {
            record: self.record.as_ref().map(Cow::Borrowed),
            spent: self.spend.as_deref().map(Cow::Borrowed),
            open_route: self.open_route.as_deref().map(Cow::Borrowed),
            unused_until: self.unused_until,
        }
    }

    /// What the registration keeps to itself.
    pub(crate) fn hidden(&self, management: Option<Vec<u8>>, secret: Option<&NewSecret>) -> Hidden {
        let mut hidden = Hidden {
            management,
            access_token: self.access_token,
            open_route: self.open_route.clone(),
            unused_until: self.unused_until,
            ..Hidden::default()
        };
        if let Some(record) = &self.record {
            record.clone().keep(&mut hidden);
            note_secret(&mut hidden, secret);
        }
        hidden
    }
}

/// What an update brings along from the standards face.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpdateOptions {
    /// The software statement that vouches for what is asked, if there is one: it takes the place of the one before.
    pub(crate) statement: Option<Option<String>>,
    /// Let go of when the update has ended, whoever still waits for it.
    pub(crate) turn: Option<instance::Turn>,
}

impl UpdateOptions {
    /// What the journal keeps.
    pub(crate) fn kept(&self) -> Kept<'_> {
        let record = |statement: &Option<String>| Record { statement: statement.clone(), ..Record::default() };
        Kept { record: self.statement.as_ref().map(record).map(Cow::Owned), ..Kept::default() }
    }

    /// Puts what is to be kept into the record that the update's result is recorded with: claims and the statement that
    /// they are from are one version, or another change could come between them.
    pub(crate) fn keep(&self, hidden: &mut Hidden) {
        let Some(statement) = &self.statement else { return };
        let record = Record::of(hidden).unwrap_or_default();
        if record.statement != *statement {
            Record { statement: statement.clone(), ..record }.keep(hidden);
        }
    }
}

/// Somebody who was let in to register.
#[derive(Debug)]
pub struct Visitor {
    /// The route that was named.
    route: Option<String>,
    token: Option<InitialAccessToken>,
    asker: Option<Asker>,
}

impl Visitor {
    /// The name for the journal.
    #[must_use]
    pub fn principal(&self) -> String {
        match (&self.token, &self.asker) {
            (Some(token), _) => format!("iat:{}", token.id),
            (None, Some(asker)) => format!("open:{asker}"),
            (None, None) => "open".to_owned(),
        }
    }
}

/// A client as just registered at the standards face.
#[derive(Debug)]
pub struct Registered {
    /// The client.
    pub written: Written,
    /// Its registration access token.
    pub access_token: SecretString,
}

/// Where a registration goes and under which conditions.
struct Door {
    access: Access,
    rate: Rate,
    quota: Option<Rate>,
    max_clients: Option<u64>,
    expire_unused: Expiry,
}

impl Engine {
    fn door(&self, route: Option<&RouteConfig>) -> Door {
        let defaults = &self.options.registration;
        let own = route.map(|r| &r.registration);
        Door {
            access: own.and_then(|r| r.access).unwrap_or(defaults.access),
            rate: own.and_then(|r| r.rate).unwrap_or(defaults.rate),
            quota: own.and_then(|r| r.quota).or(defaults.quota),
            max_clients: own.and_then(|r| r.max_clients).or(defaults.max_clients),
            expire_unused: own.and_then(|r| r.expire_unused).unwrap_or(defaults.expire_unused),
        }
    }

    /// Lets somebody in, before the body is looked at.
    ///
    /// # Errors
    /// [`ErrorKind::Forbidden`] where registration is closed, [`ErrorKind::Unauthenticated`],
    /// [`ErrorKind::InvalidToken`].
    pub async fn visitor(&self, route: Option<&str>, token: Option<&str>, asker: Option<Asker>) -> Result<Visitor> {
        // where there is no such route, nothing is open either
        let access = self.access(route).unwrap_or_default();
        if access == Access::Closed {
            return Err(closed());
        }
        let token = match token {
            Some(token) => Some(token::verify(self.store.as_ref(), token).await?),
            None if access == Access::Open => None,
            None => return Err(unauthenticated()),
        };
        Ok(Visitor { route: route.map(str::to_owned), token, asker })
    }

    /// Registers a client (RFC 7591 §3.1). `statement` is what [`Self::take_statement`] took out of the request.
    ///
    /// # Errors
    /// As [`Self::create`]; and what [`Self::visitor`] says, where the route was not known before.
    pub async fn register(
        self: &Arc<Self>,
        visitor: &Visitor,
        caller: &Caller,
        mut request: NewRegistration,
        statement: Option<String>,
    ) -> Result<Registered, Failure> {
        let (mut options, max_clients) = self.open(visitor, &mut request)?;
        // unknown members are ignored here (RFC 7591 §2), not reported
        request.unknown.clear();
        if let Some(record) = &mut options.record {
            record.statement = statement;
        }
        let route = options.record.as_ref().and_then(|r| r.route.as_deref());
        // a repetition of a request that was served is no second instance
        if self.is_single(route) && self.earlier(caller).await?.is_none() {
            options.turn = match self.only_instance(&request.spec.metadata, None).await {
                // nor is one of a request that was served while this one waited for its turn
                Err(_) if self.earlier(caller).await?.is_some() => None,
                turn => turn?,
            };
        }
        options.place = self.place_for(caller, options.open_route.as_deref(), max_clients).await?;
        let (access_token, stored) = token::new_access_token()?;
        let record = options.record.clone();
        let options = CreateOptions { access_token: Some(stored), ..options };
        let written = self.create_with(caller, request, options).await?;
        if !written.replayed {
            return Ok(Registered { written, access_token });
        }
        // whoever shares an address with a client, or seems to, must not get its secret and token by guessing its key
        let is_known = visitor.token.is_some() || caller.idempotency.as_ref().is_some_and(Idempotency::is_unguessable);
        if !is_known {
            let detail = "a client was registered with this Idempotency-Key; its secret and its token are repeated for a key \
                          of 128 random bits only, such as a UUID of version 4. Register again with such a key";
            let error = Error::new(ErrorKind::IdempotencyKeyReused, detail).with_outcome(Outcome::Performed);
            return Err(Failure { error, operation: Some(written.operation) });
        }
        if unused::has_expired(&written.registration, now_ms()) {
            // as of one that is deleted already
            let detail = "the client that the first request with this key registered was never used, and has expired";
            let error = Error::new(ErrorKind::NotFound, detail).with_outcome(Outcome::Performed);
            return Err(Failure { error, operation: Some(written.operation) });
        }
        // the first answer was lost, and its token with it
        let renewed = self.reissue(caller, written.registration.id, record).await?;
        let access_token = renewed.ok_or_else(|| Failure {
            error: Error::new(ErrorKind::StoreUnavailable, "a change of this client is not recorded yet; ask again")
                .with_outcome(Outcome::Performed),
            operation: Some(written.operation),
        })?;
        Ok(Registered { written, access_token })
    }

    /// Chooses the route and holds the request against everything that it demands; also how many clients it may have.
    fn open(&self, visitor: &Visitor, request: &mut NewRegistration) -> Result<(CreateOptions, Option<u64>)> {
        // what no choice can mend is not counted as a registration
        if !choices::are_offered(&request.unknown) {
            request.validate().map_err(Error::validation)?;
        }
        let runtime = self.runtime.load();
        let name = match &visitor.route {
            Some(name) => Some(name.clone()),
            None => routing::evaluate(&runtime.routes, request).route,
        };
        let Some(route) = runtime.routes.iter().find(|r| Some(&r.name) == name.as_ref()) else {
            let detail = "no route matches this client; the operator decides what is registered where";
            return Err(Error::new(ErrorKind::NoRoute, detail));
        };
        let door = self.door(Some(route));
        let terms: Option<Terms> = match (&visitor.token, door.access) {
            (_, Access::Closed) => return Err(closed()),
            (None, Access::Token) => return Err(unauthenticated()),
            (None, Access::Open) => {
                let now = Instant::now();
                self.limiter.take(Some(&route.name), visitor.asker.as_ref(), door.rate, now)?;
                if let Some(quota) = door.quota {
                    self.limiter.take(Some(&route.name), None, quota, now)?;
                }
                None
            }
            // terms that cannot be read allow nothing
            (Some(token), _) => Some(serde_json::from_value(token.terms.clone()).map_err(|_| token::refused())?),
        };
        if terms.as_ref().and_then(|t| t.routes.as_ref()).is_some_and(|routes| !routes.contains(&route.name)) {
            let detail = "the initial access token is not for this route";
            return Err(Error::new(ErrorKind::Forbidden, detail));
        }
        let backend = runtime.backend(&route.backend)?;
        choices::resolve(backend.adapter.as_ref(), request, None)?;
        self.demand(Some(route), terms.as_ref(), &mut request.spec.metadata)?;
        request.backend = Some(route.backend.clone());
        let is_open = visitor.token.is_none();
        let options = CreateOptions {
            on_loss: route.on_loss,
            access_token: None,
            record: Some(Record { route: Some(route.name.clone()), terms, ..Record::default() }),
            spend: visitor.token.as_ref().map(|t| t.id.clone()),
            turn: None,
            open_route: is_open.then(|| route.name.clone()),
            unused_until: is_open.then(|| door.expire_unused.from(now_ms())).flatten(),
            place: None,
        };
        Ok((options, door.max_clients))
    }

    /// Whether a route takes one client of a software only.
    fn is_single(&self, route: Option<&str>) -> bool {
        let runtime = self.runtime.load();
        let own = runtime.routes.iter().find(|r| Some(r.name.as_str()) == route);
        own.and_then(|r| r.registration.single_instance).unwrap_or(self.options.registration.single_instance)
    }

    /// Holds metadata, of a create and of an update alike, against the terms and the policy in force.
    fn demand(&self, route: Option<&RouteConfig>, terms: Option<&Terms>, metadata: &mut ClientMetadata) -> Result<()> {
        let mut issues = Issues::new();
        let own = route.and_then(|r| r.registration.redirect_hosts.as_ref());
        let redirect_hosts = own.or(self.options.registration.redirect_hosts.as_ref()).cloned();
        Terms { redirect_hosts, ..Terms::default() }.apply(metadata, &mut issues);
        if let Some(terms) = terms {
            terms.apply(metadata, &mut issues);
        }
        terms::refuse_long_lists(metadata, &mut issues);
        if self.options.registration.strict_schemes {
            terms::refuse_claimable(metadata, &mut issues);
        }
        issues.into_result(()).map_err(Error::validation)?;
        match route.and_then(|r| r.registration.policy.as_ref().map(|p| (&r.name, p))) {
            Some((name, policy)) => terms::check_policy(name, policy, metadata),
            None => Ok(()),
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Forbidden, "registration is closed here; the operator of this gateway can open it")
        .with_advice("open it with `access` in [registration] or `registration` of a route: \"token\" or \"open\"")
}

fn unauthenticated() -> Error {
    let detail =
        "registration needs an initial access token: Authorization: Bearer iat_...; the operator gives them out";
    Error::new(ErrorKind::Unauthenticated, detail)
}
