//! Page cursors: the id of the last item, opaque to callers, strictly read.

use std::str::FromStr;

use crate::StoreError;

/// The cursor after an item.
pub(crate) fn after(id: &str) -> String {
    let mut out = String::from("c1");
    for byte in id.bytes() {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The id in a cursor, which must be one of the expected type.
pub(crate) fn read<T: FromStr + ToString>(cursor: Option<&str>) -> Result<Option<T>, StoreError> {
    let Some(cursor) = cursor else { return Ok(None) };
    let hex = cursor.strip_prefix("c1").filter(|h| h.len() % 2 == 0 && h.len() < 200).ok_or(StoreError::BadCursor)?;
    let mut text = String::new();
    for pair in hex.as_bytes().chunks(2) {
        let digit = |b: u8| DIGITS.iter().position(|d| *d == b);
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return Err(StoreError::BadCursor) };
        let byte = u8::try_from(high * 16 + low).map_err(|_| StoreError::BadCursor)?;
        if !byte.is_ascii_graphic() {
            return Err(StoreError::BadCursor);
        }
        text.push(char::from(byte));
    }
    text.parse().map(Some).map_err(|_| StoreError::BadCursor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use registrar_model::{OperationId, RegistrationId};

    use super::*;

    #[test]
    fn cursors_come_back_and_do_not_mix() {
        let id = RegistrationId::generate();
        let cursor = after(&id.to_string());
        assert_eq!(read::<RegistrationId>(Some(&cursor)).unwrap(), Some(id));
        assert!(matches!(read::<OperationId>(Some(&cursor)), Err(StoreError::BadCursor)));
    }

    proptest! {
        #[test]
        fn garbage_is_refused(text in "\\PC{0,60}|c1[0-9a-f]{0,80}") {
            prop_assert!(matches!(read::<RegistrationId>(Some(&text)), Err(StoreError::BadCursor)));
        }
    }
}
