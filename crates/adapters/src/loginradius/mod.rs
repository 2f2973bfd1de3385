#![doc = include_str!("docs.md")]

mod app_name;
mod error;
#[cfg(feature = "fakes")]
pub mod fake;
mod map;
mod members;
mod wire;

use std::{mem, sync::Arc};

use async_trait::async_trait;
use http::Method;
use registrar_core::{
    Adapter, Blueprint, ClientCredentials, Credential, DeleteModel, Descriptor, Effect, Error, Http, IdempotencyClass,
    IssuedSecret, Limits, Naming, OpSupport, Ops, Page, PageToken, PlannedRequest, Request, Response, Result,
    SecretModel, Settings, Support, Target, TokenForm, TokenLife, UpdateStyle, Vendor, VendorClient, Verified,
    endpoint,
};
use registrar_model::{AuthMethod, ClientSpec, Issues, Mapped};
use serde_json::{Value, json};
use url::Url;

use self::{members::Members, wire::name};
use crate::shared::{self, answer, refusal};

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
        ("metadata.redirect_uris", Support::Partial("at least one: an empty list means the whole tenant's whitelist")),
        ("metadata.token_endpoint_auth_method", Support::Partial("none, client_secret_basic or client_secret_post")),
        (
            "metadata.grant_types",
            Support::Partial("authorization_code, client_credentials, refresh_token, implicit, device_code"),
        ),
        ("metadata.response_types", Support::Partial("follow from the grants")),
        ("metadata.application_type", Support::Full),
        ("metadata.client_name", Support::Partial("as AppName: unique, a segment of URLs, never changed")),
        ("metadata.scope", Support::Full),
        ("metadata.id_token_signed_response_alg", Support::Partial("RS256 only")),
        ("metadata.userinfo_signed_response_alg", Support::Partial("RS256 or none")),
        ("metadata.default_max_age", Support::Partial("0 only")),
        ("metadata.initiate_login_uri", Support::Full),
        ("metadata.post_logout_redirect_uris", Support::Full),
        ("metadata.backchannel_logout_uri", Support::Full),
        ("policy.allowed_cors_origins", Support::Full),
        ("policy.allowed_web_origins", Support::Full),
        ("policy.access_token_lifetime", Support::Partial("can be changed, not unset")),
        ("policy.id_token_lifetime", Support::Partial("can be changed, not unset")),
        ("policy.refresh_token_lifetime", Support::Partial("can be changed, not unset")),
        ("policy.audiences", Support::Partial("of ID Tokens")),
    ],
    vendor_members: &[
        ("AccessTokenMappingTemplate", "claims of access tokens"),
        ("AllowedCorsOrigin", "origins without effect, because `EnableCorsOrigin` is off"),
        ("AppName", "the key in URLs; made from client_name when absent; fixed on creation"),
        ("ApplicationType", "a type that OpenID Connect does not know, such as SPA"),
        ("AudienceScopes", "scopes by audience"),
        ("BackChannelLogout", "initiators and lifetime of logout tokens, further URIs"),
        ("Connections", "which logins are offered"),
        ("DeviceCodeConfig", "the device flow"),
        ("ForceReAuthentication", "the same as metadata.default_max_age 0"),
        ("GlobalClient", "blocks resetting the secret; its meaning is not documented"),
        ("IdTokenMappingTemplate", "claims of ID Tokens"),
        ("JwtTokenConfig", "members of it that later versions add"),
        ("Mapping", "claim mapping"),
        ("Metadata", "static values that appear in every user's ID Token"),
        ("RedirectURIExactMatch", "shown where it is false; every write sets it to true"),
        ("TokenWebOriginMatch", "the web origin is checked at the token endpoint"),
    ],
    settings: &[
        ("base_url", "where the API is: https://api.loginradius.com"),
        ("token", "a ready management token: env:NAME or file:PATH; this or m2m"),
        (
            "m2m",
            "{ token_url, client_id, client_secret, audience }: the gateway's M2M application; fetches and renews tokens",
        ),
        ("protocol", "how requests spell the protocol; default \"OAuth 2.0\""),
        ("application_types", "how types are spelt; default { web = \"Web\", native = \"Native\", spa = \"SPA\" }"),
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
    /// Where clients are made and listed.
    collection: Url,
    protocol: String,
    application_types: ApplicationTypes,
}

