//! Which of a vendor's clients may be the one that a create made whose answer was lost.
//!
//! A client that looks like what was asked is ours when the vendor dates it after we asked, by the vendor's own clock.
//! One from shortly before could be somebody else's as well as ours: a person decides. Older ones are somebody else's.

use registrar_core::VendorClient;
use registrar_store::Operation;

/// Vendors date by whole seconds, and answers are on their way for a while.
const PRECISION: i64 = 2_000;
/// What is older than this, in milliseconds, is somebody else's whatever the clocks say.
const DOUBT: i64 = 300_000;

/// When a client was made, seen from a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// After we asked.
    Since,
    /// Shortly before we asked, or the vendor's clock is not known: this many seconds before, by the clocks as they are.
    About(i64),
    /// Long before we asked.
    LongBefore,
    /// The vendor does not say.
    Undated,
}

/// `skew` is how far our clock is ahead of the vendor's, in milliseconds, where that was learnt.
pub(crate) fn made(client: &VendorClient, operation: &Operation, skew: Option<i64>) -> Made {
    client.client_id_issued_at.map_or(Made::Undated, |at| dated(at, operation.created_at, skew))
}

fn dated(at: i64, asked: i64, skew: Option<i64>) -> Made {
    let before = asked.saturating_sub(skew.unwrap_or(0)).saturating_sub(at.saturating_mul(1000));
    match skew {
        Some(_) if before <= PRECISION => Made::Since,
        _ if before <= DOUBT + PRECISION => Made::About(before.div_euclid(1000)),
        _ => Made::LongBefore,
    }
}

/// What a person is told of a client that may be ours.
pub(crate) fn in_words(client: &VendorClient, seconds_before: i64, skew: Option<i64>) -> String {
    let id = &client.client_id;
    match (skew, seconds_before) {
        (Some(_), before) => format!("{id} was made {before} s before we asked"),
        (None, before @ 1..) => {
            format!("{id} was made {before} s before we asked, if the vendor's clock is right, which it does not show")
        }
        (None, after) => {
            format!("{id} was made {} s after we asked, if the vendor's clock is right, which it does not show", -after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_since_is_ours() {
        let asked = 1_000_000_000;
        for (at, skew, wanted) in [
            // whole seconds are rounded down
            (999_999, Some(0), Made::Since),
            (999_998, Some(0), Made::Since),
            (999_997, Some(0), Made::About(3)),
            (999_900, Some(0), Made::About(100)),
            (999_700, Some(0), Made::About(300)),
            (999_690, Some(0), Made::LongBefore),
            (1_000_500, Some(0), Made::Since),
            // the vendor's clock is 100 s behind ours: what it makes now has the date of then
            (999_900, Some(100_000), Made::Since),
            (999_800, Some(100_000), Made::About(100)),
            // and 100 s ahead: what seems to be of now is 100 s old
            (1_000_000, Some(-100_000), Made::About(100)),
            (1_000_099, Some(-100_000), Made::Since),
            // not learnt: nothing is ours by its date alone
            (1_000_000, None, Made::About(0)),
            (1_000_010, None, Made::About(-10)),
            (999_900, None, Made::About(100)),
            (999_600, None, Made::LongBefore),
        ] {
            assert_eq!(dated(at, asked, skew), wanted, "{at} {skew:?}");
        }
    }
}
