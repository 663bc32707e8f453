//! Objects of one sort as they are and as they change: a list, then a watch, and again from a list where the watch is too far behind.
//! What goes wrong is told, and tried again ever more rarely.
//!
//! The list is the beginning of the watch (KEP-3157): the API server takes it from its memory, and one object of it at a time is in
//! ours. One that refuses that is asked for pages. One that begins such a list and does not end it may only have gone away meanwhile:
//! pages are asked for where that has happened a few times in a row, and only for that list.
//!
//! Versions only grow, but for an etcd that is restored from a backup. An API server that is to tell what is newer than a version
//! that it has not come to yet tells nothing, and no error either: so one that was away is asked at which it is.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use serde_json::value::RawValue;
use tokio::time::{self, Instant};

use super::api::{Api, CallError, Lines, PAGE};
use super::object::{Answer, ByWire, Line, Object, Page, Whole};
use super::wire;

/// How many objects a page has. A Node may have 10 kB, and the memory for a page is never given back.
const AT_ONCE: usize = 200;
/// The first and the longest wait before the API server is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long the API server keeps a watch open: as long as other clients ask for. Then it is begun anew, where it ended.
const WATCH: u64 = 480;
/// How many lists in a row may break as the beginning of a watch before one is asked for in pages.
const BROKEN: u32 = 3;

/// What is told.
#[derive(Debug)]
pub(super) enum Told<T> {
    /// A whole list begins, and is asked for next: what is not in it is gone. One that begins again has never been whole.
    Init,
    /// One is in the list, is new or has changed.
    Is(T),
    /// The list is complete, and what happens is told from now on.
    InitDone,
    /// One is gone.
    Gone(T),
    /// One cannot be read: its text and why.
    Unreadable(String, Box<dyn Error + Send + Sync>),
    /// What happens is told from now on.
    Alive,
}

/// Objects that are followed.
pub(super) struct Watch<T> {
    api: Arc<Api>,
    path: String,
    /// Which of them.
    selector: Option<String>,
    state: State<T>,
    /// Whether the API server begins a watch with a list: it has not refused to.
    streams: bool,
    /// How many such lists have broken since one was whole.
    broken: u32,
    /// The API server was away since: what it counts by may be another etcd.
    was_away: bool,
    /// How long to wait before the next request.
    wait: Option<Duration>,
    /// How long the next wait is.
    next_wait: Duration,
    /// Waits are as much longer, in percent: not every node comes back in the same moment.
    spread: u32,
}

enum State<T> {
    Unknown,
    /// It has been told that a list begins.
    Begun,
    /// A list in pages: what is left of one, and how the next is asked for.
    Paged {
        left: vec::IntoIter<Told<T>>,
        next: Option<String>,
        version: String,
    },
    Known {
        version: String,
    },
    Watched {
        version: String,
        lines: Lines,
        begun: Instant,
        /// It is still what there was when it began.
        lists: bool,
    },
}

impl<T: Object> Watch<T> {
    /// Those at a path that a field selector lets through. `spread` is any number of the node's own.
    pub(super) fn new(api: Arc<Api>, path: String, selector: Option<String>, spread: u64) -> Self {
        let spread = u32::try_from(spread % 50).unwrap_or_default();
        Self {
            api,
            path,
            selector,
            state: State::Unknown,
            streams: true,
            broken: 0,
            was_away: false,
            wait: None,
            next_wait: WAIT.0,
            spread,
        }
    }