/// How `ApplicationType` is spelt on the wire; only `Web` is documented (T14).
#[derive(Debug)]
struct ApplicationTypes {
    web: String,
    native: String,
    spa: String,
}

impl ApplicationTypes {
    fn spelling(&self, canonical: &str) -> Option<&str> {
        match canonical {
            "web" => Some(&self.web),
            "native" => Some(&self.native),
            _ => None,
        }
    }

    /// The canonical type, and whether it says everything: a single page application is a web client, and OpenID
    /// Connect has no word for the difference.
    fn read(&self, spelling: &str) -> (Option<&'static str>, bool) {
        if spelling == self.web {
            (Some("web"), true)
        } else if spelling == self.native {
            (Some("native"), true)
        } else {
            ((spelling == self.spa).then_some("web"), false)
        }
    }

    fn configure(settings: &mut Settings<'_>) -> Self {
        let mut types = Self { web: "Web".to_owned(), native: "Native".to_owned(), spa: "SPA".to_owned() };
        for (canonical, spelling) in settings.table("application_types").unwrap_or_default() {
            let slot = match canonical.as_str() {
                "web" => &mut types.web,
                "native" => &mut types.native,
                "spa" => &mut types.spa,
                _ => {
                    let message = format!("has the unknown key `{canonical}`; known keys are native, spa, web");
                    settings.reject("application_types", message, None);
                    continue;
                }
            };
            *slot = spelling;
        }
        let spellings = [&types.web, &types.native, &types.spa];
        if spellings.iter().any(|s| s.is_empty()) {
            settings.reject("application_types", "has an empty spelling", None);
        } else if types.web == types.native || types.web == types.spa || types.native == types.spa {
            settings.reject("application_types", "spells two types alike, so that answers could not be read", None);
        }
        types
    }
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let collection = shared::collection(settings, base_url.as_ref(), &["v2", "manage", "oauth-clients"]);
    let credential = match (settings.has("token"), settings.has("m2m")) {
        (true, false) => settings.secret("token").map(Credential::Bearer),
        (_, true) => {
            if settings.text("token").is_some() {
                settings.reject("token", "is given together with `m2m`; keep one of them", None);
            }
            settings.section("m2m", client_credentials).map(Credential::ClientCredentials)
        }
        (false, false) => {
            let hint = "add `token = \"env:NAME\"` or `m2m = { token_url, client_id, client_secret }`";
            settings.reject("token", "is required, unless there is `m2m`", Some(hint.to_owned()));
            None
        }
    };
    let protocol = settings.text("protocol").unwrap_or_else(|| "OAuth 2.0".to_owned());
    let application_types = ApplicationTypes::configure(settings);
    if settings.has_issues() {
        return None;
    }
    let config = Config { collection: collection?, protocol, application_types };
    Some(Blueprint {
        base_url: base_url?,
        credential: credential?,
        build: Box::new(move |http| Arc::new(LoginRadius { config, http })),
    })
}

fn client_credentials(settings: &mut Settings<'_>) -> Option<ClientCredentials> {
    let token_url = settings.url("token_url");
    if !settings.has("client_id") {
        let hint = "the id of the gateway's own M2M application at LoginRadius";
        settings.reject("client_id", "is required", Some(hint.to_owned()));
    }
    let client_id = settings.text("client_id");
    let client_secret = settings.secret("client_secret");
    let audience = settings.text("audience").unwrap_or_else(|| AUDIENCE.to_owned());
    Some(ClientCredentials {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        audience: Some(audience),
        scope: None,
        form: TokenForm::Json,
        life: TokenLife::Reusable,
    })
}

