//! Replacing is exact, whatever verb the vendor has.

use proptest::strategy::{Strategy as _, ValueTree as _};
use registrar_model::account::{account, effective};
use registrar_tests::{Rig, generate};
use serde_json::json;

use super::{
    Law, block_on, ensure,
    laws::{check_account, plain, runner, spec},
};

pub(super) const LAWS: &[Law] = &[
    ("replace_is_exact", replace),
    ("an_update_that_changes_nothing_sends_nothing", nothing),
    ("a_removed_member_is_gone_or_reported", removal),
];

fn replace(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        rig.host.without_ledger();
        let mut runner = runner();
        let strategy = generate::registration("-u");
        let mut updated = 0;
        for case in 0..400 {
            rig.host.reset();
            let mut next = || strategy.new_tree(&mut runner).map(|t| t.current().spec).map_err(|e| e.to_string());
            let (first, second) = (next()?, next()?);
            let Ok(created) = rig.adapter.create(&first).await else { continue };
            let losses = account(&first, &created.value.spec, created.losses);
            let record = effective(&first, &created.value.spec, &losses).map_err(|e| format!("{e:?}"))?;
            let target = created.value.target();
            let Ok(mapped) = rig.adapter.update(&target, &record, &second).await else { continue };
            updated += 1;
            let losses = account(&second, &mapped.value.spec, mapped.losses);
            // an update may give the client another token
            let read = rig.adapter.read(&mapped.value.target()).await.map_err(|e| e.to_string())?;
            ensure(read.spec == mapped.value.spec, || {
                format!(
                    "case {case}: the update answered {:?}, a read shows {:?}",
                    mapped.value.spec.flatten(),
                    read.spec.flatten()
                )
            })?;
            check_account(&second, &read.spec, &losses).map_err(|e| format!("case {case}: {e}"))?;
        }
        ensure(updated > 100, || format!("only {updated} updates were made"))
    })
}

fn nothing(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let sent = plain("Same")?;
        let created = rig.adapter.create(&sent).await.map_err(|e| e.to_string())?;
        let losses = account(&sent, &created.value.spec, created.losses);
        let record = effective(&sent, &created.value.spec, &losses).map_err(|e| format!("{e:?}"))?;
        let plan = rig.adapter.preview_update(&created.value.target(), &record, &record).map_err(|e| e.to_string())?;
        ensure(plan.value.is_empty(), || format!("{:?}", plan.value))
    })
}

fn removal(kind: &'static str) -> Result<(), String> {
    block_on(async {
        let rig = Rig::new(kind).await?;
        let full = spec(json!({
            "client_name": "Removal", "redirect_uris": ["https://a.example/cb"], "scope": "openid profile",
            "client_uri": "https://a.example", "logo_uri": "https://a.example/logo.png", "tos_uri": "https://a.example/tos",
            "policy_uri": "https://a.example/privacy", "post_logout_redirect_uris": ["https://a.example/out"],
            "initiate_login_uri": "https://a.example/login", "backchannel_logout_uri": "https://a.example/bye"
        }))?;
        let bare = spec(
            json!({ "client_name": "Removal", "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" }),
        )?;
        let created = rig.adapter.create(&full).await.map_err(|e| e.to_string())?;
        let losses = account(&full, &created.value.spec, created.losses);
        let record = effective(&full, &created.value.spec, &losses).map_err(|e| format!("{e:?}"))?;
        let updated = rig.adapter.update(&created.value.target(), &record, &bare).await.map_err(|e| e.to_string())?;
        let read = rig.adapter.read(&updated.value.target()).await.map_err(|e| e.to_string())?;
        let losses = account(&bare, &read.spec, updated.losses);
        check_account(&bare, &read.spec, &losses)?;
        for member in [
            "client_uri",
            "logo_uri",
            "tos_uri",
            "policy_uri",
            "post_logout_redirect_uris",
            "initiate_login_uri",
            "backchannel_logout_uri",
        ] {
            ensure(!read.spec.flatten().contains_key(&format!("metadata.{member}")), || {
                format!("{member} is still there")
            })?;
        }
        Ok(())
    })
}
