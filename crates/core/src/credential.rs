//! How the gateway authenticates to a vendor. The transport applies it; adapters never see a token.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// A secret of the configuration, with the file that it came from: a refused one is read there again.
#[derive(Clone, Debug)]
pub struct Secret {
    value: SecretString,
    file: Option<PathBuf>,
}

impl Secret {
    /// A secret that a file held.
    #[must_use]
    pub fn from_file(value: SecretString, file: impl Into<PathBuf>) -> Self {
        Self { value, file: Some(file.into()) }
    }

    /// The secret itself.
    #[must_use]
    pub fn into_value(self) -> SecretString {
        self.value
    }

    /// Where it may have been replaced since.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl From<SecretString> for Secret {
    fn from(value: SecretString) -> Self {
        Self { value, file: None }
    }
}

impl ExposeSecret<str> for Secret {
    fn expose_secret(&self) -> &str {
        self.value.expose_secret()
    }
}

/// A backend's credential.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing is sent: the vendor's API is open.
    None,
    /// A ready bearer token.
    Bearer(Secret),
    /// A token fetched with the client credentials grant.
    ClientCredentials(ClientCredentials),
}

/// The client credentials grant (RFC 6749 §4.4); answers may call the lifetime `expires_in` or `expire_in`, as a number or
/// as a string.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// Where tokens are issued.
    pub token_url: Url,
    /// The gateway's own client id.
    pub client_id: String,
    /// The gateway's own secret.
    pub client_secret: Secret,
    /// The API that the token is for.
    pub audience: Option<String>,
    /// What the token is to allow.
    pub scope: Option<String>,
    /// How the request is written.
    pub form: TokenForm,
    /// How long a token is good.
    pub life: TokenLife,
}

/// How a token request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenForm {
    /// A JSON body that holds the secret.
    Json,
    /// As RFC 6749 has it: form-encoded, the secret in `Authorization: Basic`, or in the body of a server that refuses that.
    Standard,
}

/// How long a token is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLife {
    /// For every request until it expires; it is renewed before that.
    Reusable,
    /// For one request.
    OneUse,
}
