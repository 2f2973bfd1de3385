//! How the gateway authenticates to a vendor. The transport applies it; adapters never see a token.

use secrecy::SecretString;
use url::Url;

/// A backend's credential.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing is sent: the vendor's API is open.
    None,
    /// A ready bearer token.
    Bearer(SecretString),
    /// A token fetched with the client credentials grant and renewed before it expires.
    ClientCredentials(ClientCredentials),
}

/// The client credentials grant with a JSON body; answers may call the lifetime `expires_in` or `expire_in`, as a
/// number or as a string.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    /// Where tokens are issued.
    pub token_url: Url,
    /// The gateway's own client id.
    pub client_id: String,
    /// The gateway's own secret.
    pub client_secret: SecretString,
    /// The API that the token is for.
    pub audience: String,
}
