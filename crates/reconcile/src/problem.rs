//! What a person should know: typed problems, from which status, readiness, metrics, logs and Events are made.
//!
//! Pure. A problem is the same one for as long as its kind and its subject are the same; its detail may change meanwhile. Sentences are
//! made where a person reads them ([`Problem`]'s `Display`).

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Something that is wrong. `K` is the list of kinds of the program that reports it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem<K> {
    /// The kind of problem.
    pub kind: K,
    /// The object: `route 10.244.2.0/24`.
    pub subject: String,
    /// What is wrong with the object. Subject and detail make a sentence.
    pub detail: String,
    /// What to type or to do, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Problems, each once.
pub type Problems<K> = BTreeSet<Problem<K>>;

impl<K> Problem<K> {
    /// A problem without a remedy.
    pub fn new(kind: K, subject: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { kind, subject: subject.into(), detail: detail.into(), remedy: None }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

impl<K: Ord> Problem<K> {
    /// True if a person learns nothing new from `self` after `known`.
    pub fn says_the_same_as(&self, known: &Self) -> bool {
        (self, &self.detail, &self.remedy) == (known, &known.detail, &known.remedy)
    }
}

impl<K: PartialEq> PartialEq for Problem<K> {
    fn eq(&self, other: &Self) -> bool {
        (&self.kind, &self.subject) == (&other.kind, &other.subject)
    }
}

impl<K: Eq> Eq for Problem<K> {}

impl<K: Ord> Ord for Problem<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.kind, &self.subject).cmp(&(&other.kind, &other.subject))
    }
}

impl<K: Ord> PartialOrd for Problem<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> fmt::Display for Problem<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.detail)?;
        match &self.remedy {
            Some(remedy) => write!(f, ": {remedy}"),
            None => Ok(()),
        }
    }
}

/// The difference between two lists of problems.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes<'p, K> {
    /// Problems that have begun, or whose detail has changed.
    pub new: Vec<&'p Problem<K>>,
    /// Problems that are over.
    pub over: Vec<&'p Problem<K>>,
}

/// What has changed from `before` to `now`.
pub fn changes<'p, K: Ord>(before: &'p Problems<K>, now: &'p Problems<K>) -> Changes<'p, K> {
    let is_known = |problem: &Problem<K>| before.get(problem).is_some_and(|known| problem.says_the_same_as(known));
    let new = now.iter().filter(|problem| !is_known(problem)).collect();
    Changes { new, over: before.difference(now).collect() }
}

#[cfg(test)]
mod tests;
