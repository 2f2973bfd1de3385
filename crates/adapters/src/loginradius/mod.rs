#![doc = include_str!("docs.md")]

#[cfg(feature = "fakes")]
pub mod fake;
mod map;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use registrar_core::{
    Adapter, Blueprint, ClientCredentials, Credential, DeleteModel, Descriptor, Effect, Http, IdempotencyClass,
    IssuedSecret, Limits, OpSupport, Ops, Page, PageToken, PlannedRequest, Request, Response, Result, SecretModel,
    SecretString, Settings, Support, Target, UpdateStyle, Vendor, VendorClient, Verified, endpoint,
};
use registrar_model::{AuthMethod, ClientSpec, Issues, Mapped};
use serde_json::{Map, Value, json};
use url::Url;

use self::wire::name;
use crate::shared;

const KIND: &str = "loginradius";

/// The API that management tokens are for.
const AUDIENCE: &str = "https://api.loginradius.com/identity/v2/manage";

static DESCRIPTOR: Descriptor = Descriptor {
    kind: KIND,
    title: "LoginRadius",
    source: "vendor page 004; public reference for get, list, update and reset of the secret",
    verified: Verified::Documented,
    operations: Ops {
        create: OpSupport::Native,
        read: OpSupport::Native,
        list: OpSupport::Native,
        update: OpSupport::Native,
        disable: OpSupport::Unsupported,
        delete: OpSupport::Unsupported,
        rotate_secret: OpSupport::Native,
    },
    held: &[
        ("metadata.redirect_uris", Support::Partial("at least one: an empty list means the whitelist of the whole tenant")),
        ("metadata.token_endpoint_auth_method", Support::Partial("none, client_secret_basic, client_secret_post")),
        ("metadata.grant_types", Support::Partial("authorization_code, client_credentials, refresh_token, implicit, device_code")),
        ("metadata.response_types", Support::Partial("follow from the grants")),
        ("metadata.application_type", Support::Full),
        ("metadata.client_name", Support::Partial("AppName: unique, a path segment, never renamed")),
        ("metadata.scope", Support::Full),
        ("metadata.id_token_signed_response_alg", Support::Partial("RS256 only")),
        ("metadata.userinfo_signed_response_alg", Support::Partial("RS256 or none")),
        ("metadata.default_max_age", Support::Partial("0 only")),
        ("metadata.initiate_login_uri", Support::Full),
        ("metadata.post_logout_redirect_uris", Support::Full),
        ("metadata.backchannel_logout_uri", Support::Full),
        ("policy.allowed_cors_origins", Support::Full),
        ("policy.allowed_web_origins", Support::Full),
        ("policy.access_token_lifetime", Support::Full),
        ("policy.id_token_lifetime", Support::Full),
        ("policy.refresh_token_lifetime", Support::Full),
        ("policy.audiences", Support::Partial("extra audiences of ID Tokens")),
    ],
    vendor_members: &[
        ("AppName", "the name in paths and endpoint URLs; made from client_name when absent"),
        ("ApplicationType", "a type that OIDC does not know, such as SPA"),
        ("BackChannelLogout", "initiators, lifetime, further URIs"),
        ("Connections", "which logins are offered"),
        ("DeviceCodeConfig", "the device flow"),
        ("AudienceScopes", "scopes by audience"),
        ("Mapping", "claim mapping"),
        ("Metadata", "static values that appear in every user's ID Token"),
        ("AccessTokenMappingTemplate", "claims of access tokens"),
        ("IdTokenMappingTemplate", "claims of ID Tokens"),
        ("GlobalClient", "blocks resetting the secret"),
        ("TokenWebOriginMatch", "check of the web origin at the token endpoint"),
    ],
    settings: &[
        ("base_url", "where the API is, e.g. https://api.loginradius.com"),
        ("token", "a ready management token: env:NAME or file:PATH; or m2m"),
        ("m2m", "{ token_url, client_id, client_secret, audience }: fetches and renews the token"),
        ("protocol", "how requests spell the protocol; default \"OAuth 2.0\""),
        ("application_types", "how web and native are spelt; default { web = \"Web\", native = \"Native\" }"),
    ],
    limits: Limits { name_max: None, redirect_uris_min: 1, scopes_min: 0, requests_per_second: Some(50) },
    update_style: UpdateStyle::Merge,
    secret: SecretModel::ReadableAtVendor,
    idempotency: IdempotencyClass::B,
    delete: DeleteModel::None,
};

