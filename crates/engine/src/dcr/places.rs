//! How many clients may register openly at a route: those that live, and those that are about to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use registrar_core::{Error, ErrorKind, Result};
use registrar_store::{Action, OperationState};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::Kept;
use crate::engine::{Caller, Engine, Failure, store_error};

/// When a place may be free, nobody knows; a client that asks by itself shall not ask all the time.
const ASK_AGAIN: Duration = Duration::from_hours(1);

/// What is under way at each route.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<String, Arc<Room>>>);

#[derive(Debug, Default)]
struct Room {
    /// Registrations of this process that are not in the registry yet.
    taken: AtomicU64,
    /// Shared by those who record a client and then give its place back, so that whoever counts sees it in one of the two,
    /// and never in both: a place that is counted twice would be refused to somebody.
    recording: RwLock<()>,
}

impl Places {
    /// Routes are few: the configuration names them.
    fn room(&self, route: &str) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(route.to_owned()).or_default())
    }
}

/// The right to add one client to a route, until it is given back or dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    given_back: AtomicBool,
}

impl Place {
    /// To be held while the client is recorded and the place given back.
    pub(crate) async fn recording(&self) -> RwLockReadGuard<'_, ()> {
        self.room.recording.read().await
    }

    /// The client is in the registry and is counted there.
    pub(crate) fn give_back(&self) {
        if !self.given_back.swap(true, Ordering::AcqRel) {
            self.room.taken.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Engine {
    /// A place for a request, if it needs one: who had to show a token does not, nor does a repetition of a request that was
    /// served.
    ///
    /// # Errors
    /// As [`Self::earlier`]; [`ErrorKind::RateLimited`] when there is none.
    pub(super) async fn place_for(
        &self,
        caller: &Caller,
        open_route: Option<&str>,
        max: Option<u64>,
    ) -> Result<Option<Arc<Place>>, Failure> {
        let (Some(route), Some(max)) = (open_route, max) else { return Ok(None) };
        if self.earlier(caller).await?.is_some() {
            return Ok(None);
        }
        match self.place(route, max).await {
            // the first request has taken the last place, and was served while this one was counted
            Err(_) if self.earlier(caller).await?.is_some() => Ok(None),
            place => Ok(Some(place?)),
        }
    }

    /// A place for one more client at a route that may have `max`.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] when there is none; a store that does not work.
    async fn place(&self, route: &str, max: u64) -> Result<Arc<Place>> {
        let room = self.places.room(route);
        let counting = room.recording.write().await;
        // before the registry: what is found out in between is counted twice, and not missed
        let unknown = self.may_live(route).await?;
        let living = self.store.open_clients(route).await.map_err(store_error)?;
        if living + unknown + room.taken.load(Ordering::Acquire) >= max {
            tracing::info!(route, living, unknown, max_clients = max, "no more clients may register here");
            return Err(full());
        }
        room.taken.fetch_add(1, Ordering::AcqRel);
        drop(counting);
        Ok(Arc::new(Place { room, given_back: AtomicBool::new(false) }))
    }

    /// Registrations at the route of which nobody knows whether the vendor has made the client.
    async fn may_live(&self, route: &str) -> Result<u64> {
        let mut count = 0;
        let found = self.each_in(OperationState::Unknown, |o| {
            let desired = o.desired.as_deref().filter(|_| o.action == Action::Create);
            let kept = desired.map(Kept::of).unwrap_or_default();
            count += u64::from(kept.open_route.as_deref() == Some(route));
        });
        found.await.map_err(store_error)?;
        Ok(count)
    }
}

fn full() -> Error {
    let detail = "as many clients as may be registered here without a token are registered; delete one that is not needed any \
                  more (DELETE on its registration_client_uri), or ask the operator for an initial access token";
    Error::new(ErrorKind::RateLimited, detail).with_retry_after(Some(ASK_AGAIN))
}
