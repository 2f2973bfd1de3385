//! Every path in one place.

use axum::{
    Router, middleware,
    routing::{get, post},
};
use tower::layer::layer_fn;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{App, access, clients, operations, register, system, used};

/// The gateway as a router: for [`crate::serve`] and for tests.
pub fn router(app: App) -> Router {
    // behind authentication: their handlers take a `Principal`
    let protected = Router::new()
        .route("/v1/clients", post(clients::create).get(clients::list))
        .route(
            "/v1/clients/{id}",
            get(clients::read)
                .put(clients::replace)
                .patch(clients::patch)
                .delete(clients::delete)
                .post(used::act)
                .fallback(used::method_not_allowed),
        )
        .route("/v1/clients/{id}/secret", post(clients::rotate_secret))
        .route("/v1/operations", get(operations::list))
        .route(
            "/v1/operations/{id}",
            get(operations::read).post(operations::act).fallback(operations::method_not_allowed),
        )
        .route("/v1/initial-access-tokens", post(register::tokens::create).get(register::tokens::list))
        .route("/v1/initial-access-tokens/{id}", axum::routing::delete(register::tokens::delete))
        .route("/v1/backends", get(system::backends))
        .route("/v1/backends/{name}", get(system::backend))
        .route("/v1/vendors", get(system::vendors))
        .route("/v1/routes:evaluate", post(system::evaluate))
        // the same path, as clients write it that encode every reserved character
        .route("/v1/routes%3Aevaluate", post(system::evaluate))
        .route("/metrics", get(system::metrics))
        .method_not_allowed_fallback(system::method_not_allowed_here);
    let open = Router::new()
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
        .route("/openapi.json", get(system::openapi))
        .route("/problems/{code}", get(system::problem))
        .method_not_allowed_fallback(system::method_not_allowed);
    let docs: Router<App> = SwaggerUi::new("/docs").config(Config::from("/openapi.json")).into();
    let docs = docs.layer(middleware::from_fn_with_state(app.clone(), system::page));
    let observer = app.clone();
    protected
        .merge(open)
        .merge(docs)
        .merge(register::routes())
        .fallback(register::elsewhere::not_found)
        .layer(layer_fn(move |route| access::Observed::new(observer.clone(), route)))
        .with_state(app)
}
