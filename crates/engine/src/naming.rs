//! How clients are called where a vendor lets only one client have a name.

use registrar_model::OperationId;

use crate::keys::hash;

/// RFC 4648 §6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Characters of a mark; 60 bits.
const MARK: u32 = 12;

/// What makes a name the operation's own: 12 base32 characters of SHA-256 over its id. The first digits of the id itself
/// are the same for a minute. Only the id is needed, so that recovery finds the client of a lost answer by its name.
pub(crate) fn mark(operation: OperationId) -> String {
    let digest = hash(&operation.to_string());
    let bits = digest.iter().take(8).fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
    (1..=MARK)
        .map(|place| {
            let five = usize::try_from(bits >> (64 - 5 * place) & 31).unwrap_or_default();
            char::from(BASE32.get(five).copied().unwrap_or(b'a'))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_stable_and_differ() {
        let id: OperationId = "op_01a22f5a-c9ed-7490-a232-da472f8137cd".parse().unwrap();
        let next: OperationId = "op_01a22f5a-c9ed-7490-a232-da472f8137ce".parse().unwrap();
        // printf %s op_... | sha256sum | xxd -r -p | base32 | tr A-Z a-z | cut -c 1-12
        assert_eq!(mark(id), "q2abemx5atcz");
        assert_ne!(mark(id), mark(next));
    }
}
