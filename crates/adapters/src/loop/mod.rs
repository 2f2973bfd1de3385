#![doc = include_str!("docs.md")]

#[cfg(feature = "fakes")]
pub mod fake;
mod map;
mod wire;

use std::{mem, sync::Arc};

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use registrar_core::{
    Adapter, Blueprint, Credential, DeleteModel, Descriptor, Effect, Error, ErrorKind, Http, IdempotencyClass,
    IssuedSecret, Limits, OpSupport, Ops, Outcome, Page, PageToken, PlannedRequest, Request, Response, Result,
    SecretModel, Settings, Support, Target, UpdateStyle, Vendor, VendorClient, Verified, endpoint,
};
use registrar_model::{AuthMethod, ClientSpec, Issues, Mapped};
use url::Url;

use crate::shared::{self, answer::Members, refusal};

const KIND: &str = "loop";

/// The old secret works this long after a rotation ("Old secret valid for 24h").
const ROTATION_GRACE_SECONDS: i64 = 24 * 60 * 60;

static DESCRIPTOR: Descriptor = Descriptor {
    kind: KIND,
    title: "Loop Health identity",
    source: "vendor pages 000 and 001; public reference for list and rotate-secret",
    verified: Verified::Documented,
    operations: Ops {
        create: OpSupport::Native,
        read: OpSupport::Emulated,
        list: OpSupport::Native,
        update: OpSupport::Native,
        disable: OpSupport::Native,
        delete: OpSupport::Unsupported,
        rotate_secret: OpSupport::Native,
    },
    held: &[
        ("metadata.redirect_uris", Support::Partial("at least one; no query string or fragment")),
        ("metadata.token_endpoint_auth_method", Support::Partial("only confidential or public; fixed on creation")),
        ("metadata.grant_types", Support::Partial("always authorization_code and refresh_token")),
        ("metadata.response_types", Support::Partial("always code")),
        ("metadata.client_name", Support::Full),
        ("metadata.client_uri", Support::Full),
        ("metadata.logo_uri", Support::Full),
        ("metadata.scope", Support::Partial("at least one scope")),
        ("policy.enabled", Support::Partial("only on update; every new client is enabled")),
        ("policy.allowed_cors_origins", Support::Full),
        ("policy.owner", Support::Partial("read only")),
        ("policy.tenant", Support::Partial("read only (brand_id)")),
        ("policy.first_party", Support::Partial("read only")),
    ],
    vendor_members: &[],
    settings: &[
        ("base_url", "where the identity service is"),
        ("token", "bearer token of an administrator: env:NAME or file:PATH"),
        ("path_id", "what paths address a client by: client_id (default) or id"),
        ("default_scopes", "scopes for registrations that ask for none; default [\"openid\"]"),
        ("confidential_auth_method", "how confidential clients authenticate; default client_secret_post"),
    ],
    limits: Limits { name_max: Some(255), redirect_uris_min: 1, scopes_min: 1, requests_per_second: None },
    update_style: UpdateStyle::Merge,
    secret: SecretModel::ShownOnce,
    idempotency: IdempotencyClass::C,
    delete: DeleteModel::DisableOnly,
};

/// The kind's entry in the list.
pub(crate) const VENDOR: Vendor = Vendor { descriptor: &DESCRIPTOR, configure };

#[derive(Debug)]
struct Config {
    /// Where clients are made and listed.
    collection: Url,
    path_id: PathId,
    default_scopes: Vec<String>,
    confidential_auth_method: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathId {
    ClientId,
    Id,
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let collection = shared::collection(settings, base_url.as_ref(), &["v1", "admin", "oauth-clients"]);
    let token = settings.secret("token");
    let path_id = match settings.choice("path_id", &["client_id", "id"]) {
        "id" => PathId::Id,
        _ => PathId::ClientId,
    };
    let default_scopes = settings.texts("default_scopes").unwrap_or_else(|| vec!["openid".to_owned()]);
    if default_scopes.is_empty() {
        settings.reject("default_scopes", "must name at least one scope", None);
    }
    let confidential_auth_method =
        settings.choice("confidential_auth_method", &["client_secret_post", "client_secret_basic"]).to_owned();
    if settings.has_issues() {
        return None;
    }
    let config = Config { collection: collection?, path_id, default_scopes, confidential_auth_method };
    Some(Blueprint {
        base_url: base_url?,
        credential: Credential::Bearer(token?),
        build: Box::new(move |http| Arc::new(Loop { config, http })),
    })
}

#[derive(Debug)]
struct Loop {
    config: Config,
    http: Arc<dyn Http>,
}

impl Loop {
    fn collection(&self) -> Url {
        self.config.collection.clone()
    }

    fn item(&self, target: &Target, rest: &[&str]) -> Result<Url> {
        let mut segments = vec![target.vendor_ref.as_str()];
        segments.extend_from_slice(rest);
        endpoint(&self.config.collection, &segments, &[])
    }

    fn create_request(&self, desired: &ClientSpec) -> Result<Mapped<Request>> {
        let (wire, losses) = map::to_wire(desired, None, &self.config)?;
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
        if current.metadata.is_public() != desired.metadata.is_public() {
            let detail = "Loop cannot turn a public client into a confidential one or back; register a new client";
            return Err(shared::unsupported_member("metadata", "token_endpoint_auth_method", detail));
        }
        let (wire, losses) = map::to_wire(desired, Some(current), &self.config)?;
        let patch = map::current(current).patch_to(&wire);
        if patch.is_empty() {
            return Ok(losses.with(None));
        }
        let url = self.item(target, &[])?;
        Ok(losses.with(Some(shared::write(Method::PATCH, url, Effect::Idempotent, "update", &patch)?)))
    }

