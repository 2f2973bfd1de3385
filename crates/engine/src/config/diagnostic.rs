//! Findings in a configuration file.

use std::{fmt, ops::Range, path::Path};

use serde::Serialize;

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// `backends[1].settings.base_url`; empty for the whole file.
    pub path: String,
    /// From 1; 0 when the finding has no place.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All findings in a file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    /// The file.
    pub file: String,
    /// The findings; never empty.
    pub errors: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let errors = vec![Diagnostic {
            path: String::new(),
            line: 0,
            column: 0,
            message: format!("the file cannot be read: {error}"),
            hint: Some("name it with --config FILE or REGISTRAR_CONFIG".to_owned()),
        }];
        Self { file: file.display().to_string(), errors }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}{error}", self.file)?;
        }
        Ok(())
    }
}

/// What stands after the name of the file: `:7:1: path: message` and, on a line of its own, the hint.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// Collects findings and turns byte offsets into lines and columns.
#[derive(Debug)]
pub(crate) struct Collector<'t> {
    text: &'t str,
    found: Vec<(usize, Diagnostic)>,
    warned: Vec<(usize, Diagnostic)>,
}

impl<'t> Collector<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), warned: Vec::new() }
    }

    pub(crate) fn push(
        &mut self,
        span: Option<Range<usize>>,
        path: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let found = self.diagnostic(span, path, message.into(), hint);
        self.found.push(found);
    }

    /// Records what keeps nothing from working, and is probably not meant.
    pub(crate) fn warn(
        &mut self,
        span: Option<Range<usize>>,
        path: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let warned = self.diagnostic(span, path, message.into(), hint);
        self.warned.push(warned);
    }

    fn diagnostic(
        &self,
        span: Option<Range<usize>>,
        path: &str,
        message: String,
        hint: Option<String>,
    ) -> (usize, Diagnostic) {
        let offset = span.map(|s| s.start.min(self.text.len()));
        let (line, column) = offset.map_or((0, 0), |offset| self.place(offset));
        (offset.unwrap_or(0), Diagnostic { path: path.to_owned(), line, column, message, hint })
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        (line, before[start..].chars().count() + 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The warnings, in the order of the file.
    pub(crate) fn warnings(mut self) -> Vec<Diagnostic> {
        self.warned.sort_by_key(|(offset, _)| *offset);
        self.warned.into_iter().map(|(_, d)| d).collect()
    }

    pub(crate) fn finish(mut self, file: &Path) -> Diagnostics {
        self.found.sort_by_key(|(offset, _)| *offset);
        Diagnostics { file: file.display().to_string(), errors: self.found.into_iter().map(|(_, d)| d).collect() }
    }
}
