//! What is wrong now, and about what: said until its cause is gone, or what it is about.

use crate::agent::Agent;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use teal_model::fault::Fault;
use teal_model::ids::{ReleaseKey, ServiceKey};
use teal_model::wire::ListenerKey;

/// One word stands for each: a later one replaces it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Of the agent itself.
    Part(&'static str),
    Port(ListenerKey),
    Service(ServiceKey, &'static str),
    /// Of no interest once it is not live any more.
    Release(ReleaseKey, &'static str),
}

impl From<&'static str> for Subject {
    fn from(part: &'static str) -> Self {
        Subject::Part(part)
    }
}

#[derive(Debug, Default)]
pub struct Alerts(Mutex<BTreeMap<Subject, String>>);

impl Alerts {
    fn now(&self) -> MutexGuard<'_, BTreeMap<Subject, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agent {
    pub fn alert(&self, subject: impl Into<Subject>, words: String) {
        let subject = subject.into();
        let before = self.said.now().insert(subject.clone(), words.clone());
        if before.as_ref() != Some(&words) {
            tracing::error!(?subject, "{words}");
        }
    }

    /// Words that change from moment to moment: only the first of them are of interest to the log.
    pub fn alert_once(&self, subject: impl Into<Subject>, words: String) {
        let subject = subject.into();
        if !self.said.now().contains_key(&subject) {
            tracing::error!(?subject, "{words}");
        }
        self.said.now().insert(subject, words);
    }

    /// Said where it failed, and not any more where it did not.
    pub fn tell(&self, subject: impl Into<Subject>, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.clear_alert(subject),
            Err(words) => self.alert(subject, words),
        }
    }

    /// What an nginx is not, and what goes on all the same.
    pub fn say_of_nginx(&self, said: &[Fault]) {
        let words: Vec<String> = said.iter().map(ToString::to_string).collect();
        self.tell("nginx", if words.is_empty() { Ok(()) } else { Err(words.join("; ")) });
    }

    pub fn clear_alert(&self, subject: impl Into<Subject>) {
        self.said.now().remove(&subject.into());
    }

    pub fn clear_alerts_where(&self, gone: impl Fn(&Subject) -> bool) {
        self.said.now().retain(|subject, _| !gone(subject));
    }

    /// Nobody asks about a service that was removed, or given back.
    pub fn clear_alerts_of(&self, service: &ServiceKey) {
        self.clear_alerts_where(|subject| match subject {
            Subject::Service(of, _) => of == service,
            Subject::Release(release, _) => &release.service == service,
            Subject::Part(_) | Subject::Port(_) => false,
        });
    }

    pub fn is_alerted(&self, subject: impl Into<Subject>) -> bool {
        self.said.now().contains_key(&subject.into())
    }

    pub fn alerts(&self) -> Vec<String> {
        self.said.now().values().cloned().collect()
    }
}
