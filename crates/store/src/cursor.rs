//! Cursors of keyset pagination: the last id of a page, as an opaque URL-safe token. The first letter is the version,
//! the second the list, so that a cursor of another list or of a later format is refused instead of misread.

use std::{fmt::Display, str::FromStr};

use registrar_model::{OperationId, RegistrationId};

use crate::StoreError;

/// An id that can be a cursor.
pub(crate) trait Keyed: Display + FromStr {
    /// Version and list.
    const TAG: &'static str;
    /// What the id's text starts with.
    const PREFIX: &'static str;
}

impl Keyed for RegistrationId {
    const TAG: &'static str = "1r";
    const PREFIX: &'static str = "reg_";
}

impl Keyed for OperationId {
    const TAG: &'static str = "1o";
    const PREFIX: &'static str = "op_";
}

/// The token of an id.
pub(crate) fn encode<I: Keyed>(id: &I) -> String {
    let text = id.to_string();
    let hex = text.strip_prefix(I::PREFIX).unwrap_or(&text).replace('-', "");
    format!("{}{hex}", I::TAG)
}

/// The id of a token; only what [`encode`] makes is accepted.
pub(crate) fn decode<I: Keyed>(token: &str) -> Result<I, StoreError> {
    let hex = token.strip_prefix(I::TAG).ok_or(StoreError::BadCursor)?;
    if hex.len() != 32 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(StoreError::BadCursor);
    }
    let part = |range| hex.get(range).unwrap_or_default();
    let id = format!("{}{}-{}-{}-{}-{}", I::PREFIX, part(0..8), part(8..12), part(12..16), part(16..20), part(20..32));
    id.parse().map_err(|_| StoreError::BadCursor)
}

/// The id after which a page starts, if the request has a cursor.
pub(crate) fn after<I: Keyed>(page: &crate::PageRequest) -> Result<Option<I>, StoreError> {
    page.after.as_deref().map(decode).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tokens_round_trip_and_belong_to_one_list() {
        let id = RegistrationId::generate();
        let token = encode(&id);
        assert_eq!(decode::<RegistrationId>(&token), Ok(id));
        assert_eq!(decode::<OperationId>(&token), Err(StoreError::BadCursor));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric()), "{token}");
        let operation = OperationId::generate();
        assert_eq!(decode::<OperationId>(&encode(&operation)), Ok(operation));
    }

    #[test]
    fn other_spellings_are_refused() {
        let token = "1r0198c0de00007000800000000000abcd";
        assert!(decode::<RegistrationId>(token).is_ok());
        for bad in [token.to_uppercase(), format!("{token}0"), format!(" {token}"), token.replacen('1', "2", 1)] {
            assert_eq!(decode::<RegistrationId>(&bad), Err(StoreError::BadCursor), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused_and_what_is_accepted_has_one_spelling(token in "(1r|1o|)([0-9a-fA-F-]{30,34}|\\PC{0,40})") {
            match decode::<RegistrationId>(&token) {
                Ok(id) => prop_assert_eq!(encode(&id), token),
                Err(error) => prop_assert_eq!(error, StoreError::BadCursor),
            }
        }
    }
}