    /// `method` is the one in force where Loop does not say it.
    fn client(
        &self,
        mut client: wire::Client,
        method: Option<AuthMethod>,
        response: &Response,
    ) -> Result<VendorClient> {
        let client_id = shared::client_id(&client.client_id, response)?;
        let by_id = client.id.take().filter(|_| self.config.path_id == PathId::Id);
        Ok(VendorClient {
            client_id,
            vendor_ref: by_id.unwrap_or_else(|| mem::take(&mut client.client_id)),
            client_id_issued_at: client.created_at,
            unread: mem::take(&mut client.unread),
            spec: map::from_wire(client, &self.config, method),
            secret: None,
            management: None,
        })
    }

    fn written(response: &Response) -> Result<(wire::Client, Option<String>)> {
        let written = wire::written(Members::of(response)?);
        written.ok_or_else(|| response.malformed("member `client` is missing or no object"))
    }

    async fn send(&self, request: Request, statuses: &[u16]) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(map::error(&response));
        }
        shared::expect(&response, statuses).map_err(|error| naming(error, &response))?;
        Ok(response)
    }

    async fn patch(&self, target: &Target, request: Request) -> Result<VendorClient> {
        let response = self.send(request, &[200]).await?;
        let (client, _) = Self::written(&response)?;
        if client.client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        self.client(client, target.auth_method.clone(), &response)
    }
}

#[async_trait]
impl Adapter for Loop {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    /// Loop takes no members of its own; those that it shows are kept and never sent.
    fn validate_vendor(&self, _spec: &ClientSpec, _issues: &mut Issues) {}

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
        // 201 is documented; 200 says the same
        let response = self.send(request, &[201, 200]).await?;
        let created = Self::written(&response).and_then(|(client, secret)| {
            let method = shared::silent_method(&desired.metadata, secret.is_some());
            Ok((self.client(client, method, &response)?, secret))
        });
        let (mut created, secret) = created.map_err(|error| naming(error, &response))?;
        let method = created.spec.metadata.auth_method();
        created.secret = shared::fitting_secret(&method, secret.map(shared::lasting_secret), &mut losses);
        Ok(Mapped { value: created, losses })
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let page = self.list(None).await?;
        page.items.into_iter().find(|c| c.client_id == target.client_id).ok_or_else(|| {
            // trap 19: the list has the credential's own clients only
            Error::new(ErrorKind::NotFound, "Loop does not list this client among the gateway's own clients")
        })
    }

    async fn list(&self, _page: Option<PageToken>) -> Result<Page> {
        let request = Request::new(Method::GET, self.collection(), Effect::Read, "list");
        let response = self.send(request, &[200]).await?;
        // `{clients}`: the gateway's own clients only (trap 19), not paged
        let mut answer = Members::of(&response)?;
        let clients = answer.items("clients");
        let clients = clients.ok_or_else(|| response.malformed("member `clients` is missing or no list of objects"))?;
        let paging = |name: &&String| ["next", "cursor", "page", "has_more"].iter().any(|word| name.contains(word));
        if let Some(paging) = answer.as_map().keys().find(paging) {
            return Err(response
                .malformed(&format!("the list has the undocumented member `{paging}`, so it may not be complete")));
        }
        let items = clients.into_iter().map(|client| self.client(wire::Client::read(client), None, &response));
        let items = items.collect::<Result<Vec<_>>>()?;
        Ok(Page { items, next: None })
    }

    async fn update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<VendorClient>> {
        let Mapped { value: request, losses } = self.update_request(target, current, desired)?;
        let value = match request {
            Some(request) => self.patch(target, request).await?,
            None => self.read(target).await?,
        };
        Ok(Mapped { value, losses })
    }

    async fn set_enabled(&self, target: &Target, enabled: bool) -> Result<VendorClient> {
        let body = serde_json::json!({ "enabled": enabled });
        let request = shared::write(Method::PATCH, self.item(target, &[])?, Effect::Idempotent, "disable", &body)?;
        let client = self.patch(target, request).await?;
        if client.spec.policy.enabled == Some(enabled) {
            return Ok(client);
        }
        Err(Error::new(ErrorKind::UpstreamRejected, "Loop answered with success but did not switch the client")
            .with_outcome(Outcome::NotPerformed))
    }

    async fn rotate_secret(&self, target: &Target) -> Result<IssuedSecret> {
        let request = Request::new(Method::POST, self.item(target, &["rotate-secret"])?, Effect::Once, "rotate");
        let response = match self.send(request, &[200]).await {
            // documented: "Cannot rotate (e.g. public client)" (trap 27)
            Err(error) if error.kind() == ErrorKind::Validation => {
                return Err(error.with_kind(ErrorKind::UnsupportedByBackend));
            }
            other => other?,
        };
        let (client, secret) = Self::written(&response)?;
        if client.client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        let secret = secret.ok_or_else(|| shared::no_secret(&response, "it holds no new secret"))?;
        let previous_valid_until = Some(Timestamp::now().as_second() + ROTATION_GRACE_SECONDS);
        Ok(IssuedSecret { previous_valid_until, ..shared::lasting_secret(secret) })
    }

    async fn check(&self) -> Result<()> {
        self.list(None).await.map(|_| ())
    }
}

/// The error with the client that the answer names.
fn naming(error: Error, response: &Response) -> Error {
    refusal::with_client(error, response, map::SHAPE.ids)
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, clippy::panic, reason = "in a test, a panic is the report")]
mod tests;
