//! What a registration may ask for: the terms of an initial access token and of a route, and a route's own policy.
//!
//! Terms are held against what the registration will be, not against what the request says: a member that is left out
//! is not a way around them, and updates meet the same terms.

use std::collections::BTreeSet;

use registrar_core::{Error, ErrorKind, Result};
use registrar_model::{ClientMetadata, Issue, IssueCode, Issues, Pointer, member::StringMember as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;

use crate::routing::{Rule, Verdict};

/// What may be registered. An absent list restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Only at these routes; a token for the endpoint without a name is not tied to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<BTreeSet<String>>,
    /// Only these scopes. A request without any gets all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeSet<String>>,
    /// Only these hosts in redirect URIs, and, written as `scheme:`, these schemes of native applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_hosts: Option<BTreeSet<String>>,
}

impl Terms {
    /// Fills in what the terms decide, then records what they do not allow.
    pub(crate) fn apply(&self, metadata: &mut ClientMetadata, issues: &mut Issues) {
        let at = Pointer::root().child("metadata");
        if let Some(allowed) = &self.scopes {
            if metadata.scope.as_ref().is_none_or(registrar_model::Scope::is_empty) {
                metadata.scope = registrar_model::Scope::from_tokens(allowed);
            }
            let asked = metadata.scope.iter().flat_map(registrar_model::Scope::tokens);
            let refused: Vec<&str> = asked.filter(|t| !allowed.contains(*t)).collect();
            if !refused.is_empty() {
                let detail = format!("not allowed here: {}", refused.join(" "));
                issues.push(at.child("scope"), IssueCode::InvalidValue, detail);
            }
        }
        let Some(hosts) = &self.redirect_hosts else { return };
        let redirects = metadata.redirect_uris.iter().flatten().map(registrar_model::RedirectUri::as_str);
        for (i, uri) in redirects.enumerate().filter(|(_, uri)| !is_listed(uri, hosts)) {
            let detail = format!("its host or scheme is not allowed here: {}", host_of(uri));
            issues.push(at.child("redirect_uris").child(i), IssueCode::InvalidRedirectUri, detail);
        }
        let logout = metadata.post_logout_redirect_uris.iter().flatten();
        for (i, _) in logout.enumerate().filter(|(_, uri)| !is_listed(uri, hosts)) {
            let detail = "its host or scheme is not allowed here";
            issues.push(at.child("post_logout_redirect_uris").child(i), IssueCode::InvalidUrl, detail);
        }
    }
}

/// True for an application scheme that no domain name stands behind, so that any application may claim it
/// (RFC 8252 §7.1).
#[must_use]
pub fn is_claimable(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.contains('.') && !["https", "http"].iter().any(|web| scheme.eq_ignore_ascii_case(web))
    })
}

/// Refuses redirect URIs that any application may claim.
pub(crate) fn refuse_claimable(metadata: &ClientMetadata, issues: &mut Issues) {
    let at = Pointer::root().child("metadata").child("redirect_uris");
    for (i, uri) in metadata.redirect_uris.iter().flatten().enumerate() {
        if is_claimable(uri.as_str()) {
            let detail = "its scheme is not a reversed domain name, such as com.example.app (RFC 8252 section 7.1)";
            issues.push(at.child(i), IssueCode::InvalidRedirectUri, detail);
        }
    }
}

/// Parsed hosts are compared, never patterns (CVE-2023-6544).
fn host_of(uri: &str) -> String {
    match Url::parse(uri) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url.host_str().unwrap_or_default().to_owned(),
        Ok(url) => format!("{}:", url.scheme()),
        Err(_) => String::new(),
    }
}

/// The longest list that a client may register by itself. An administrator's lists end where the vendor's do.
const LONGEST_LIST: usize = 100;

/// Refuses lists of more than [`LONGEST_LIST`] elements.
pub(super) fn refuse_long_lists(metadata: &ClientMetadata, issues: &mut Issues) {
    for (name, value) in metadata.encode() {
        let Some(length) = value.as_array().map(Vec::len).filter(|length| *length > LONGEST_LIST) else { continue };
        let detail = format!("has {length} elements; a client may register up to {LONGEST_LIST} by itself");
        issues.push(Pointer::root().child("metadata").child(&name), IssueCode::TooLong, detail);
    }
}

fn is_listed(uri: &str, hosts: &BTreeSet<String>) -> bool {
    let host = host_of(uri);
    hosts.iter().any(|h| h.eq_ignore_ascii_case(&host))
}

/// Holds a route's policy against the metadata as it will be, defaults filled in.
///
/// # Errors
/// [`ErrorKind::Validation`] with the policy's name; also when it cannot be evaluated.
pub(crate) fn check_policy(name: &str, policy: &Rule, metadata: &ClientMetadata) -> Result<()> {
    let mut effective = metadata.encode();
    effective.insert("token_endpoint_auth_method".to_owned(), json!(metadata.auth_method().text()));
    let words = |list: Vec<String>| Value::from(list);
    let grants = metadata.effective_grant_types().iter().map(|g| g.text().to_owned()).collect();
    let responses = metadata.effective_response_types().iter().map(|r| r.text().to_owned()).collect();
    effective.insert("grant_types".to_owned(), words(grants));
    effective.insert("response_types".to_owned(), words(responses));
    effective.entry("application_type").or_insert_with(|| json!("web"));
    let mut variables = Map::new();
    variables.insert("metadata".to_owned(), Value::Object(effective));
    let why = match policy.evaluate(&variables) {
        Verdict::Matched => return Ok(()),
        Verdict::NotMatched => "it is not fulfilled".to_owned(),
        Verdict::Missing(why) => why,
        Verdict::Failed(why) => {
            policy.tell_failure(name, &why);
            why
        }
    };
    let detail = format!("the registration policy of route `{name}` refuses this: {why}");
    Err(Error::new(ErrorKind::Validation, detail.clone()).with_issues(vec![Issue {
        pointer: Pointer::root().child("metadata"),
        code: IssueCode::InvalidValue,
        detail,
    }]))
}
