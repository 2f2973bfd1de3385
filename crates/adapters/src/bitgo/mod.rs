#![doc = include_str!("docs.md")]

#[cfg(feature = "fakes")]
pub mod fake;
mod map;
mod wire;

use std::{mem, sync::Arc};

use async_trait::async_trait;
use http::Method;
use registrar_core::{
    Adapter, Blueprint, Credential, DeleteModel, Descriptor, Effect, Error, ErrorKind, Http, IdempotencyClass, Limits,
    OpSupport, Ops, Outcome, PlannedRequest, Request, Response, Result, SecretModel, Settings, Support, Target,
    UpdateStyle, Vendor, VendorClient, VendorDetail, Verified, endpoint,
};
use registrar_model::{ClientSpec, Issues, Mapped, Scope};
use serde_json::{Value, json};
use url::Url;

use crate::shared::{self, answer::Members, refusal};

const KIND: &str = "bitgo";

/// The scopes that the vendor page lists; it grew twice in a few months, so `scopes` can replace it (trap 15).
const SCOPES: [&str; 33] = [
    "openid",
    "openid_enterprises",
    "profile",
    "user_manage",
    "wallet_create",
    "private_verify_email",
    "all",
    "wallet_view_enterprise",
    "wallet_edit_enterprise",
    "wallet_spend_enterprise",
    "wallet_approve_enterprise",
    "wallet_manage_enterprise",
    "wallet_view",
    "wallet_edit",
    "wallet_freeze",
    "wallet_spend",
    "wallet_approve",
    "wallet_manage",
    "wallet_stake",
    "wallet_trade",
    "wallet_view_all",
    "wallet_edit_all",
    "wallet_freeze_all",
    "wallet_spend_all",
    "wallet_approve_all",
    "wallet_manage_all",
    "wallet_stake_all",
    "enterprise_view_all",
    "enterprise_manage_all",
    "auditlogs_view_all",
    "trade_view",
    "trade_fix",
    "scim",
];

static DESCRIPTOR: Descriptor = Descriptor {
    kind: KIND,
    title: "BitGo",
    source: "vendor page 002; public reference for get and update",
    verified: Verified::Documented,
    operations: Ops {
        create: OpSupport::Native,
        read: OpSupport::Native,
        list: OpSupport::Unsupported,
        update: OpSupport::Native,
        disable: OpSupport::Native,
        delete: OpSupport::Unsupported,
        rotate_secret: OpSupport::Unsupported,
    },
    held: &[
        ("metadata.redirect_uris", Support::Partial("at least one")),
        ("metadata.token_endpoint_auth_method", Support::Partial("always a shared secret; no public clients")),
        ("metadata.grant_types", Support::Partial("always authorization_code and refresh_token")),
        ("metadata.response_types", Support::Partial("always code")),
        ("metadata.scope", Support::Partial("at least one, from BitGo's enumeration")),
        ("policy.enabled", Support::Full),
        ("policy.redirect_domains", Support::Full),
        ("policy.tenant", Support::Partial("the enterprise")),
        ("policy.organizations", Support::Full),
    ],
    vendor_members: &[
        ("clientIdPrefix", "prefix of the generated client id; on creation only"),
        ("clientType", "dApp or scim; not confidential or public"),
    ],
    settings: &[
        ("base_url", "where the API is, e.g. https://app.bitgo.com"),
        ("token", "bearer token of an administrator: env:NAME or file:PATH"),
        ("scopes", "the scopes that BitGo knows; default: those of its page"),
        ("scope_map", "table from scope to BitGo scope; \"\" leaves the scope out and reports it"),
        ("default_scopes", "scopes for registrations that ask for none; default [\"openid\"]"),
        ("scope_wire", "array (default) or string"),
    ],
    limits: Limits { name_max: None, redirect_uris_min: 1, scopes_min: 1, requests_per_second: Some(6) },
    update_style: UpdateStyle::Merge,
    secret: SecretModel::ReadableAtVendor,
    idempotency: IdempotencyClass::D,
    delete: DeleteModel::DisableOnly,
};

/// The kind's entry in the list.
pub(crate) const VENDOR: Vendor = Vendor { descriptor: &DESCRIPTOR, configure };

#[derive(Debug)]
struct Config {
    /// Where clients are made.
    collection: Url,
    scopes: Vec<String>,
    scope_map: Vec<(String, String)>,
    default_scopes: Vec<String>,
    scope_as_text: bool,
}

impl Config {
    fn scope_value(&self, scopes: &[String]) -> Value {
        if self.scope_as_text { json!(scopes.join(" ")) } else { json!(scopes) }
    }
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let collection = shared::collection(settings, base_url.as_ref(), &["api", "v2", "admin", "oauth", "client"]);
    let token = settings.secret("token");
    let scopes = settings.texts("scopes").unwrap_or_else(|| SCOPES.map(str::to_owned).to_vec());
    let scope_map = settings.table("scope_map").unwrap_or_default();
    let default_scopes = settings.texts("default_scopes").unwrap_or_else(|| vec!["openid".to_owned()]);
    let scope_as_text = settings.choice("scope_wire", &["array", "string"]) == "string";
    if Scope::from_tokens(&scopes).is_none() {
        // one with a space would be two on the wire
        settings.reject("scopes", "must be scope tokens (RFC 6749 §3.3), one an entry", None);
    }
    if default_scopes.is_empty() || default_scopes.iter().any(|s| !scopes.contains(s)) {
        settings.reject("default_scopes", "must name at least one scope, and only scopes that BitGo knows", None);
    }
    for (from, to) in &scope_map {
        // powers, not wildcards: mapping into them would widen without anyone asking (trap 14)
        if to == "all" || to.ends_with("_all") {
            settings.reject("scope_map", format!("`{from}` must not be mapped to `{to}`: it grants everything"), None);
        } else if !to.is_empty() && !scopes.contains(to) {
            settings.reject("scope_map", format!("`{to}` is not a scope that BitGo knows"), None);
        }
    }
    if settings.has_issues() {
        return None;
    }
    let config = Config { collection: collection?, scopes, scope_map, default_scopes, scope_as_text };
    Some(Blueprint {
        base_url: base_url?,
        credential: Credential::Bearer(token?),
        build: Box::new(move |http| Arc::new(BitGo { config, http })),
    })
}

