//! The registration endpoint without a route's name, and what discovery says of a route.

use registrar_model::ClientMetadata;
use serde_json::{Map, Value};

use super::{Access, choices};
use crate::engine::Engine;

impl Engine {
    /// Says who may register at a route, by its name, or at the endpoint without one; `None` when there is no such route.
    ///
    /// The endpoint without a name is open where `[registration] root` says so, and by default where exactly one route may
    /// register. It is as closed as the most closed of the routes that may.
    #[must_use]
    pub fn access(&self, route: Option<&str>) -> Option<Access> {
        let runtime = self.runtime.load();
        if let Some(name) = route {
            return runtime.routes.iter().find(|r| r.name == name).map(|r| self.door(Some(r)).access);
        }
        let registering = runtime.routes.iter().map(|r| self.door(Some(r)).access).filter(|a| *a != Access::Closed);
        let registering: Vec<Access> = registering.collect();
        let is_on = self.options.registration.root.unwrap_or(registering.len() == 1);
        Some(registering.into_iter().min().filter(|_| is_on).unwrap_or_default())
    }

    /// Lists the routes at which clients may register, in their order.
    #[must_use]
    pub fn registering(&self) -> Vec<String> {
        let runtime = self.runtime.load();
        let may = runtime.routes.iter().filter(|r| self.door(Some(r)).access != Access::Closed);
        may.map(|r| r.name.clone()).collect()
    }

    /// The members that the configuration gives to a route's discovery document. The endpoint without a name has those of
    /// the only route that may register.
    #[must_use]
    pub fn discovery(&self, route: Option<&str>) -> Map<String, Value> {
        let runtime = self.runtime.load();
        let only = match route {
            Some(name) => Some(name.to_owned()),
            None => match self.registering().as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            },
        };
        let route = runtime.routes.iter().find(|r| Some(&r.name) == only.as_ref());
        route.map(|r| r.registration.discovery.clone()).unwrap_or_default()
    }

    /// Which of `values` a registration at a route, or at any that may register, may have in one member, as far as the
    /// adapters say.
    #[must_use]
    pub fn supported(
        &self,
        route: Option<&str>,
        field: &str,
        values: &[(&'static str, ClientMetadata)],
    ) -> Vec<&'static str> {
        let runtime = self.runtime.load();
        let counts = |r: &&crate::config::RouteConfig| match route {
            Some(name) => r.name == name,
            None => self.door(Some(r)).access != Access::Closed,
        };
        let backends: Vec<_> =
            runtime.routes.iter().filter(counts).filter_map(|r| runtime.backends.get(&r.backend)).collect();
        let holds =
            |metadata: &ClientMetadata| backends.iter().any(|b| choices::holds(b.adapter.as_ref(), metadata, field));
        values.iter().filter(|(_, metadata)| holds(metadata)).map(|(word, _)| *word).collect()
    }
}
