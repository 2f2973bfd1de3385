#![doc = include_str!("docs.md")]

#[cfg(feature = "fakes")]
pub mod fake;
mod map;
mod wire;

use std::{mem, sync::Arc};

use async_trait::async_trait;
use http::Method;
use registrar_core::{
    Adapter, Blueprint, Credential, DeleteModel, Descriptor, Effect, Error, ErrorKind, Http, IdempotencyClass,
    IssuedSecret, Limits, OpSupport, Ops, Outcome, Page, PageToken, PlannedRequest, Request, Response, Result,
    SecretModel, Settings, Support, Target, UpdateStyle, Vendor, VendorClient, Verified, endpoint,
};
use registrar_model::{AuthMethod, ClientSpec, Issues, Mapped};
use serde_json::{Value, json};
use url::Url;

use crate::shared::{self, answer::Members, refusal};

const KIND: &str = "authms";

/// Clients a page.
const PAGE_SIZE: &str = "100";
/// Pages at the most: a listing that does not end is an error.
const MAX_PAGES: u64 = 10_000;
/// "Still verifiable for 4 hours", although the same sentence says invalidated at once.
const ROTATION_GRACE_SECONDS: i64 = 4 * 60 * 60;

static DESCRIPTOR: Descriptor = Descriptor {
    kind: KIND,
    title: "authms (Autional)",
    source: "vendor page 003; public Swagger specification for the other calls",
    verified: Verified::Documented,
    operations: Ops {
        create: OpSupport::Native,
        read: OpSupport::Native,
        list: OpSupport::Native,
        update: OpSupport::Native,
        disable: OpSupport::Native,
        delete: OpSupport::Native,
        rotate_secret: OpSupport::Native,
    },
    held: &[
        ("metadata.redirect_uris", Support::Partial("at least one")),
        ("metadata.token_endpoint_auth_method", Support::Full),
        (
            "metadata.grant_types",
            Support::Partial("authorization_code, refresh_token, client_credentials, implicit, device_code"),
        ),
        ("metadata.response_types", Support::Partial("follow from the grants")),
        ("metadata.client_name", Support::Full),
        ("metadata.client_uri", Support::Full),
        ("metadata.logo_uri", Support::Full),
        ("metadata.scope", Support::Full),
        ("metadata.tos_uri", Support::Full),
        ("metadata.policy_uri", Support::Full),
        ("metadata.jwks_uri", Support::Full),
        ("metadata.jwks", Support::Partial("held, but never shown again")),
        ("policy.enabled", Support::Partial("only on update; every new client is active")),
        ("policy.allowed_cors_origins", Support::Partial("read only")),
        ("policy.security_profile", Support::Partial("the documented value is fapi1")),
    ],
    vendor_members: &[
        ("client_auth_methods", "several authentication methods; must contain token_endpoint_auth_method"),
        ("status", "active, suspended or inactive; on update only"),
    ],
    settings: &[
        ("base_url", "where the gateway of the platform is"),
        ("token", "bearer token of an administrator: env:NAME or file:PATH"),
        ("path_prefix", "between base_url and /admin/oauth/clients; default /api/v1"),
        ("success_codes", "codes of the envelope that mean success; default [0]"),
        ("clear_with", "how a text is removed by an update: empty (default) or null"),
    ],
    limits: Limits { name_max: None, redirect_uris_min: 1, scopes_min: 0, requests_per_second: None },
    update_style: UpdateStyle::Merge,
    secret: SecretModel::ShownOnce,
    idempotency: IdempotencyClass::C,
    delete: DeleteModel::Soft,
};

/// The kind's entry in the list.
pub(crate) const VENDOR: Vendor = Vendor { descriptor: &DESCRIPTOR, configure };

