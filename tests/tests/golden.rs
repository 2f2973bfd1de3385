//! What each registration of `fixtures/` becomes at each vendor: the wire request and every loss, side by side with the
//! input, so that a change of a mapping is seen in review. `INSTA_UPDATE=always cargo test -p registrar-tests --test
//! golden` writes them anew.

use registrar_model::NewRegistration;
use registrar_tests::Rig;
use serde_json::{Value, json};

const FIXTURES: [&str; 5] = ["minimal", "portal", "public_spa", "machine", "everything"];

#[test]
fn mappings_are_as_reviewed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for fixture in FIXTURES {
        let file = format!("{}/fixtures/{fixture}.json", env!("CARGO_MANIFEST_DIR"));
        let input: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let spec = NewRegistration::decode(&input).unwrap().spec;
        for vendor in registrar_adapters::VENDORS {
            let kind = vendor.descriptor.kind;
            let shown = runtime.block_on(async {
                let rig = Rig::new(kind).await.unwrap();
                let port = format!("http://{}", rig.host.addr());
                let shown = match rig.adapter.preview(&spec) {
                    Ok(plan) => json!({ "requests": plan.value, "losses": plan.losses }),
                    Err(error) => {
                        json!({ "code": error.kind().slug(), "detail": error.detail(), "errors": error.issues() })
                    }
                };
                shown.to_string().replace(&port, "http://fake")
            });
            let shown: Value = serde_json::from_str(&shown).unwrap();
            insta::with_settings!({ info => &input, omit_expression => true, prepend_module_to_snapshot => false }, {
                insta::assert_json_snapshot!(format!("{fixture}.{kind}"), shown);
            });
        }
    }
}
