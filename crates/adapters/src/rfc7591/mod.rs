#![doc = include_str!("docs.md")]

mod error;
#[cfg(feature = "fakes")]
pub mod fake;
mod manage;
mod map;
mod preset;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use http::Method;
use registrar_core::{
    Adapter, Blueprint, ClientCredentials, Credential, DeleteModel, Descriptor, Effect, Error, ErrorKind, Http,
    IdempotencyClass, IssuedSecret, Limits, Management, Offers, OpSupport, Ops, PlannedRequest, Request, Response,
    Result, SecretModel, Settings, Support, Target, TokenForm, TokenLife, UpdateStyle, Vendor, VendorClient, Verified,
    endpoint,
};
use registrar_model::{AuthMethod, ClientMetadata, ClientSpec, Issue, IssueCode, Issues, Mapped, Pointer, Scope, loss};
use serde_json::{Map, Value};
use url::Url;

use self::{
    error::{Call, classify},
    preset::{Managed, PRESETS, Preset},
};
use crate::shared::{self, answer, refusal};

const KIND: &str = "rfc7591";

/// RFC 7591 §2: "the implementation and use of all client metadata fields is OPTIONAL", and servers may replace values.
const ECHO: Support = Support::Partial("as far as the server keeps it: what it answers is believed and compared");
/// Members that RFC 7591 does not define; a server that does not know one must ignore it.
const EXTENSION: Support = Support::Partial("an extension: servers that do not know it ignore it, which is reported");

