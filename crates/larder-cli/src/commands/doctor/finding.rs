//! What a check found.

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    Ok,
    Advice,
    Warning,
    Failure,
}

impl Grade {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }

    pub(super) const fn is_fit(self) -> bool {
        matches!(self, Self::Ok | Self::Advice)
    }
}

#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) grade: Grade,
    pub(super) found: String,
    /// What to do; empty where all is well or nothing is known.
    pub(super) todo: &'static str,
}

impl Finding {
    pub(super) const fn new(check: &'static str, found: String, grade: Grade, todo: &'static str) -> Self {
        Self { check, grade, found, todo }
    }

    pub(super) const fn ok(check: &'static str, found: String) -> Self {
        Self::new(check, found, Grade::Ok, "")
    }

    /// The server does not say it: nothing is held against it.
    pub(super) fn unknown(check: &'static str) -> Self {
        Self::ok(check, "unknown".to_owned())
    }

    pub(super) fn document(&self) -> Value {
        json!({"check": self.check, "grade": self.grade.name(), "found": self.found, "todo": self.todo})
    }

    pub(super) fn row(&self) -> [String; 4] {
        [self.check.to_owned(), self.grade.name().to_owned(), self.found.clone(), self.todo.to_owned()]
    }
}
