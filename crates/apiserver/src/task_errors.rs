//! The errors that several tasks may see at once: a person reads each once, and one word when none is left.
//!
//! Pure.

use std::collections::BTreeMap;

/// The errors of the tasks that use one API server.
#[derive(Debug, Default)]
pub struct TaskErrors {
    by_task: BTreeMap<&'static str, String>,
    /// The task whose error was reported last.
    reported: Option<&'static str>,
}

/// What a person should read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskReport {
    /// A task fails, or fails otherwise.
    Failing(String),
    /// No task fails any more.
    Recovered,
}

impl TaskErrors {
    /// A task fails. `None` where a person knows of it: another task's error stands, or the text differs in numbers alone.
    pub fn report_error(&mut self, task: &'static str, text: &str) -> Option<TaskReport> {
        let before = self.by_task.insert(task, text.to_owned());
        let is_new = match self.reported {
            None => true,
            Some(reported) => reported == task && before.is_none_or(|before| essence(&before) != essence(text)),
        };
        is_new.then(|| {
            self.reported = Some(task);
            TaskReport::Failing(text.to_owned())
        })
    }

    /// A task does not fail any more.
    pub fn report_ok(&mut self, task: &'static str) -> Option<TaskReport> {
        self.by_task.remove(task)?;
        if let Some((other, text)) = self.by_task.first_key_value() {
            return (self.reported == Some(task)).then(|| {
                self.reported = Some(other);
                TaskReport::Failing(text.clone())
            });
        }
        self.reported = None;
        Some(TaskReport::Recovered)
    }
}

/// A text without its long numbers: rustls says by how many seconds a certificate has expired, another number each time.
fn essence(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_long_number = |word: &&str| word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    words.filter(|word| !is_long_number(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