#[derive(Debug)]
struct BitGo {
    config: Config,
    http: Arc<dyn Http>,
}

impl BitGo {
    fn collection(&self) -> Url {
        self.config.collection.clone()
    }

    fn item(&self, id: &str) -> Result<Url> {
        endpoint(&self.config.collection, &[id], &[])
    }

    fn create_request(&self, desired: &ClientSpec) -> Result<Mapped<Request>> {
        let (wire, losses) = map::to_wire(desired, None, &self.config)?;
        let body = wire.into_create(&self.config);
        Ok(losses.with(shared::write(Method::POST, self.collection(), Effect::Once, "create", &body)?))
    }

    /// `None` when nothing changes.
    fn update_request(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Option<Request>>> {
        map::keep_prefix(&target.client_id, current, desired)?;
        let (wire, losses) = map::to_wire(desired, Some(current), &self.config)?;
        let put = map::current(current).put_to(&wire, &self.config);
        if put.is_empty() {
            return Ok(losses.with(None));
        }
        let url = self.item(&target.vendor_ref)?;
        Ok(losses.with(Some(shared::write(Method::PUT, url, Effect::Idempotent, "update", &put)?)))
    }

    async fn send(&self, request: Request) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(map::error(&response));
        }
        // 200 on creation too (trap 2); 202 is not done yet (trap 16)
        shared::expect(&response, &[200]).map_err(|error| naming(error, &response))?;
        Ok(response)
    }

    /// The client in an answer, without its secret, which comes beside it.
    fn client(response: &Response) -> Result<(VendorClient, Option<String>)> {
        let mut client = wire::Client::read(Members::of(response)?);
        let secret = client.client_secret.take();
        let shown = VendorClient {
            client_id: shared::client_id(&client.client_id, response)?,
            vendor_ref: mem::take(&mut client.client_id),
            client_id_issued_at: None,
            unread: mem::take(&mut client.unread),
            spec: map::from_wire(client),
            secret: None,
            management: None,
        };
        Ok((shown, secret))
    }

    async fn existing(&self, target: &Target, request: Request) -> Result<VendorClient> {
        let response = self.send(request).await?;
        let (client, _) = Self::client(&response)?;
        if client.client_id == target.client_id { Ok(client) } else { Err(shared::other_client(&response)) }
    }
}

#[async_trait]
impl Adapter for BitGo {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues) {
        map::validate(&spec.vendor_members(KIND), issues);
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
        _desired: &ClientSpec,
        plan: Mapped<Vec<PlannedRequest>>,
    ) -> Result<Mapped<VendorClient>> {
        let (request, mut losses) = shared::creation(plan)?;
        let response = self.send(request).await?;
        let (mut created, secret) = Self::client(&response).map_err(|error| naming(error, &response))?;
        // optional in the documented answer
        let method = created.spec.metadata.auth_method();
        created.secret = shared::fitting_secret(&method, secret.map(shared::lasting_secret), &mut losses);
        Ok(Mapped { value: created, losses })
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let request = Request::new(Method::GET, self.item(&target.vendor_ref)?, Effect::Read, "read");
        self.existing(target, request).await
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
        let url = self.item(&target.vendor_ref)?;
        let request = shared::write(Method::PUT, url, Effect::Idempotent, "disable", &json!({ "isActive": enabled }))?;
        let client = self.existing(target, request).await?;
        if client.spec.policy.enabled == Some(enabled) {
            return Ok(client);
        }
        Err(Error::new(ErrorKind::UpstreamRejected, "BitGo answered with success but did not switch the client")
            .with_outcome(Outcome::NotPerformed))
    }

    /// There is no list: reading a client that cannot exist shows whether the vendor and the token work.
    async fn check(&self) -> Result<()> {
        let request = Request::new(Method::GET, self.item("registrar-check")?, Effect::Read, "check");
        // a 404 of anybody else says that `base_url` leads elsewhere
        match self.send(request).await {
            Ok(_) => Ok(()),
            // no such client, and not no such address
            Err(error) if error.vendor().is_some_and(names_a_client) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The error with the client that the answer names.
fn naming(error: Error, response: &Response) -> Error {
    refusal::with_client(error, response, map::SHAPE.ids)
}

/// Whether a 404 is about a client: BitGo says so in the error's name or sentence.
fn names_a_client(vendor: &VendorDetail) -> bool {
    let mut texts = vendor.code.iter().chain(&vendor.message);
    vendor.status == Some(404) && texts.any(|text| text.to_ascii_lowercase().contains("client"))
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]
mod tests;