static DESCRIPTOR: Descriptor = Descriptor {
    kind: KIND,
    title: "RFC 7591 / 7592 server",
    source: "RFC 7591, RFC 7592, OpenID Connect Registration 1.0; presets from standards §12 and §14",
    verified: Verified::Live,
    operations: Ops {
        create: OpSupport::Native,
        read: OpSupport::Native,
        list: OpSupport::Unsupported,
        update: OpSupport::Native,
        disable: OpSupport::Unsupported,
        delete: OpSupport::Native,
        rotate_secret: OpSupport::Unsupported,
    },
    held: &[
        ("metadata.redirect_uris", ECHO),
        ("metadata.token_endpoint_auth_method", ECHO),
        ("metadata.token_endpoint_auth_signing_alg", EXTENSION),
        ("metadata.grant_types", ECHO),
        ("metadata.response_types", ECHO),
        ("metadata.application_type", EXTENSION),
        ("metadata.client_name", ECHO),
        ("metadata.client_uri", ECHO),
        ("metadata.logo_uri", ECHO),
        ("metadata.scope", ECHO),
        ("metadata.contacts", ECHO),
        ("metadata.tos_uri", ECHO),
        ("metadata.policy_uri", ECHO),
        ("metadata.jwks_uri", ECHO),
        ("metadata.jwks", ECHO),
        ("metadata.software_id", ECHO),
        ("metadata.software_version", ECHO),
        ("metadata.software_statement", ECHO),
        ("metadata.sector_identifier_uri", EXTENSION),
        ("metadata.subject_type", EXTENSION),
        ("metadata.id_token_signed_response_alg", EXTENSION),
        ("metadata.id_token_encrypted_response_alg", EXTENSION),
        ("metadata.id_token_encrypted_response_enc", EXTENSION),
        ("metadata.userinfo_signed_response_alg", EXTENSION),
        ("metadata.userinfo_encrypted_response_alg", EXTENSION),
        ("metadata.userinfo_encrypted_response_enc", EXTENSION),
        ("metadata.request_object_signing_alg", EXTENSION),
        ("metadata.request_object_encryption_alg", EXTENSION),
        ("metadata.request_object_encryption_enc", EXTENSION),
        ("metadata.introspection_signed_response_alg", EXTENSION),
        ("metadata.introspection_encrypted_response_alg", EXTENSION),
        ("metadata.introspection_encrypted_response_enc", EXTENSION),
        ("metadata.authorization_signed_response_alg", EXTENSION),
        ("metadata.authorization_encrypted_response_alg", EXTENSION),
        ("metadata.authorization_encrypted_response_enc", EXTENSION),
        ("metadata.default_max_age", EXTENSION),
        ("metadata.require_auth_time", EXTENSION),
        ("metadata.default_acr_values", EXTENSION),
        ("metadata.initiate_login_uri", EXTENSION),
        ("metadata.request_uris", EXTENSION),
        ("metadata.post_logout_redirect_uris", EXTENSION),
        ("metadata.backchannel_logout_uri", EXTENSION),
        ("metadata.backchannel_logout_session_required", EXTENSION),
        ("metadata.frontchannel_logout_uri", EXTENSION),
        ("metadata.frontchannel_logout_session_required", EXTENSION),
        ("metadata.require_pushed_authorization_requests", EXTENSION),
        ("metadata.require_signed_request_object", EXTENSION),
        ("metadata.dpop_bound_access_tokens", EXTENSION),
        ("metadata.tls_client_certificate_bound_access_tokens", EXTENSION),
        ("metadata.use_mtls_endpoint_aliases", EXTENSION),
        ("metadata.tls_client_auth_subject_dn", EXTENSION),
        ("metadata.tls_client_auth_san_dns", EXTENSION),
        ("metadata.tls_client_auth_san_uri", EXTENSION),
        ("metadata.tls_client_auth_san_ip", EXTENSION),
        ("metadata.tls_client_auth_san_email", EXTENSION),
        ("metadata.authorization_details_types", EXTENSION),
        ("metadata.backchannel_token_delivery_mode", EXTENSION),
        ("metadata.backchannel_client_notification_endpoint", EXTENSION),
        ("metadata.backchannel_authentication_request_signing_alg", EXTENSION),
        ("metadata.backchannel_user_code_parameter", EXTENSION),
        ("metadata.client_registration_types", EXTENSION),
        ("metadata.signed_jwks_uri", EXTENSION),
        ("metadata.organization_name", EXTENSION),
        ("metadata.organization_uri", EXTENSION),
        ("metadata.description", EXTENSION),
        ("metadata.keywords", EXTENSION),
        ("metadata.information_uri", EXTENSION),
        ("metadata.claims_redirect_uris", EXTENSION),
        ("metadata.response_modes", EXTENSION),
        ("metadata.resources", EXTENSION),
    ],
    vendor_members: &[("*", "any member that no standard defines, both ways; never one that could be a secret")],
    settings: &[
        ("base_url", "the server's origin, with the path below which its URLs are"),
        ("token", "initial access token: env:NAME or file:PATH; absent where registration is open, or with client"),
        (
            "client",
            "{ token_url, client_id, client_secret, scope? }: fetches initial access tokens by the client credentials grant",
        ),
        (
            "preset",
            "the server's habits: standard (default), oidc-provider, django-oauth-toolkit, canaille, lemonldap, autional, hydra, rauthy, keycloak, spring, spring-oidc",
        ),
        (
            "registration_path",
            "the registration endpoint, below base_url or as a whole URL; default by preset, /register",
        ),
        ("discovery_path", "the server's metadata; default by preset, /.well-known/openid-configuration"),
    ],
    limits: Limits { name_max: None, redirect_uris_min: 0, scopes_min: 0, requests_per_second: None },
    update_style: UpdateStyle::Replace,
    secret: SecretModel::ReadableAtVendor,
    idempotency: IdempotencyClass::D,
    delete: DeleteModel::Hard,
};

/// The kind's entry in the list.
pub(crate) const VENDOR: Vendor = Vendor { descriptor: &DESCRIPTOR, configure };

#[derive(Debug)]
struct Config {
    base_url: Url,
    registration: Url,
    discovery: Url,
    preset: &'static Preset,
    /// No initial access token is sent.
    open: bool,
}

