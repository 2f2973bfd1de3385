//! `policy`: admin-only members that RFC 7591 lacks. Never writable through `/register`.

use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Map, Value};

use crate::{
    issue::{IssueCode, Issues, Position},
    loss::Severity::{Functional, Security},
    metadata::layer,
    spec::{Differences, is_empty},
};

layer! {
    /// Admin-only members. Every member is optional; an absent one leaves the vendor's own default.
    Policy, "policy", also {};
    enabled: bool, Security, Exact, Some("true"), false, "Registrar", "Whether the client may be used at all.";
    allowed_cors_origins: Vec<String>, Functional, Set, None, false, "Registrar", "Origins that may call the vendor's endpoints from browsers.";
    allowed_web_origins: Vec<String>, Functional, Set, None, false, "Registrar", "Origins checked at the token endpoint.";
    redirect_domains: Vec<String>, Functional, Set, None, false, "Registrar", "Whole domains that redirects may go to.";
    owner: String, Functional, Exact, None, false, "Registrar", "The vendor's id of the owner.";
    tenant: String, Functional, Exact, None, false, "Registrar", "The vendor's id of the tenant, brand or enterprise.";
    organizations: Vec<String>, Functional, Set, None, false, "Registrar", "The vendor's ids of organisations that the client belongs to.";
    first_party: bool, Security, Exact, Some("false"), false, "Registrar", "Whether consent is skipped.";
    security_profile: String, Security, Exact, None, false, "Registrar", "A named profile such as `fapi1`.";
    access_token_lifetime: u64, Security, Exact, None, false, "Registrar", "Seconds that access tokens live.";
    id_token_lifetime: u64, Security, Exact, None, false, "Registrar", "Seconds that ID Tokens live.";
    refresh_token_lifetime: u64, Security, Exact, None, false, "Registrar", "Seconds that refresh tokens live.";
    audiences: Vec<String>, Security, Set, None, false, "Registrar", "Audiences that tokens may name.";
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_map(None)?;
        self.serialize_typed(&mut out)?;
        out.end()
    }
}

impl Policy {
    /// Reads a policy object; an unknown member is an issue, because this object is ours.
    #[must_use]
    pub fn decode(object: &Map<String, Value>, at: &Position<'_>, issues: &mut Issues) -> Self {
        let mut out = Self::default();
        for (name, value) in object {
            // what is empty counts as absent, as everywhere
            if is_empty(value)
                && FIELDS.iter().any(|f| f.name == name && (value.is_null() || f.json.takes_empty(value)))
                || out.decode_typed(name, value, at, issues)
            {
                continue;
            }
            let known: Vec<&str> = FIELDS.iter().map(|f| f.name).collect();
            let detail = format!("`policy` has no such member; it has {}", known.join(", "));
            issues.push(at.child(name), IssueCode::UnknownMember, detail);
        }
        out
    }

    /// True when no member is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One member as JSON, by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        self.get_typed(name)
    }

    pub(crate) fn differences(&self, other: &Self, found: &mut Differences<'_>) {
        self.typed_differences(other, found);
    }

    /// The policy as a JSON object: absent members are absent.
    #[must_use]
    pub fn encode(&self) -> Map<String, Value> {
        let mut object = Map::new();
        self.encode_typed(&mut object);
        object
    }
}