/// The kind's entry in the list.
pub(crate) const VENDOR: Vendor = Vendor { descriptor: &DESCRIPTOR, configure };

#[derive(Debug)]
struct Config {
    base_url: Url,
    protocol: String,
    application_types: Vec<(String, String)>,
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let (has_token, has_m2m) = (settings.has("token"), settings.has("m2m"));
    let m2m = settings.section("m2m", |s| {
        let token_url = s.url("token_url");
        let client_id = s.text("client_id");
        if client_id.is_none() && !s.has("client_id") {
            s.reject("client_id", "is required", Some("the id of the gateway's own M2M application".to_owned()));
        }
        let client_secret = s.secret("client_secret");
        let audience = s.text("audience").unwrap_or_else(|| AUDIENCE.to_owned());
        Some(ClientCredentials { token_url: token_url?, client_id: client_id?, client_secret: client_secret?, audience })
    });
    let token = if has_token || !has_m2m { settings.secret("token") } else { None };
    if has_token && has_m2m {
        settings.reject("token", "is given together with m2m; keep one of them", None);
    }
    let protocol = settings.text("protocol").unwrap_or_else(|| "OAuth 2.0".to_owned());
    let mut application_types = vec![("web".to_owned(), "Web".to_owned()), ("native".to_owned(), "Native".to_owned())];
    for (from, to) in settings.table("application_types").unwrap_or_default() {
        match application_types.iter_mut().find(|(known, _)| *known == from) {
            Some(slot) => slot.1 = to,
            None => settings.reject("application_types", format!("`{from}` is neither web nor native"), None),
        }
    }
    if settings.has_issues() {
        return None;
    }
    let credential = m2m.map(Credential::ClientCredentials).or_else(|| token.map(Credential::Bearer));
    let config = Config { base_url: base_url.clone()?, protocol, application_types };
    Some(Blueprint {
        base_url: base_url?,
        credential: credential?,
        build: Box::new(move |http| Arc::new(LoginRadius { config, http })),
    })
}

#[derive(Debug)]
struct LoginRadius {
    config: Config,
    http: Arc<dyn Http>,
}

impl LoginRadius {
    fn url(&self, rest: &[&str]) -> Result<Url> {
        let mut segments = vec!["v2", "manage", "oauth-clients"];
        segments.extend(rest);
        endpoint(&self.config.base_url, &segments, &[])
    }

    fn create_request(&self, desired: &ClientSpec) -> Result<Mapped<Request>> {
        let (map::Desired { app_name, members }, losses) = map::to_wire(desired, None, &self.config)?;
        let mut body = Map::from_iter([
            (name::APP_NAME.to_owned(), json!(app_name)),
            (name::PROTOCOL.to_owned(), json!(self.config.protocol)),
        ]);
        body.extend(members);
        let request = shared::write(Method::POST, self.url(&[])?, Effect::Once, "create", &Value::Object(body));
        Ok(losses.with(request))
    }

    /// `None` when nothing changes.
    fn update_request(&self, target: &Target, current: &ClientSpec, desired: &ClientSpec) -> Result<Mapped<Option<Request>>> {
        let app_name = target.vendor_ref.as_str();
        let (wanted, losses) = map::to_wire(desired, Some((current, app_name)), &self.config)?;
        // the record is mapped the same way; what it lost then, it loses again
        let (known, _) = map::to_wire(current, Some((current, app_name)), &self.config)?;
        let put = map::put(&known.members, &wanted.members);
        if put.is_empty() {
            return Ok(losses.with(None));
        }
        let url = self.url(&[app_name])?;
        Ok(losses.with(Some(shared::write(Method::PUT, url, Effect::Idempotent, "update", &Value::Object(put)))))
    }

