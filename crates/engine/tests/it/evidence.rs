//! What the journal keeps of a create.

use std::sync::Arc;

use registrar_model::{LossKind, Severity};
use registrar_store::{MemoryStore, Store as _};
use serde_json::json;

use crate::rig::{Faulty, caller, gateway, request, vendor};

/// Values of the vendor's own are named; what happened to members that were sent is told in full. Who can ask for the
/// answer again gets it whole.
#[tokio::test]
async fn the_vendors_own_values_are_named_and_told_to_whom_may_repeat() {
    for kind in ["loop", "bitgo"] {
        let inner = Arc::new(MemoryStore::new());
        let engine = gateway(&Faulty::over(&inner), &vendor(kind));
        let mut asked = request(kind, "Told");
        asked.spec.metadata.software_id = Some("told".to_owned());
        let once = engine.create(&caller(None), asked).await.unwrap();
        let kept = inner.operation(once.operation).await.unwrap().unwrap().evidence;
        let (own, told): (Vec<_>, Vec<_>) =
            once.losses.iter().partition(|loss| (loss.kind, loss.severity) == (LossKind::Defaulted, Severity::Info));
        assert!(!own.is_empty() && !told.is_empty(), "{kind}: {:?}", once.losses);
        assert_eq!(kept["losses"], json!(told), "{kind}");
        assert_eq!(kept["defaulted"], json!(own.iter().map(|loss| &loss.field).collect::<Vec<_>>()), "{kind}");

        let first = engine.create(&caller(Some("again")), request(kind, "Again")).await.unwrap();
        let kept = inner.operation(first.operation).await.unwrap().unwrap().evidence;
        assert_eq!(kept, json!({ "losses": first.losses }), "{kind}");
        let again = engine.create(&caller(Some("again")), request(kind, "Again")).await.unwrap();
        assert_eq!((again.replayed, json!(again.losses)), (true, json!(first.losses)), "{kind}");
    }
}