#[derive(Debug)]
struct Config {
    /// Where clients are made and listed.
    collection: Url,
    success_codes: Vec<i64>,
    cleared: Value,
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let token = settings.secret("token");
    let prefix = if settings.has("path_prefix") {
        settings.text("path_prefix").unwrap_or_default()
    } else {
        "/api/v1".to_owned()
    };
    let word = |s: &&str| {
        (1..=255).contains(&s.len())
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~'))
            && *s != "."
            && *s != ".."
    };
    let mut segments: Vec<&str> = prefix.trim_matches('/').split('/').filter(|s| !s.is_empty()).collect();
    let collection = if segments.iter().all(word) {
        segments.extend(["admin", "oauth", "clients"]);
        shared::collection(settings, base_url.as_ref(), &segments)
    } else {
        settings.reject("path_prefix", "must be a plain path such as \"/api/v1\"", None);
        None
    };
    let success_codes = settings.integers("success_codes").unwrap_or_else(|| vec![0]);
    let cleared = if settings.choice("clear_with", &["empty", "null"]) == "null" { Value::Null } else { json!("") };
    if settings.has_issues() {
        return None;
    }
    let config = Config { collection: collection?, success_codes, cleared };
    Some(Blueprint {
        base_url: base_url?,
        credential: Credential::Bearer(token?),
        build: Box::new(move |http| Arc::new(Authms { config, http })),
    })
}

#[derive(Debug)]
struct Authms {
    config: Config,
    http: Arc<dyn Http>,
}

impl Authms {
    fn collection(&self) -> Url {
        self.config.collection.clone()
    }

    fn page(&self, query: &[(&str, &str)]) -> Result<Url> {
        endpoint(&self.config.collection, &[], query)
    }

    fn item(&self, target: &Target, rest: &[&str]) -> Result<Url> {
        let mut segments = vec![target.vendor_ref.as_str()];
        segments.extend_from_slice(rest);
        endpoint(&self.config.collection, &segments, &[])
    }

    fn create_request(&self, desired: &ClientSpec) -> Result<Mapped<Request>> {
        let (wire, losses) = map::to_wire(desired, None)?;
        let request = shared::write(Method::POST, self.collection(), Effect::Once, "create", &wire.into_create())?;
        Ok(losses.with(request))
    }

    /// `None` when nothing changes.
    fn update_request(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Option<Request>>> {
        let (wire, losses) = map::to_wire(desired, Some(current))?;
        let put = map::current(current).put_to(&wire, &self.config);
        if put.is_empty() {
            return Ok(losses.with(None));
        }
        let url = self.item(target, &[])?;
        Ok(losses.with(Some(shared::write(Method::PUT, url, Effect::Idempotent, "update", &put)?)))
    }

    async fn send(&self, request: Request, statuses: &[u16]) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(map::error(&response));
        }
        shared::expect(&response, statuses).map_err(|error| naming(error, &response))?;
        map::envelope(&response, &self.config)?;
        Ok(response)
    }

    /// `method` is the one in force where authms does not say it.
    fn client(mut client: wire::Client, method: Option<AuthMethod>, response: &Response) -> Result<VendorClient> {
        Ok(VendorClient {
            client_id: shared::client_id(&client.client_id, response)?,
            vendor_ref: mem::take(&mut client.client_id),
            client_id_issued_at: client.created_at,
            unread: mem::take(&mut client.unread),
            spec: map::from_wire(client, method),
            secret: None,
            management: None,
        })
    }

    /// `{code, data, message}`; some answers add `timestamp` (trap 2).
    fn data(response: &Response) -> Result<Members> {
        let data = Members::of(response)?.inner("data", "client_id");
        data.ok_or_else(|| response.malformed("member `data` is missing or no object"))
    }

    async fn existing(&self, target: &Target, request: Request) -> Result<VendorClient> {
        let response = self.send(request, &[200]).await?;
        let data = wire::Client::read(Self::data(&response)?);
        let client = Self::client(data, target.auth_method.clone(), &response)?;
        if client.client_id == target.client_id { Ok(client) } else { Err(shared::other_client(&response)) }
    }
}