#[derive(Debug)]
struct LoginRadius {
    config: Config,
    http: Arc<dyn Http>,
}

impl LoginRadius {
    fn collection(&self) -> Url {
        self.config.collection.clone()
    }

    fn below(&self, rest: &[&str]) -> Result<Url> {
        endpoint(&self.config.collection, rest, &[])
    }

    /// The key of management calls is the name, not the client id (trap 8).
    fn item(&self, target: &Target) -> Result<Url> {
        self.below(&[&target.vendor_ref])
    }

    fn create_request(&self, desired: &ClientSpec, naming: Naming<'_>) -> Result<Mapped<Request>> {
        let (map::Desired { app_name, members }, losses) = map::to_wire(desired, None, naming, &self.config)?;
        let mut body = Members::from_iter([
            (name::APP_NAME.to_owned(), json!(app_name)),
            (name::PROTOCOL.to_owned(), json!(self.config.protocol)),
        ]);
        body.extend(members);
        Ok(losses.with(shared::write(Method::POST, self.collection(), Effect::Once, "create", &body)?))
    }

    /// `None` when nothing changes.
    fn update_request(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Option<Request>>> {
        let known = map::Current { spec: current, app_name: &target.vendor_ref };
        let (map::Desired { app_name: _, members }, losses) =
            map::to_wire(desired, Some(known), Naming::Plain, &self.config)?;
        let put = map::put(&map::members_of(current, &self.config), &members);
        if put.is_empty() {
            return Ok(losses.with(None));
        }
        let url = self.item(target)?;
        Ok(losses.with(Some(shared::write(Method::PUT, url, Effect::Idempotent, "update", &put)?)))
    }

    async fn send(&self, request: Request) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(error::classify(&response));
        }
        // the page prints no numbers
        shared::expect(&response, &[200, 201]).map_err(|error| naming(error, &response))?;
        Ok(response)
    }

    /// `method` is the one in force where the answer does not say it.
    fn client(
        &self,
        mut client: wire::Client,
        method: Option<AuthMethod>,
        response: &Response,
    ) -> Result<VendorClient> {
        let client_id = shared::client_id(&client.client_id, response)?;
        if client.app_name.is_empty() {
            return Err(response.malformed("`AppName`, the client's key, is missing"));
        }
        Ok(VendorClient {
            client_id,
            vendor_ref: client.app_name.clone(),
            client_id_issued_at: client.created_date,
            unread: mem::take(&mut client.unread),
            spec: map::from_wire(client, &self.config, method),
            secret: None,
            management: None,
        })
    }

    /// A call about one known client: whatever the name leads to now, only that client's data is used.
    async fn existing(&self, target: &Target, request: Request) -> Result<VendorClient> {
        let response = self.send(request).await?;
        let mut client = wire::Client::read(members(&response, "ClientId")?);
        if client.app_name.is_empty() {
            client.app_name.clone_from(&target.vendor_ref);
        }
        if client.client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        self.client(client, target.auth_method.clone(), &response)
    }
}