fn configure(settings: &mut Settings<'_>) -> Option<Blueprint> {
    let base_url = settings.url("base_url");
    let names: Vec<&'static str> = PRESETS.iter().map(|preset| preset.name).collect();
    let chosen = settings.choice("preset", &names);
    let preset = PRESETS.iter().find(|preset| preset.name == chosen)?;
    let credential = credential(settings, preset);
    let registration = location(settings, "registration_path", preset.registration_path, base_url.as_ref());
    let discovery = location(settings, "discovery_path", preset.discovery_path, base_url.as_ref());
    if settings.has_issues() {
        return None;
    }
    let open = matches!(credential, Some(Credential::None));
    let config =
        Config { base_url: base_url.clone()?, registration: registration?, discovery: discovery?, preset, open };
    Some(Blueprint {
        base_url: base_url?,
        credential: credential?,
        build: Box::new(move |http| Arc::new(Rfc7591 { config, http })),
    })
}

/// `token`, or `client`, or nothing.
fn credential(settings: &mut Settings<'_>, preset: &Preset) -> Option<Credential> {
    if !settings.has("client") {
        let token = settings.has("token");
        return if token { settings.secret("token").map(Credential::Bearer) } else { Some(Credential::None) };
    }
    if settings.has("token") {
        let _ = settings.secret("token");
        settings.reject("token", "is given together with `client`; keep one of them", None);
    }
    settings.section("client", |client| grant(client, preset)).map(Credential::ClientCredentials)
}

fn grant(settings: &mut Settings<'_>, preset: &Preset) -> Option<ClientCredentials> {
    let token_url = settings.url("token_url");
    if !settings.has("client_id") {
        let hint = "the id of the gateway's own client at this server";
        settings.reject("client_id", "is required", Some(hint.to_owned()));
    }
    let client_id = settings.text("client_id");
    let client_secret = settings.secret("client_secret");
    let scope = settings.text("scope").or_else(|| preset.grant_scope.map(str::to_owned));
    Some(ClientCredentials {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?,
        audience: None,
        scope,
        form: TokenForm::Standard,
        life: if preset.one_use_token { TokenLife::OneUse } else { TokenLife::Reusable },
    })
}

/// A path below `base_url`, or a whole URL that is below it. A slash at the end is kept: some servers insist on it.
fn location(settings: &mut Settings<'_>, key: &str, default: &str, base_url: Option<&Url>) -> Option<Url> {
    let text = if settings.has(key) { settings.text(key)? } else { default.to_owned() };
    let base_url = base_url?;
    let below = match text.strip_prefix(base_url.as_str().trim_end_matches('/')) {
        Some(path) => path,
        None => &text,
    };
    let path = below.strip_prefix('/').filter(|path| !path.contains(['?', '#', '%', '\\']));
    let segments = path.map(|path| path.strip_suffix('/').unwrap_or(path).split('/').collect::<Vec<_>>());
    let url = segments.and_then(|segments| endpoint(base_url, &segments, &[]).ok());
    let Some(mut url) = url else {
        let hint = format!("write it as \"{default}\", or as a whole URL below base_url");
        settings.reject(key, "must be a plain path or a URL below base_url", Some(hint));
        return None;
    };
    if below.ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Some(url)
}

#[derive(Debug)]
struct Rfc7591 {
    config: Config,
    http: Arc<dyn Http>,
}

impl Rfc7591 {
    fn create_request(&self, desired: &ClientSpec) -> Result<Mapped<Request>> {
        let (body, mut losses) = map::to_wire(desired, self.config.preset)?;
        match self.config.preset.management {
            Managed::Not => losses.push(manage::not_offered()),
            Managed::Readable => losses.push(manage::only_shown()),
            Managed::Whole | Managed::Undeletable => {}
        }
        let url = self.config.registration.clone();
        Ok(losses.with(shared::write(Method::POST, url, Effect::Once, "create", &body)?))
    }

