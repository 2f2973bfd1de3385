//! API keys: `rk_<id>_<secret>`, SHA-256 at rest, compared in constant time, with scopes.

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use registrar_core::{Error, ErrorKind, Result, SecretString};
use registrar_store::{ApiKey, Store};
use serde::Serialize;

use crate::{clock::now_ms, engine::store_error};

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Scope {
    /// Reading clients.
    #[serde(rename = "clients:read")]
    ClientsRead,
    /// Changing clients; includes reading, and every other scope that changes something.
    #[serde(rename = "clients:write")]
    ClientsWrite,
    /// Issuing new secrets.
    #[serde(rename = "clients:rotate")]
    ClientsRotate,
    /// Deleting and disabling clients.
    #[serde(rename = "clients:delete")]
    ClientsDelete,
    /// Making and forgetting initial access tokens.
    #[serde(rename = "tokens:write")]
    TokensWrite,
    /// Reading backends, operations and metrics.
    #[serde(rename = "ops:read")]
    OpsRead,
    /// Acknowledging operations.
    #[serde(rename = "ops:write")]
    OpsWrite,
    /// Saying what became of an operation that the gateway cannot find out about.
    #[serde(rename = "ops:resolve")]
    OpsResolve,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 8] = [
        Self::ClientsRead,
        Self::ClientsWrite,
        Self::ClientsRotate,
        Self::ClientsDelete,
        Self::TokensWrite,
        Self::OpsRead,
        Self::OpsWrite,
        Self::OpsResolve,
    ];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientsRead => "clients:read",
            Self::ClientsWrite => "clients:write",
            Self::ClientsRotate => "clients:rotate",
            Self::ClientsDelete => "clients:delete",
            Self::TokensWrite => "tokens:write",
            Self::OpsRead => "ops:read",
            Self::OpsWrite => "ops:write",
            Self::OpsResolve => "ops:resolve",
        }
    }

    /// The scope with this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether this scope includes another.
    #[must_use]
    pub fn covers(self, wanted: Self) -> bool {
        match self {
            // it meant all of these before they had words of their own
            Self::ClientsWrite => !matches!(wanted, Self::OpsRead),
            Self::OpsWrite => matches!(wanted, Self::OpsWrite | Self::OpsRead),
            Self::ClientsRead
            | Self::ClientsRotate
            | Self::ClientsDelete
            | Self::TokensWrite
            | Self::OpsRead
            | Self::OpsResolve => self == wanted,
        }
    }
}

/// A key as just made; the token is shown once.
#[derive(Debug)]
pub struct NewApiKey {
    /// The public part.
    pub id: String,
    /// The name.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// The whole token.
    pub token: SecretString,
}

const PREFIX: &str = "rk_";

/// Makes a key and records its hash.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] when the name is taken.
pub async fn create(store: &dyn Store, name: &str, scopes: &[Scope]) -> Result<NewApiKey> {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=63).contains(&name.len()) || !name.bytes().all(word) {
        let detail = "a key's name is 1 to 63 of letters, digits, '-', '_' and '.'";
        return Err(Error::new(ErrorKind::InvalidRequest, detail));
    }
    let (id, secret) = (random_hex::<8>()?, random_hex::<32>()?);
    let token = format!("{PREFIX}{id}_{secret}");
    let key = ApiKey {
        id: id.clone(),
        name: name.to_owned(),
        hash: hash(&token),
        scopes: scopes.iter().map(|s| s.as_str().to_owned()).collect(),
        created_at: now_ms(),
    };
    store.put_api_key(key).await.map_err(|error| match error {
        registrar_store::StoreError::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, format!("there is a key called `{name}` already"))
        }
        other => store_error(other),
    })?;
    Ok(NewApiKey { id, name: name.to_owned(), scopes: scopes.to_vec(), token: SecretString::from(token) })
}

/// The key that a token belongs to: its name and scopes.
///
/// # Errors
/// [`ErrorKind::InvalidToken`], the same for unknown keys and wrong secrets; a store that does not work refuses.
pub async fn verify(store: &dyn Store, token: &str) -> Result<(String, Vec<Scope>)> {
    let invalid = || Error::new(ErrorKind::InvalidToken, "the API key is not valid");
    let id = token.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
    let id = id.filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit())).ok_or_else(invalid)?;
    let presented = hash(token);
    let key = store.api_key(id).await.map_err(store_error)?;
    // an unknown id costs the same comparison as a wrong secret
    let stored = key.as_ref().map_or([0; 32], |k| k.hash);
    let equal = verify_slices_are_equal(&presented, &stored).is_ok();
    match key {
        Some(key) if equal => {
            let scopes = key.scopes.iter().filter_map(|s| Scope::from_word(s)).collect();
            Ok((key.name, scopes))
        }
        _ => Err(invalid()),
    }
}

pub(crate) fn hash(token: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

pub(crate) fn random_hex<const N: usize>() -> Result<String> {
    let mut bytes = [0_u8; N];
    rand::fill(&mut bytes).map_err(|_| Error::new(ErrorKind::Internal, "the system gives no randomness"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