#[async_trait]
impl Adapter for LoginRadius {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues) {
        members::validate(spec, &self.config.application_types, issues);
    }

    fn preview(&self, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>> {
        self.preview_as(desired, Naming::Plain)
    }

    /// `AppName` is unique within a site.
    fn preview_as(&self, desired: &ClientSpec, naming: Naming<'_>) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.create_request(desired, naming)?.map(|request| vec![shared::planned(request)]))
    }

    fn preview_update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self
            .update_request(target, current, desired)?
            .map(|request| request.into_iter().map(shared::planned).collect()))
    }

    async fn create_as_planned(
        &self,
        desired: &ClientSpec,
        plan: Mapped<Vec<PlannedRequest>>,
    ) -> Result<Mapped<VendorClient>> {
        let (request, mut losses) = shared::creation(plan)?;
        // the name is the client's key: as it was sent where the answer leaves it out
        let sent = request.body.as_ref().and_then(|body| serde_json::from_slice::<Members>(body).ok());
        let sent = sent.and_then(|mut body| body.remove(name::APP_NAME)?.as_str().map(str::to_owned));
        let response = self.send(request).await?;
        let created = members(&response, "ClientId").and_then(|members| {
            let mut client = wire::Client::read(members);
            if client.app_name.is_empty() {
                client.app_name = sent.unwrap_or_default();
            }
            let secret = client.client_secret.take();
            let method = shared::silent_method(&desired.metadata, secret.is_some());
            Ok((self.client(client, method, &response)?, secret))
        });
        let (mut created, secret) = created.map_err(|error| naming(error, &response))?;
        let method = created.spec.metadata.auth_method();
        created.secret = match secret.map(shared::lasting_secret) {
            // every object has a secret; a public client must not use one, so it goes no further
            Some(_) if method == AuthMethod::None => None,
            secret => shared::fitting_secret(&method, secret, &mut losses),
        };
        Ok(Mapped { value: created, losses })
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let request = Request::new(Method::GET, self.item(target)?, Effect::Read, "read");
        self.existing(target, request).await
    }

    async fn list(&self, _page: Option<PageToken>) -> Result<Page> {
        let response = self.send(Request::new(Method::GET, self.collection(), Effect::Read, "list")).await?;
        // `{Data: [...]}`
        let mut answer = members(&response, "Data")?;
        let data = answer.items("Data").ok_or_else(|| response.malformed("member `Data` is no list of objects"))?;
        if let Some(paging) =
            answer.as_map().iter().find_map(|(member, value)| is_paging(member, value).then_some(member))
        {
            let what = format!("the list has the undocumented member `{paging}`, so it may not be complete");
            return Err(response.malformed(&what));
        }
        let items = data.into_iter().map(|client| self.client(wire::Client::read(client), None, &response));
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
            Some(request) => self.existing(target, request).await?,
            None => self.read(target).await?,
        };
        Ok(Mapped { value, losses })
    }

    async fn rotate_secret(&self, target: &Target) -> Result<IssuedSecret> {
        let url = self.below(&["credentials", &target.vendor_ref])?;
        let response = self.send(Request::new(Method::PUT, url, Effect::Once, "rotate")).await?;
        let wire::Credentials { client_id, client_secret } = wire::Credentials::read(members(&response, "ClientId")?);
        if client_id != target.client_id.as_str() {
            return Err(shared::other_client(&response));
        }
        // no expiry is documented, and a reset invalidates the secret before it at once (trap 26)
        let secret = client_secret.map(shared::lasting_secret);
        secret.ok_or_else(|| shared::no_secret(&response, "it holds no new secret"))
    }

    async fn check(&self) -> Result<()> {
        self.list(None).await.map(|_| ())
    }
}

/// The members of a success that has `needed`; one that holds an error instead is that error.
fn members(response: &Response, needed: &str) -> Result<answer::Members> {
    let members = answer::Members::of(response);
    let is_one = members.as_ref().is_ok_and(|members| members.contains(needed));
    if !is_one && error::is_error(response) { Err(error::classify(response)) } else { members }
}

/// The error with the client that the answer names.
fn naming(error: Error, response: &Response) -> Error {
    refusal::with_client(error, response, error::SHAPE.ids)
}

/// A member beside `Data` that could mean that there is more.
fn is_paging(member: &str, value: &Value) -> bool {
    const WORDS: [&str; 10] = ["page", "next", "cursor", "total", "count", "more", "limit", "offset", "skip", "token"];
    let lower = member.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word)) && !matches!(value, Value::Null | Value::Bool(false))
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests;