    /// `None` when nothing changes.
    fn update_request(
        &self,
        management: &Management,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Option<Request>>> {
        self.late_secret(current, desired)?;
        let (body, losses) = map::to_update(target.client_id.as_str(), current, desired, self.config.preset)?;
        let Some(body) = body else { return Ok(losses.with(None)) };
        let request = shared::write(Method::PUT, management.uri.clone(), Effect::Idempotent, "update", &body)?;
        Ok(losses.with(Some(request.with_bearer(management.token.clone()))))
    }

    /// A client that becomes confidential needs a secret from the answer.
    fn late_secret(&self, current: &ClientSpec, desired: &ClientSpec) -> Result<()> {
        let needs = shared::has_shared_secret(&desired.metadata.auth_method());
        if self.config.preset.late_secret || !current.metadata.is_public() || !needs {
            return Ok(());
        }
        let detail = "this server gives no secret to a client that becomes confidential; register a new client instead";
        let pointer = Pointer::root().child("metadata").child("token_endpoint_auth_method");
        let issue = Issue { pointer, code: IssueCode::InvalidValue, detail: detail.to_owned() };
        Err(Error::new(ErrorKind::UnsupportedValue, detail).with_issues(vec![issue]))
    }

    async fn send(&self, request: Request, call: Call, statuses: &[u16]) -> Result<Response> {
        let response = self.http.send(request).await?;
        if !response.is_success() {
            return Err(self.naming(classify(&response, self.config.preset, call), &response));
        }
        shared::expect(&response, statuses).map_err(|error| self.naming(error, &response))?;
        Ok(response)
    }

    /// The error with the client that the answer to a creation names, and with how it can be managed.
    fn naming(&self, error: Error, response: &Response) -> Error {
        let error = refusal::with_client(error, response, error::IDS);
        let Some(client_id) = error.client().map(|client| client.client_id.clone()) else { return error };
        let part = |name| answer::find_text(response.text(), &[name]);
        let parts = part(wire::name::MANAGEMENT_URI).zip(part(wire::name::MANAGEMENT_TOKEN));
        let management = parts.and_then(|(uri, token)| manage::named(&self.config.registration, &uri, token));
        error.with_client(client_id, management)
    }

    fn client(&self, client: &wire::Client, asked: Option<&Scope>, response: &Response) -> Result<VendorClient> {
        let mut spec = map::from_wire(client);
        map::show_always(&mut spec, asked, self.config.preset);
        Ok(VendorClient {
            client_id: shared::client_id(&client.id, response)?,
            vendor_ref: client.id.clone(),
            client_id_issued_at: client.issued_at,
            spec,
            unread: client.unread.clone(),
            secret: None,
            management: None,
        })
    }

    /// A call about one known client; the secret of the answer is returned beside it.
    async fn existing(
        &self,
        target: &Target,
        management: &Management,
        request: Request,
    ) -> Result<(VendorClient, Option<IssuedSecret>)> {
        let response = self.send(request, Call::Manage, &[200]).await?;
        let answer = wire::read(&response, self.config.preset)?;
        let mut client = self.client(&answer, target.scope.as_ref(), &response)?;
        if client.client_id != target.client_id {
            return Err(shared::other_client(&response));
        }
        client.management = Some(manage::renewed(&self.config.registration, management, &answer));
        if client.spec.metadata.token_endpoint_auth_method.is_none() {
            // silence says nothing new
            client.spec.metadata.token_endpoint_auth_method.clone_from(&target.auth_method);
        }
        Ok((client, issued(answer)))
    }

    /// How a client is managed.
    ///
    /// # Errors
    /// `unsupported-by-backend`, before any call, where the server offers no management or gave no usable token.
    fn management<'t>(&self, target: &'t Target, offered: bool, what: &str) -> Result<&'t Management> {
        if !offered {
            let preset = self.config.preset.name;
            return Err(registrar_core::Error::unsupported(format!(
                "{what} is not offered by servers of preset `{preset}`; nothing was sent"
            )));
        }
        manage::usable(&self.config.base_url, target, what)
    }
}

