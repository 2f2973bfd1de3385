//! `registrar-real-clients register|sign-in CLIENT ISSUER RESOURCE [ID SECRET]`, as `../register.mjs`, for the clients in Rust.

use std::{borrow::Cow, env, error::Error, process::ExitCode};

use openidconnect::{
    AccessToken, AuthenticationFlow, AuthorizationCode, ClientId, ClientName, ClientSecret, CsrfToken, IssuerUrl,
    Nonce, OAuth2TokenResponse as _, PkceCodeChallenge, RedirectUrl, Scope,
    core::{
        CoreClient, CoreClientAuthMethod, CoreClientRegistrationRequest, CoreGrantType, CoreProviderMetadata,
        CoreResponseType,
    },
    reqwest::{Client, ClientBuilder, Url, header, redirect},
};
use rmcp::transport::auth::{AuthorizationManager, AuthorizationRequest, AuthorizationSession};
use serde_json::{Value, json};

const CALLBACK: &str = "https://client.example/callback";
const NATIVE_CALLBACK: &str = "http://127.0.0.1:8765/callback";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Task {
    sign_in: bool,
    issuer: String,
    resource: String,
    /// What was registered out of band.
    known: Option<(String, Option<String>)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = env::args().skip(1);
    let mut next = || words.next().unwrap_or_default();
    let (sign_in, client) = (next() == "sign-in", next());
    let (issuer, resource) = (next(), next());
    let known = Some(next()).filter(|id| !id.is_empty()).map(|id| (id, Some(next()).filter(|s| !s.is_empty())));
    let task = Task { sign_in, issuer, resource, known };
    let result = match client.as_str() {
        "openidconnect" => openidconnect(&task).await,
        "rmcp" => rmcp(&task).await,
        other => Err(format!("there is no client `{other}`").into()),
    };
    match result {
        Ok(has) => {
            println!("{has}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            // the reason is the innermost one
            let mut cause: Option<&dyn Error> = Some(&*error);
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn http() -> Result<Client> {
    Ok(ClientBuilder::new().redirect(redirect::Policy::none()).build()?)
}

/// What the user's browser does: it goes where it is sent, and comes back.
async fn browse(url: &str) -> Result<Url> {
    let answer = http()?.get(url).send().await?;
    let back = answer.headers().get(header::LOCATION).ok_or("the vendor did not send the user back")?;
    Ok(Url::parse(back.to_str()?)?)
}

fn query<'a>(url: &'a Url, name: &str) -> Result<Cow<'a, str>> {
    url.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v).ok_or_else(|| format!("no {name} in {url}").into())
}

async fn openidconnect(task: &Task) -> Result<Value> {
    let http = http()?;
    let provider = CoreProviderMetadata::discover_async(IssuerUrl::new(task.issuer.clone())?, &http).await?;
    let callback = RedirectUrl::new(CALLBACK.to_owned())?;
    let (id, secret, mut has) = if let Some((id, secret)) = task.known.clone() {
        (
            ClientId::new(id.clone()),
            secret.clone().map(ClientSecret::new),
            json!({"client_id": id, "client_secret": secret}),
        )
    } else {
        let request = CoreClientRegistrationRequest::new(vec![callback.clone()], Default::default())
            .set_client_name(Some(std::iter::once((None, ClientName::new("openidconnect".to_owned()))).collect()))
            .set_initial_access_token(env::var("TOKEN").ok().map(AccessToken::new))
            .set_token_endpoint_auth_method(Some(CoreClientAuthMethod::ClientSecretPost))
            .set_grant_types(Some(vec![CoreGrantType::AuthorizationCode, CoreGrantType::RefreshToken]));
        let endpoint = provider.registration_endpoint().ok_or("the document has no registration_endpoint")?;
        let answer = request.register_async(endpoint, &http).await?;
        let has = json!({
            "client_id": answer.client_id(),
            "client_secret": answer.client_secret().map(ClientSecret::secret),
            "client_secret_expires_at": answer.client_secret_expires_at().map(|at| at.timestamp()),
            "redirect_uris": answer.redirect_uris(),
            "token_endpoint_auth_method": answer.token_endpoint_auth_method(),
            "registration_client_uri": answer.registration_client_uri(),
            "registration_access_token": answer.registration_access_token().map(|token| token.secret()),
        });
        (answer.client_id().clone(), answer.client_secret().cloned(), has)
    };
    if task.sign_in {
        let client = CoreClient::from_provider_metadata(provider, id, secret)
            .set_auth_type(openidconnect::AuthType::RequestBody)
            .set_redirect_uri(callback);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        let back = browse(url.as_str()).await?;
        if query(&back, "state")? != *state.secret() {
            return Err("another state came back".into());
        }
        let code = AuthorizationCode::new(query(&back, "code")?.into_owned());
        let tokens = client.exchange_code(code)?.set_pkce_verifier(verifier).request_async(&http).await?;
        let id_token = tokens.extra_fields().id_token().ok_or("there is no ID token")?;
        let claims = id_token.claims(&client.id_token_verifier(), &nonce)?;
        has["subject"] = json!(claims.subject());
        has["access_token"] = json!(tokens.access_token().secret());
    }
    Ok(has)
}

/// rmcp registers public clients only, and its sign-in is one with its registration.
async fn rmcp(task: &Task) -> Result<Value> {
    let mut manager = AuthorizationManager::new(&task.resource).await?;
    let found = manager.resolve_metadata().await?;
    let source = format!("{:?}", found.source);
    manager.set_metadata(found.metadata);
    if !task.sign_in {
        let client = manager.register_client("rmcp", NATIVE_CALLBACK, &["openid", "profile"]).await?;
        return Ok(json!({
            "client_id": client.client_id,
            "client_secret": client.client_secret,
            "redirect_uris": [client.redirect_uri],
            "metadata_source": source,
        }));
    }
    let mut request = AuthorizationRequest::new(NATIVE_CALLBACK).with_client_name("rmcp");
    if let Some((id, secret)) = &task.known {
        request = request.with_preregistered_client(id);
        if let Some(secret) = secret {
            request = request.with_client_secret(secret);
        }
    }
    let session = AuthorizationSession::new(manager, request).await.map_err(|(_, error)| error)?;
    let url = Url::parse(session.get_authorization_url())?;
    let back = browse(url.as_str()).await?;
    session.handle_callback_url(back.as_str()).await?;
    let token = session.auth_manager.get_access_token().await?;
    Ok(json!({ "client_id": query(&url, "client_id")?, "authorization_url": url, "access_token": token }))
}
