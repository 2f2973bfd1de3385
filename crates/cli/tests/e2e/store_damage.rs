//! A store that is locked, or whose bytes were changed behind the gateway's back.
//!
//! `FLIPS=1000 cargo test -p registrar --test e2e store_damage -- --nocapture` is the long mode.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use crate::{
    http::try_raw,
    running::Gateway,
    truths::{KINDS, Seeded, create},
};

/// F33
#[test]
fn a_store_that_another_program_has_locked_is_not_served_from() {
    let mut gateway = Gateway::start();
    assert_eq!(create(gateway.address, "loop", "first").unwrap().0, 201);
    gateway.kill();
    let other = rusqlite::Connection::open(gateway.folder.path().join("registrar.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (code, told) = gateway.try_restart().unwrap_err();
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("locked by another process; end it or wait for it"), "{told}");
    other.execute_batch("ROLLBACK").unwrap();
    gateway.restart(None);
    assert_eq!(create(gateway.address, "loop", "second").unwrap().0, 201);
}

/// One way to be damaged.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// One byte of what is in use has another value.
    Byte,
    /// A sector of 512 bytes holds something else.
    Sector,
    /// The end of the file is missing.
    Tail,
}

fn damage(whole: &[u8], how: Damage, random: &mut Seeded) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let length = u64::try_from(bytes.len()).unwrap();
    let mut below = |end: u64| usize::try_from(random.below(end)).unwrap();
    match how {
        Damage::Byte => {
            // a file is padded with zeros; changing those damages nothing
            let at = std::iter::repeat_with(|| below(length)).find(|at| bytes[*at] != 0).unwrap();
            bytes[at] ^= u8::try_from(1 + below(255)).unwrap();
        }
        Damage::Sector => {
            let at = below(length / 512) * 512;
            bytes[at..at + 512].fill_with(|| u8::try_from(below(256)).unwrap());
        }
        Damage::Tail => bytes.truncate(1 + below(length - 1)),
    }
    bytes
}

/// What a gateway on a damaged store did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reaction {
    RefusedToStart,
    RefusedToAnswer,
    /// Nothing that is read here was hit.
    Unharmed,
    /// Another value than was stored: SQLite has no checksums.
    AnotherValue,
}

/// F34
#[test]
fn a_damaged_store_is_refused_or_reads_as_it_was_and_never_doubles_a_client() {
    let flips: u64 = std::env::var("FLIPS").ok().and_then(|f| f.parse().ok()).unwrap_or(36);
    let mut gateway = Gateway::start();
    let mut names = Vec::new();
    for n in 0..12 {
        for kind in KINDS {
            let name = format!("kept-{n}-{kind}");
            assert_eq!(create(gateway.address, kind, &name).unwrap().0, 201);
            names.push((kind, name));
        }
    }
    let before = registry(&gateway).unwrap();
    assert_eq!(before.len(), names.len());
    assert_eq!(gateway.terminate(), Some(0));
    let file = gateway.folder.path().join("registrar.db");
    let whole = std::fs::read(&file).unwrap();
    let mut random = Seeded(0xf11b);
    let mut figures: BTreeMap<(String, Reaction), u32> = BTreeMap::new();
    let mut doubled = Vec::new();
    for flip in 0..flips {
        let how = [Damage::Byte, Damage::Sector, Damage::Tail][usize::try_from(flip % 3).unwrap()];
        put(&file, &damage(&whole, how, &mut random));
        let reaction = match gateway.try_restart() {
            Err((code, told)) => {
                let clear = ["the store is damaged", "cannot be used by this version", "an input/output error"];
                assert!(matches!(code, Some(1 | 2)), "{how:?} {flip}: {code:?} {told}");
                assert!(clear.iter().any(|words| told.contains(words)), "{how:?} {flip}: {told}");
                Reaction::RefusedToStart
            }
            Ok(()) => {
                let writes = gateway.vendor_writes();
                let found = registry(&gateway);
                // the same requests again
                for (kind, name) in &names {
                    let answer = create(gateway.address, kind, name);
                    let (status, body) = answer.unwrap_or_else(|| panic!("{how:?} {flip}: {}", gateway.log()));
                    assert!(matches!(status, 201 | 404 | 422 | 500 | 503), "{how:?} {flip}: {body}");
                }
                let now = gateway.vendor_writes();
                if now > writes {
                    doubled.push(format!("{how:?} {flip}"));
                }
                gateway.kill();
                match found {
                    None => Reaction::RefusedToAnswer,
                    Some(found) if found == before => Reaction::Unharmed,
                    Some(_) => Reaction::AnotherValue,
                }
            }
        };
        *figures.entry((format!("{how:?}"), reaction)).or_default() += 1;
    }
    println!("{flips} damages: {figures:?}; doubled: {doubled:?}");
    put(&file, &whole);
    gateway.restart(None);
    assert_eq!(registry(&gateway).unwrap(), before, "the backup serves");
    assert_eq!(doubled, [""; 0]);
}

/// The file, without a log.
fn put(file: &Path, bytes: &[u8]) {
    for end in ["-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        let _ = std::fs::remove_file(name);
    }
    std::fs::write(file, bytes).unwrap();
}

/// Every record by id; nothing when the gateway refuses to read one.
fn registry(gateway: &Gateway) -> Option<BTreeMap<String, Value>> {
    let request =
        format!("GET /v1/clients?limit=200 HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gateway.address);
    let answer = try_raw(gateway.address, request.as_bytes())?;
    if answer.status != 200 {
        assert_eq!((answer.status, answer.text("/code").as_str()), (503, "store-unavailable"));
        return None;
    }
    let page = answer.json();
    assert_eq!(page.get("next_cursor").unwrap_or(&json!(null)), &json!(null));
    Some(page["items"].as_array().unwrap().iter().map(|r| (r["id"].as_str().unwrap().to_owned(), r.clone())).collect())
}