/// The secret of an answer.
fn issued(answer: wire::Client) -> Option<IssuedSecret> {
    let expires_at = answer.secret_expires_at;
    answer.secret.map(|value| IssuedSecret { value, expires_at, previous_valid_until: None })
}

/// The authentication method in effect: as shown, or else as it was sent, since not every server shows it.
fn method(shown: &ClientSpec, asked: &ClientSpec, preset: &Preset) -> AuthMethod {
    match &shown.metadata.token_endpoint_auth_method {
        Some(method) => method.clone(),
        None if map::keeps(preset, "token_endpoint_auth_method") => asked.metadata.auth_method(),
        None => AuthMethod::ClientSecretBasic,
    }
}

#[async_trait]
impl Adapter for Rfc7591 {
    fn descriptor(&self) -> &'static Descriptor {
        &DESCRIPTOR
    }

    fn validate_vendor(&self, spec: &ClientSpec, issues: &mut Issues) {
        map::validate(spec, issues);
    }

    fn preview(&self, desired: &ClientSpec) -> Result<Mapped<Vec<PlannedRequest>>> {
        Ok(self.create_request(desired)?.map(|request| vec![shared::planned(request)]))
    }

    fn preview_update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<Vec<PlannedRequest>>> {
        let offered = self.config.preset.management.updates();
        let management = self.management(target, offered, "changing a client")?;
        let request = self.update_request(management, target, current, desired)?;
        Ok(request.map(|request| request.into_iter().map(shared::planned).collect()))
    }

    async fn create_as_planned(
        &self,
        desired: &ClientSpec,
        plan: Mapped<Vec<PlannedRequest>>,
    ) -> Result<Mapped<VendorClient>> {
        let (request, mut losses) = shared::creation(plan)?;
        let response = self.send(request, Call::Register { open: self.config.open }, &[201, 200]).await?;
        let answer = wire::read(&response, self.config.preset).and_then(|answer| {
            let client = self.client(&answer, desired.metadata.scope.as_ref(), &response)?;
            Ok((answer, client))
        });
        let (answer, mut created) = answer.map_err(|error| self.naming(error, &response))?;
        match manage::given(&self.config.registration, &answer) {
            Ok(management) => {
                if self.config.preset.management.reads()
                    && let Some(seconds) = manage::lifetime(&management.token)
                {
                    let ending = manage::ending(seconds, self.config.preset.management);
                    losses.retain(|loss| loss.field != ending.field);
                    losses.push(ending);
                }
                created.management = Some(management);
            }
            // the plan has it already
            Err(_) if self.config.preset.management == Managed::Not => {}
            Err(loss) if self.config.preset.management == Managed::Readable => {
                losses.retain(|told| told.field != loss.field);
                losses.push(loss);
            }
            Err(loss) => losses.push(loss),
        }
        let secret = issued(answer);
        let shown = &mut created.spec.metadata.token_endpoint_auth_method;
        if shown.is_none() {
            let kept = map::keeps(self.config.preset, "token_endpoint_auth_method");
            let unasked = ClientMetadata::default();
            *shown = shared::silent_method(if kept { &desired.metadata } else { &unasked }, secret.is_some());
        }
        let method = created.spec.metadata.auth_method();
        created.secret = shared::fitting_secret(&method, secret, &mut losses);
        loss::sort(&mut losses);
        Ok(Mapped { value: created, losses })
    }

    fn offers(&self, target: &Target) -> Offers {
        let managed = self.config.preset.management;
        let usable = manage::usable(&self.config.base_url, target, "").is_ok();
        Offers {
            read: usable && managed.reads(),
            update: usable && managed.updates(),
            delete: usable && managed.deletes(),
        }
    }

    async fn read(&self, target: &Target) -> Result<VendorClient> {
        let offered = self.config.preset.management.reads();
        let management = self.management(target, offered, "reading a client")?;
        let request = Request::new(Method::GET, management.uri.clone(), Effect::Read, "read");
        let request = request.with_bearer(management.token.clone());
        self.existing(target, management, request).await.map(|(client, _)| client)
    }

    fn update_issued_secret(&self, current: &ClientSpec, desired: &ClientSpec, shown: &ClientSpec) -> bool {
        let new = self.config.preset.rotates_secret || current.metadata.is_public();
        new && shared::has_shared_secret(&method(shown, desired, self.config.preset))
    }

    async fn update(
        &self,
        target: &Target,
        current: &ClientSpec,
        desired: &ClientSpec,
    ) -> Result<Mapped<VendorClient>> {
        let offered = self.config.preset.management.updates();
        let management = self.management(target, offered, "changing a client")?;
        let Mapped { value: request, mut losses } = self.update_request(management, target, current, desired)?;
        let Some(request) = request else {
            return Ok(Mapped { value: self.read(target).await?, losses });
        };
        // where the answer leaves the method out, it is the one that was asked for
        let asked = &desired.metadata.token_endpoint_auth_method;
        let target = &Target {
            auth_method: asked.clone().or_else(|| target.auth_method.clone()),
            scope: desired.metadata.scope.clone(),
            ..target.clone()
        };
        let (mut client, secret) = self.existing(target, management, request).await?;
        // answers repeat the secret; it is news only for a client that had none, and where every update makes one
        if self.update_issued_secret(current, desired, &client.spec) {
            if secret.is_none() {
                losses.push(manage::missing_secret());
                loss::sort(&mut losses);
            }
            client.secret = secret;
        }
        Ok(Mapped { value: client, losses })
    }

    async fn delete(&self, target: &Target) -> Result<()> {
        let offered = self.config.preset.management.deletes();
        let management = self.management(target, offered, "deleting a client")?;
        let request = Request::new(Method::DELETE, management.uri.clone(), Effect::Idempotent, "delete");
        let request = request.with_bearer(management.token.clone());
        // RFC 7592 §2.3 says 204; servers also answer 200, and with nothing. A page may come from something in between
        let response = self.send(request, Call::Manage, &[204, 200]).await?;
        if response.body.trim_ascii_start().starts_with(b"<") {
            return Err(response.malformed("a deletion is not confirmed by a page"));
        }
        Ok(())
    }

    /// Reads the server's metadata, and tries the token with a registration that the server has to refuse.
    async fn check(&self) -> Result<()> {
        let request = Request::new(Method::GET, self.config.discovery.clone(), Effect::Read, "check");
        let response = self.send(request, Call::Discover, &[200]).await?;
        response.decode::<Map<String, Value>>()?;
        let mut probe = Request::new(Method::POST, self.config.registration.clone(), Effect::Once, "check");
        probe.body = Some(self.config.preset.probe.as_bytes().into());
        let response = self.http.send(probe).await?;
        if response.is_success() {
            let error = response.malformed("what is no registration was answered with success");
            return Err(self.naming(error, &response));
        }
        let error = classify(&response, self.config.preset, Call::Register { open: self.config.open });
        match error.kind() {
            // it was the registration that was refused, or the server broke down over it
            ErrorKind::Validation | ErrorKind::InvalidRedirectUri | ErrorKind::UnsupportedValue => Ok(()),
            _ if matches!(response.status, 400 | 422 | 500) => match error.kind() {
                ErrorKind::UpstreamAuthentication | ErrorKind::UpstreamAuthorization => Err(error),
                _ => Ok(()),
            },
            _ => Err(error),
        }
    }
}

#[cfg(all(test, feature = "fakes"))]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests;