    async fn send(&self, request: Request) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(map::error(&response));
        }
        // the page prints no numbers
        shared::expect(&response, &[200, 201])?;
        Ok(response)
    }

    fn client(&self, client: &wire::Client, response: &Response) -> Result<VendorClient> {
        Ok(VendorClient {
            client_id: shared::client_id(&client.client_id, response)?,
            vendor_ref: client.app_name.clone(),
            client_id_issued_at: client.created_date.as_deref().and_then(shared::unix_seconds),
            spec: map::from_wire(client, &self.config, response)?,
            secret: None,
        })
    }

    async fn existing(&self, target: &Target, request: Request) -> Result<VendorClient> {
        let response = self.send(request).await?;
        let client = self.client(&response.decode::<wire::Client>()?, &response)?;
        if client.client_id == target.client_id { Ok(client) } else { Err(shared::other_client(&response)) }
    }
}

#[async_trait]
impl Adapter for LoginRadius {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues) {
        map::validate(spec, issues);
    }

    fn preview(&self, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.create_request(desired)?.map(|r| vec![shared::planned(&r)]))
    }

    fn preview_update(&self, target: &Target, current: &ClientSpec, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.update_request(target, current, desired)?.map(|r| r.iter().map(shared::planned).collect()))
    }

    async fn create(&self, desired: &ClientSpec) -> Result<Mapped<VendorClient>> {
        let Mapped { value: request, losses } = self.create_request(desired)?;
        let response = self.send(request).await?;
        let client: wire::Client = response.decode()?;
        let mut created = self.client(&client, &response)?;
        let public = created.spec.metadata.token_endpoint_auth_method == Some(AuthMethod::None);
        created.secret = match client.client_secret.filter(|s| !s.is_empty()) {
            // the object always has one; a public client has no use for it (trap 24)
            _ if public => None,
            None => return Err(shared::no_secret(&response, "a confidential client came without a secret")),
            Some(secret) => Some(IssuedSecret { value: SecretString::from(secret), expires_at: 0, previous_valid_until: None }),
        };
        Ok(Mapped { value: created, losses })
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let request = Request::new(Method::GET, self.url(&[&target.vendor_ref])?, Effect::Read, "read");
        self.existing(target, request).await
    }

    async fn list(&self, _page: Option<PageToken>) -> Result<Page> {
        let response = self.send(Request::new(Method::GET, self.url(&[])?, Effect::Read, "list")).await?;
        let wire::Listed { data, rest } = response.decode()?;
        if let Some(member) = rest.keys().next() {
            let what = format!("the list has the undocumented member `{member}`, so it may not be complete");
            return Err(response.malformed(&what));
        }
        let items = data.iter().map(|c| self.client(c, &response)).collect::<Result<Vec<_>>>()?;
        Ok(Page { items, next: None })
    }

    async fn update(&self, target: &Target, current: &ClientSpec, desired: &ClientSpec) -> Result<Mapped<VendorClient>> {
        let Mapped { value: request, losses } = self.update_request(target, current, desired)?;
        let value = match request {
            Some(request) => self.existing(target, request).await?,
            None => self.read(target).await?,
        };
        Ok(Mapped { value, losses })
    }

    async fn rotate_secret(&self, target: &Target) -> Result<IssuedSecret> {
        let url = self.url(&["credentials", &target.vendor_ref])?;
        let response = self.send(Request::new(Method::PUT, url, Effect::Once, "rotate")).await?;
        let credentials: wire::Credentials = response.decode()?;
        if credentials.client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        let secret = credentials.client_secret.filter(|s| !s.is_empty());
        let secret = secret.ok_or_else(|| shared::no_secret(&response, "it holds no new secret"))?;
        // "invalidating the previous one": there is no grace
        Ok(IssuedSecret { value: SecretString::from(secret), expires_at: 0, previous_valid_until: None })
    }

    async fn check(&self) -> Result<()> {
        self.list(None).await.map(|_| ())
    }
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests;
