//! How many connections one address may have.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// How many connections each network has.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// The connections of each address.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    most: Option<usize>,
    open: Open,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(IpAddr, Open)>);

impl Addresses {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { most, open: Arc::default() }
    }

    /// Counts one more; `None` when the address has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let Some(most) = self.most.filter(|_| !address.is_loopback()) else { return Some(Place(None)) };
        let network = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Place(Some((network, Arc::clone(&self.open)))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((network, open)) = &self.0 else { return };
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                open.remove(network);
            }
        }
    }
}

/// One household has a whole IPv6 network (RFC 6177): its /64 counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_number_of_connections_and_no_more() {
        let addresses = Addresses::new(Some(2));
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let first = enter("192.0.2.1").unwrap();
        let second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        assert!(enter("192.0.2.2").is_some(), "another one");
        let network = [enter("2001:db8::1"), enter("2001:db8::2"), enter("2001:db8::3")];
        assert_eq!(network.each_ref().map(Option::is_some), [true, true, false]);
        drop(first);
        let third = enter("192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_none());
        drop((second, third, network));
        assert!(addresses.open.lock().unwrap().is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn loopback_peers_and_proxies_are_not_counted() {
        for (most, address) in
            [(Some(0), "127.0.0.1"), (Some(0), "::1"), (Some(0), "::ffff:127.0.0.1"), (None, "192.0.2.1")]
        {
            assert!(Addresses::new(most).enter(address.parse().unwrap()).is_some(), "{address}");
        }
    }
}