    /// Waits for something to tell. After an error the next call tries again, in its time.
    pub(super) async fn next(&mut self) -> Result<Told<T>, CallError> {
        loop {
            if let Some(wait) = self.wait {
                time::sleep(wait).await;
                self.wait = None;
            }
            match &mut self.state {
                State::Unknown => {
                    self.state = State::Begun;
                    return Ok(Told::Init);
                }
                State::Begun if self.streams && self.broken < BROKEN => {
                    let lines = self.begin("sendInitialEvents=true&resourceVersionMatch=NotOlderThan").await;
                    if lines.as_ref().is_err_and(|error| matches!(error.code(), Some(400 | 422))) {
                        self.streams = false;
                        continue;
                    }
                    self.state = State::Unknown;
                    let lines = self.heed(lines)?;
                    let version = String::new();
                    self.state = State::Watched { version, lines, begun: Instant::now(), lists: true };
                }
                State::Begun => {
                    self.state = State::Unknown;
                    let page = self.page(None).await;
                    self.state = self.heed(page)?;
                }
                State::Paged { left, next, version } => {
                    if let Some(told) = left.next() {
                        return Ok(told);
                    }
                    let Some(token) = next.take() else {
                        self.state = State::Known { version: std::mem::take(version) };
                        (self.broken, self.was_away) = (0, false);
                        return Ok(Told::InitDone);
                    };
                    // A list that has failed once begins anew.
                    self.state = State::Unknown;
                    let page = self.page(Some(&token)).await;
                    self.state = self.heed(page)?;
                }
                State::Known { version } => {
                    let version = version.clone();
                    if self.go_on(version).await? {
                        return Ok(Told::Alive);
                    }
                }
                State::Watched { version, lines, begun, lists } => {
                    // It ends the watch itself. One that says nothing for longer is not there any more.
                    let silence = if *lists { PAGE } else { Duration::from_secs(WATCH + 100 + 15) };
                    let by_wire = T::BY_WIRE.filter(|_| lines.by_wire());
                    let line = time::timeout(silence, lines.next()).await;
                    let Ok(Ok(Some(line))) = line else {
                        if let Ok(Err(error)) = &line {
                            tracing::debug!("a watch of the API server ended: {}", network::chain(error));
                        }
                        // Only where it cannot be begun anew something is wrong. One that ends at once must not do so all the time.
                        let (version, is_young) = (std::mem::take(version), begun.elapsed() < WAIT.1);
                        // It ends in its time where nothing has happened, which may be a little early by this node's clock.
                        self.was_away |= begun.elapsed().as_secs() + 5 < lasts(self.spread);
                        if *lists {
                            // It has gone away, or does so at each such list: pages are smaller.
                            self.broken += 1;
                            self.state = State::Unknown;
                        } else {
                            self.state = State::Known { version };
                        }
                        self.wait = is_young.then(|| self.longer());
                        continue;
                    };
                    let read = match by_wire {
                        Some(by_wire) => read_event(line, by_wire, version),
                        None => read_line(line, version),
                    };
                    if read.is_ok() && !*lists {
                        self.next_wait = WAIT.0;
                    }
                    match read {
                        Ok(Some(Told::InitDone)) if !std::mem::take(lists) => {}
                        Ok(Some(told)) => {
                            if matches!(told, Told::InitDone) {
                                (self.broken, self.was_away) = (0, false);
                            }
                            return Ok(told);
                        }
                        Ok(None) => {}
                        Err(error) => {
                            // Too old, or a fault of the API server's own: a list has all of it.
                            self.broken += u32::from(*lists);
                            self.state = State::Unknown;
                            if error.code() != Some(410) {
                                return self.heed(Err(error));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Watches from a version on; false where a list is needed instead.
    async fn go_on(&mut self, version: String) -> Result<bool, CallError> {
        if self.was_away {
            let now = self.now().await;
            if is_less(&self.heed(now)?, &version) {
                let path = &self.path;
                tracing::warn!(path, "the API server's etcd was put back to an earlier state: all is read anew");
                self.state = State::Unknown;
                return Ok(false);
            }
            self.was_away = false;
        }
        let lines = self.begin(&format!("resourceVersion={version}")).await;
        if lines.as_ref().is_err_and(|error| error.code() == Some(410)) {
            self.state = State::Unknown;
            return Ok(false);
        }
        let lines = self.heed(lines)?;
        self.state = State::Watched { version, lines, begun: Instant::now(), lists: false };
        Ok(true)
    }

    /// Up to which version all has been told; none while that is not known.
    pub(super) fn version(&self) -> Option<&str> {
        match &self.state {
            State::Known { version } | State::Watched { version, lists: false, .. } => Some(version),
            State::Unknown | State::Begun | State::Paged { .. } | State::Watched { .. } => None,
        }
    }

    /// What was listed is not believed: it is listed again later.
    pub(super) fn distrust(&mut self) {
        self.state = State::Unknown;
        self.wait = Some(self.longer());
    }

    /// Takes what a request brought. One that failed is tried again later.
    fn heed<R>(&mut self, result: Result<R, CallError>) -> Result<R, CallError> {
        if let Err(error) = &result {
            self.was_away = true;
            let wait = self.longer();
            self.wait = Some(error.after().map_or(wait, |after| after.clamp(wait, Duration::from_mins(5))));
        }
        result
    }

    fn longer(&mut self) -> Duration {
        let wait = self.next_wait;
        self.next_wait = (wait * 2).min(WAIT.1);
        wait + wait * self.spread / 100
    }

    fn query(&self, query: &str) -> String {
        let selector = self.selector.as_ref().map(|selector| format!("&fieldSelector={selector}")).unwrap_or_default();
        format!("{}?{query}{selector}", self.path)
    }

    /// Begins a watch.
    async fn begin(&mut self, from: &str) -> Result<Lines, CallError> {
        let seconds = lasts(self.spread);
        let query = format!("watch=1&allowWatchBookmarks=true&{from}&timeoutSeconds={seconds}");
        self.api.lines(&self.query(&query), T::BY_WIRE.is_some()).await
    }

    /// The version that the API server is at.
    async fn now(&mut self) -> Result<String, CallError> {
        let text = self.api.get(&self.query("limit=1"), None).await?;
        let page: Page = serde_json::from_slice(&text).map_err(|error| CallError::Garbage(error.into()))?;
        Ok(page.metadata.resource_version.into_owned())
    }

    /// Asks for a page of a list.
    async fn page(&mut self, token: Option<&str>) -> Result<State<T>, CallError> {
        let token = token.map(|token| format!("&continue={}", escaped(token))).unwrap_or_default();
        let text = self.api.get(&self.query(&format!("limit={AT_ONCE}{token}")), Some(PAGE)).await?;
        let page: Page = serde_json::from_slice(&text).map_err(|error| CallError::Garbage(error.into()))?;
        let left: Vec<_> = page.items.iter().map(|item| told(item, T::read(item.get()))).collect();
        let next = page.metadata.next.filter(|next| !next.is_empty()).map(Cow::into_owned);
        Ok(State::Paged { left: left.into_iter(), next, version: page.metadata.resource_version.into_owned() })
    }
}

/// How long a watch is kept open, in seconds.
fn lasts(spread: u32) -> u64 {
    WATCH + u64::from(spread) * 2
}

/// True where the one version comes before the other; false where they are no numbers.
fn is_less(version: &str, other: &str) -> bool {
    version.parse::<u64>().ok().zip(other.parse().ok()).is_some_and(|(version, other)| version < other)
}

fn told<T>(text: &RawValue, read: Result<T, serde_json::Error>) -> Told<T> {
    read.map_or_else(|error| Told::Unreadable(beginning(text.get()), error.into()), Told::Is)
}

/// Reads a line of a watch. `version` is the one to go on from.
fn read_line<T: Object>(line: &[u8], version: &mut String) -> Result<Option<Told<T>>, CallError> {
    let Ok(Line { kind, object }) = serde_json::from_slice::<Line<Whole>>(line) else {
        return read_odd(line);
    };
    if let Some(newer) = object.version() {
        newer.clone_into(version);
    }
    Ok(match &*kind {
        "ADDED" | "MODIFIED" => Some(Told::Is(T::of(object))),
        "DELETED" => Some(Told::Gone(T::of(object))),
        "BOOKMARK" if object.ends_the_list() => Some(Told::InitDone),
        "ERROR" => return read_odd(line),
        _ => None,
    })
}

/// The same for an event that came as protobuf.
fn read_event<T: Object>(frame: &[u8], by_wire: ByWire<T>, version: &mut String) -> Result<Option<Told<T>>, CallError> {
    let event = wire::Event::read(frame).map_err(|error| CallError::Garbage(error.into()))?;
    if event.kind == "ERROR" {
        return Err(refused(event.answer()));
    }
    let (object, ends_the_list) = match by_wire(&event) {
        Ok(read) => read,
        Err(error) => return Ok(Some(Told::Unreadable(format!("{} bytes", frame.len()), error.into()))),
    };
    if let Some(newer) = object.version().filter(|newer| !newer.is_empty()) {
        newer.clone_into(version);
    }
    Ok(match &*event.kind {
        "ADDED" | "MODIFIED" => Some(Told::Is(object)),
        "DELETED" => Some(Told::Gone(object)),
        "BOOKMARK" if ends_the_list => Some(Told::InitDone),
        _ => None,
    })
}

fn refused(said: Answer) -> CallError {
    let after = said.details.and_then(|details| details.retry_after_seconds).map(Duration::from_secs);
    CallError::Refused { code: said.code, message: said.message, after }
}

/// A line that tells of no object, or of one that cannot be read.
fn read_odd<T: Object>(line: &[u8]) -> Result<Option<Told<T>>, CallError> {
    let line: Line<&RawValue> = serde_json::from_slice(line).map_err(|error| CallError::Garbage(error.into()))?;
    let text = line.object.get();
    match &*line.kind {
        "ERROR" => Err(refused(serde_json::from_str(text).unwrap_or_default())),
        "ADDED" | "MODIFIED" | "DELETED" => Ok(Some(told(line.object, T::read(text)))),
        _ => Ok(None),
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(100).collect()
}

/// A token of the API server's, as a query can have it.
fn escaped(token: &str) -> String {
    let mut text = String::new();
    for byte in token.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
