//! A gate on the way to the vendors, or to the database, which the tests shut and open: the moments in which a process is to die, to stand
//! still, or to lose its disk, without waiting for them by the clock.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// What is held back while the gate is shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The vendor does not hear of what is sent.
    There,
    /// The vendor has done it; its answer does not arrive.
    Back,
}

#[derive(Default)]
struct State {
    shut: Option<Way>,
    /// Only what is asked, or answered to what is asked, with this method.
    method: Option<&'static str>,
    /// Connections with something that waits.
    held: usize,
    /// The near ends of all connections so far.
    near: Vec<TcpStream>,
    over: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// The method of the last request on a connection.
type Asked = Arc<Mutex<String>>;

/// A relay between a gateway and whom it calls.
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    shared: Shared,
}

impl Gate {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared::default();
        let gate = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for near in listener.incoming() {
                if shared.0.lock().unwrap().over {
                    return;
                }
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(target)) else { continue };
                shared.0.lock().unwrap().near.push(near.try_clone().unwrap());
                let asked = Asked::default();
                for (way, from, to) in [(Way::There, &near, &far), (Way::Back, &far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (shared, asked) = (Arc::clone(&shared), Arc::clone(&asked));
                    std::thread::spawn(move || relay(way, from, to, &asked, &shared));
                }
            }
        });
        gate
    }

    /// From now on nothing passes in this direction.
    pub(crate) fn shut(&self, way: Way) {
        let mut state = self.shared.0.lock().unwrap();
        (state.shut, state.method) = (Some(way), None);
    }

    /// From now on nothing passes in this direction that has to do with this method.
    pub(crate) fn shut_for(&self, method: &'static str, way: Way) {
        let mut state = self.shared.0.lock().unwrap();
        (state.shut, state.method) = (Some(way), Some(method));
    }

    /// Returns when at least `count` connections have something that waits.
    pub(crate) fn wait_for(&self, count: usize) {
        let state = self.shared.0.lock().unwrap();
        let limit = Duration::from_secs(20);
        let (state, late) = self.shared.1.wait_timeout_while(state, limit, |state| state.held < count).unwrap();
        assert!(!late.timed_out(), "{} of {count} arrived at the gate", state.held);
    }

    /// Ends all connections, as a network does that breaks.
    pub(crate) fn cut(&self) {
        for near in self.shared.0.lock().unwrap().near.drain(..) {
            // it may have ended already
            let _ = near.shutdown(Shutdown::Both);
        }
    }

    /// Lets everything pass.
    pub(crate) fn open(&self) {
        self.shared.0.lock().unwrap().shut = None;
        self.shared.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.0.lock().unwrap().over = true;
        self.open();
        // wakes the listener, which then ends
        let _ = TcpStream::connect(self.address);
    }
}

fn relay(way: Way, mut from: TcpStream, mut to: TcpStream, asked: &Asked, shared: &Shared) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        // a body is JSON or a form: neither begins with a word in capitals and a blank
        let word: String = buffer[..n].iter().take_while(|b| b.is_ascii_uppercase()).map(|b| char::from(*b)).collect();
        if way == Way::There && !word.is_empty() && buffer.get(word.len()) == Some(&b' ') {
            *asked.lock().unwrap() = word;
        }
        let method = asked.lock().unwrap().clone();
        let waits = |state: &State| state.shut == Some(way) && state.method.is_none_or(|only| only == method);
        let mut state = shared.0.lock().unwrap();
        if waits(&state) {
            state.held += 1;
            shared.1.notify_all();
            state = shared.1.wait_while(state, |state| waits(state)).unwrap();
            state.held -= 1;
        }
        drop(state);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // one direction that has ended is the end of a vendor's call
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
