//! Clients that were registered openly: how many there are, and which expire.

use std::sync::Arc;

use registrar_model::{Registration, RegistrationId, State};
use registrar_store::{RegistrationChange, Store, Unused, Usage};
use tokio::task::JoinSet;

use crate::{
    Any,
    common::{NOW, change, insert, registration},
};

/// A client of this route that expires then.
fn open(client_id: &str, route: Option<&str>, until: Option<i64>) -> Registration {
    let mut out = registration("a", client_id, "Open");
    out.hidden.open_route = route.map(str::to_owned);
    out.hidden.unused_until = until;
    out
}

async fn replace(store: &dyn Store, old: &Registration, next: Registration) {
    let next = Registration { version: old.version + 1, ..next };
    let update = RegistrationChange::Update { registration: Arc::new(next), expected_version: old.version };
    change(store, update).await.unwrap();
}

async fn until(store: &dyn Store, id: RegistrationId) -> Option<i64> {
    store.registration(id).await.unwrap().unwrap().hidden.unused_until
}

pub(crate) async fn living_clients_of_a_route_are_counted(store: Any) {
    assert_eq!(store.open_clients("r").await, Ok(0));
    let clients = [open("c1", Some("r"), None), open("c2", Some("r"), Some(NOW)), open("c3", Some("R\0"), None)];
    for sample in clients.iter().chain(&[open("c4", None, None)]) {
        insert(&*store, sample).await;
    }
    assert_eq!((store.open_clients("r").await, store.open_clients("R\0").await), (Ok(2), Ok(1)));
    for (state, count) in [(State::Disabled, 1), (State::Unknown, 2), (State::Gone, 1), (State::Active, 2)] {
        let old = store.registration(clients[0].id).await.unwrap().unwrap();
        replace(&*store, &old, Registration { state, ..old.clone() }).await;
        assert_eq!(store.open_clients("r").await, Ok(count), "{state:?}");
    }
    change(&*store, RegistrationChange::Remove { id: clients[1].id }).await.unwrap();
    assert_eq!(store.open_clients("r").await, Ok(1));
}

pub(crate) async fn a_use_is_noted_until_the_client_has_expired(store: Any) {
    let client = open("c1", Some("r"), Some(NOW));
    insert(&*store, &client).await;
    // too late is at that very moment
    for late in [NOW, NOW + 1] {
        assert_eq!(store.used(client.id, late).await, Ok(Usage::Expired));
        assert_eq!(until(&*store, client.id).await, Some(NOW));
    }
    assert_eq!(store.used(client.id, NOW - 1).await, Ok(Usage::Noted));
    let mut noted = client.clone();
    noted.hidden.unused_until = None;
    assert_eq!(store.registration(client.id).await, Ok(Some(noted)), "nothing else has changed");
    for ever_after in [NOW - 1, NOW + 1] {
        assert_eq!(store.used(client.id, ever_after).await, Ok(Usage::Noted));
    }
    assert_eq!(store.used(RegistrationId::generate(), NOW).await, Ok(Usage::Missing));
}

/// Whoever has read the client before its use was noted writes back what he has read.
pub(crate) async fn a_change_can_clear_an_expiry_and_not_bring_it_back(store: Any) {
    let client = open("c1", Some("r"), Some(NOW));
    insert(&*store, &client).await;
    replace(&*store, &client, client.clone()).await;
    assert_eq!(until(&*store, client.id).await, Some(NOW), "kept");
    let stale = store.registration(client.id).await.unwrap().unwrap();
    assert_eq!(store.used(client.id, NOW - 1).await, Ok(Usage::Noted));
    replace(&*store, &stale, stale.clone()).await;
    assert_eq!(until(&*store, client.id).await, None, "the use stands");
    let other = open("c2", Some("r"), Some(NOW));
    insert(&*store, &other).await;
    replace(&*store, &other, Registration { id: other.id, ..open("c2", Some("r"), None) }).await;
    assert_eq!(until(&*store, other.id).await, None);
    assert_eq!(store.unused(i64::MAX, None, 9).await, Ok(Vec::new()));
}

pub(crate) async fn unused_clients_are_listed_earliest_first(store: Any) {
    let mut expected = Vec::new();
    for (n, at) in [NOW + 2, NOW, NOW + 1, NOW, NOW + 9].into_iter().enumerate() {
        let client = open(&format!("c{n}"), Some("r"), Some(at));
        insert(&*store, &client).await;
        expected.push(Unused { until: at, id: client.id });
    }
    expected.sort_unstable();
    insert(&*store, &open("never", Some("r"), None)).await;
    for (n, state) in [State::Disabled, State::Unknown, State::Gone].into_iter().enumerate() {
        insert(&*store, &Registration { state, ..open(&format!("s{n}"), Some("r"), Some(NOW)) }).await;
    }
    assert_eq!(store.unused(NOW + 2, None, 200).await, Ok(expected[..4].to_vec()));
    assert_eq!(store.unused(NOW - 1, None, 200).await, Ok(Vec::new()));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.unused(NOW + 9, after, 2).await.unwrap();
        after = page.last().copied();
        seen.extend(page);
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
    assert_eq!(store.unused(NOW + 9, None, 0).await.unwrap().len(), 1);
}

/// Those that are in time are noted, whatever comes at the same moment.
pub(crate) async fn many_uses_at_once_are_one(store: Any) {
    let client = open("c1", Some("r"), Some(NOW));
    insert(&*store, &client).await;
    let mut uses = JoinSet::new();
    for n in 0..40 {
        let (store, id) = (Arc::clone(&store), client.id);
        uses.spawn(async move { store.used(id, NOW - 20 + n).await.unwrap() });
    }
    let told = uses.join_all().await;
    // what is too late by its own clock is noted all the same after one that was not
    assert!(told.iter().filter(|usage| **usage == Usage::Noted).count() >= 20, "{told:?}");
    assert_eq!(until(&*store, client.id).await, None);
}
