//! Warnings about routes that no request reaches, and about requests that no route takes.

use std::{collections::BTreeMap, ops::Range};

use super::{diagnostic::Collector, section::Section};
use crate::{
    dcr::Access,
    routing::{Rule, Verdict},
};

/// What the routes so far take, in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// The first route that takes every request.
    takes_all: Option<String>,
    /// The routes by the text of their rules.
    rules: BTreeMap<String, String>,
}

impl Reach {
    /// Warns of a route that no request reaches. One that registers clients is reached by its name.
    pub(super) fn route(
        &mut self,
        s: &Section<'_, '_>,
        name: &str,
        when: Option<&Rule>,
        access: Access,
        out: &mut Collector<'_>,
    ) {
        let unreached = self.why_unreached(when);
        if let Some(why) = unreached.filter(|_| access == Access::Closed) {
            let hint = "move it before that route, or give one of them another `when`";
            s.warn("name", out, format!("no request reaches `{name}`: {why}"), Some(hint.to_owned()));
        }
        if self.takes_all.is_none() && when.is_none_or(Rule::always_matches) {
            self.takes_all = Some(name.to_owned());
        }
        if let Some(rule) = when {
            self.rules.entry(rule.source().to_owned()).or_insert_with(|| name.to_owned());
        }
    }

    fn why_unreached(&self, when: Option<&Rule>) -> Option<String> {
        if let Some(before) = &self.takes_all {
            return Some(format!("`{before}` before it always matches"));
        }
        let rule = when?;
        if let Some(before) = self.rules.get(rule.source()) {
            return Some(format!("`{before}` before it has the same rule"));
        }
        (rule.constant() == Some(Verdict::NotMatched)).then(|| "its rule is never true".to_owned())
    }

    /// Warns where a request may match no route.
    pub(super) fn end(&self, span: Option<Range<usize>>, routes: usize, out: &mut Collector<'_>) {
        if self.takes_all.is_some() {
            return;
        }
        let message = if routes == 0 {
            "there are no routes: a request that does not name its backend is refused with 422 `no-route`"
        } else {
            "no route takes what the others leave: a request that matches none of them is refused with 422 `no-route`"
        };
        let hint = "add a last route without `when`";
        out.warn(span, "routes", message, Some(hint.to_owned()));
    }
}