#[async_trait]
impl Adapter for Authms {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues) {
        map::validate(spec, issues);
    }

    fn preview(&self, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.create_request(desired)?.map(|r| vec![shared::planned(r)]))
    }

    fn preview_update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.update_request(target, current, desired)?.map(|r| r.into_iter().map(shared::planned).collect()))
    }

    async fn create_as_planned(
        &self,
        desired: &ClientSpec,
        plan: Mapped<Vec<PlannedRequest>>,
    ) -> Result<Mapped<VendorClient>> {
        let (request, mut losses) = shared::creation(plan)?;
        let response = self.send(request, &[201, 200]).await?;
        let created = Self::data(&response).and_then(|data| {
            let mut data = wire::Client::read(data);
            let (keys, secret) = (data.jwks.take(), data.client_secret.take());
            let method = shared::silent_method(&desired.metadata, secret.is_some());
            Ok((Self::client(data, method, &response)?, keys, secret))
        });
        let (mut created, keys, secret) = created.map_err(|error| naming(error, &response))?;
        if !map::same_keys(&desired.metadata, keys.as_ref()) {
            map::other_keys(&mut losses);
        }
        let method = created.spec.metadata.auth_method();
        created.secret = match secret.map(shared::lasting_secret) {
            // the page promises a secret in every answer; a public client has no use for it (trap 24)
            Some(_) if method == AuthMethod::None => None,
            secret => shared::fitting_secret(&method, secret, &mut losses),
        };
        Ok(Mapped { value: created, losses })
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let request = Request::new(Method::GET, self.item(target, &[])?, Effect::Read, "read");
        self.existing(target, request).await
    }

    async fn list(&self, page: Option<PageToken>) -> Result<Page> {
        let page = page.map_or_else(|| "1".to_owned(), |p| p.0);
        let url = self.page(&[("page", &page), ("page_size", PAGE_SIZE)])?;
        let response = self.send(Request::new(Method::GET, url, Effect::Read, "list"), &[200]).await?;
        let listed = wire::Listed::read(Members::of(&response)?);
        let unlisted = || response.malformed("member `items` is no list of objects, or `pagination` cannot be read");
        let wire::Listed { items, page: shown, has_next } = listed.ok_or_else(unlisted)?;
        let number: u64 = page.parse().unwrap_or(1);
        if shown != number || number >= MAX_PAGES {
            return Err(response.malformed("it is another page than the one asked for, or the list does not end"));
        }
        // trap 45: an empty page ends the list, whatever the counters say
        let next = (has_next && !items.is_empty()).then(|| PageToken((number + 1).to_string()));
        let live = items.into_iter().filter(|client| !client.is_deleted);
        let items = live.map(|client| Self::client(client, None, &response)).collect::<Result<Vec<_>>>()?;
        Ok(Page { items, next })
    }

    async fn update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<VendorClient>> {
        let Mapped { value: request, losses } = self.update_request(target, current, desired)?;
        let value = match request {
            Some(request) => self.existing(target, request).await?,
            None => self.read(target).await?,
        };
        Ok(Mapped { value, losses })
    }

    async fn set_enabled(&self, target: &Target, enabled: bool) -> Result<VendorClient> {
        let status = if enabled { "active" } else { "inactive" };
        let url = self.item(target, &[])?;
        let request = shared::write(Method::PUT, url, Effect::Idempotent, "disable", &json!({ "status": status }))?;
        let client = self.existing(target, request).await?;
        if client.spec.policy.enabled == Some(enabled) {
            return Ok(client);
        }
        Err(Error::new(ErrorKind::UpstreamRejected, "authms answered with success but did not switch the client")
            .with_outcome(Outcome::NotPerformed))
    }

    async fn delete(&self, target: &Target) -> Result<()> {
        let request = Request::new(Method::DELETE, self.item(target, &[])?, Effect::Idempotent, "delete");
        // 204 without a body and nothing else (trap 2): a 200 may come from something in front of it
        self.send(request, &[204]).await.map(|_| ())
    }

    async fn rotate_secret(&self, target: &Target) -> Result<IssuedSecret> {
        let url = self.item(target, &["rotate-secret"])?;
        let response = self.send(Request::new(Method::POST, url, Effect::Once, "rotate"), &[200]).await?;
        let data = wire::Rotated::read(Self::data(&response)?);
        if data.client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        let secret = data.new_secret.ok_or_else(|| shared::no_secret(&response, "it holds no new secret"))?;
        let previous_valid_until = data.rotated_at.map(|at| at + ROTATION_GRACE_SECONDS);
        Ok(IssuedSecret { previous_valid_until, ..shared::lasting_secret(secret) })
    }

    async fn check(&self) -> Result<()> {
        let url = self.page(&[("page", "1"), ("page_size", "1")])?;
        self.send(Request::new(Method::GET, url, Effect::Read, "check"), &[200]).await.map(|_| ())
    }
}

/// The error with the client that the answer names.
fn naming(error: Error, response: &Response) -> Error {
    refusal::with_client(error, response, map::SHAPE.ids)
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests;
