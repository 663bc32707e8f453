//! The network configuration: in a mounted file, or in a `ConfigMap` that the API server is asked for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use apiserver::watch::watch_namespaced;
use apiserver::{ApiError, ApiServer, Selection, Watch, WatchEvent};
use futures_util::StreamExt;
use inotify::{Inotify, WatchMask};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use network::chain;
use tokio::time;

use super::Shared;
use super::options::Source;
use super::store_events::{Closed, StoreEvents};
use crate::store::{StoreError, StoreEvent};

const TASK: &str = "configuration";
const KEY: &str = "net-conf.json";

/// How often a file is read where the kernel sends no notifications.
const POLL: Duration = Duration::from_secs(10);

/// Reads the network configuration.
pub(super) async fn read(server: &ApiServer, source: &Source) -> Result<String, StoreError> {
    match source {
        Source::File(path) => read_file(path),
        Source::ConfigMap { namespace, name } => {
            let object = || format!("ConfigMap {namespace}/{name}");
            // A list by its name: a Role can be limited to it, and the same right lets netd watch it.
            let params = ListParams::default().fields(&selector(name));
            let maps = server.namespaced::<ConfigMap>(namespace).list(&params).await;
            let maps = maps.map_err(ApiError::from).map_err(|error| StoreError::Read {
                object: object(),
                advice: error.advice(),
                source: error.into(),
            })?;
            net_conf(maps.items.into_iter().next()).map_err(|lack| StoreError::Read {
                object: object(),
                advice: "make it, with the key net-conf.json, or name another one by --net-conf-configmap",
                source: lack.into(),
            })
        }
    }
}

/// True where the API server must be asked for it.
pub(super) fn is_remote(source: &Source) -> bool {
    matches!(source, Source::ConfigMap { .. })
}

fn read_file(path: &Path) -> Result<String, StoreError> {
    std::fs::read_to_string(path).map_err(|error| StoreError::Read {
        object: path.display().to_string(),
        advice: "mount the ConfigMap with net-conf.json there, or name it by --net-config-path or --net-conf-configmap",
        source: error.into(),
    })
}

fn net_conf(map: Option<ConfigMap>) -> Result<String, &'static str> {
    let map = map.ok_or("there is no such ConfigMap")?;
    map.data.and_then(|mut data| data.remove(KEY)).ok_or("it has no key net-conf.json")
}

fn selector(name: &str) -> String {
    format!("metadata.name={name}")
}

/// Follows the network configuration until the daemon receives no more. `sent` is the text that the daemon has.
pub(super) async fn follow(shared: Arc<Shared>, events: StoreEvents, sent: Option<String>) {
    let mut follower = NetConfFollower { events: events.clone(), shared: Arc::clone(&shared), sent: None };
    let run = async {
        if let Some(text) = sent {
            follower.take(text).await?;
        }
        match &shared.options.net_conf {
            Source::File(path) => follower.file(path).await,
            Source::ConfigMap { namespace, name } => follower.config_map(namespace, name).await,
        }
    };
    tokio::select! {
        _ = run => {}
        () = events.closed() => {}
    }
}

struct NetConfFollower {
    events: StoreEvents,
    shared: Arc<Shared>,
    /// The text that was sent last.
    sent: Option<String>,
}

impl NetConfFollower {
    async fn take(&mut self, text: String) -> Result<(), Closed> {
        if self.sent.as_ref() == Some(&text) {
            return Ok(());
        }
        self.sent = Some(text.clone());
        self.shared.set_net_conf(&text);
        self.events.send(vec![StoreEvent::NetConf(text)]).await
    }

    async fn file(&mut self, path: &Path) -> Result<(), Closed> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut notifications =
            Inotify::init().and_then(|inotify| inotify.into_event_stream(vec![0; 4096])).inspect_err(|error| {
                tracing::warn!(%error, "changes of {} are seen late: raise the sysctl fs.inotify.max_user_instances", path.display());
            });
        loop {
            if let Ok(stream) = &notifications {
                // A mounted ConfigMap changes by a link beside the file.
                let mask = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE | WatchMask::DELETE_SELF;
                let _ = stream.watches().add(folder, mask | WatchMask::MOVE_SELF | WatchMask::ONLYDIR);
            }
            match read_file(path) {
                Ok(text) => {
                    self.take(text).await?;
                    self.events.report_ok(TASK).await?;
                }
                Err(error) => self.events.report_error(TASK, &chain(&error)).await?,
            }
            let mut ended = false;
            match &mut notifications {
                Ok(stream) => {
                    if let Ok(event) = time::timeout(POLL, stream.next()).await {
                        ended = !matches!(event, Some(Ok(_)));
                    }
                }
                Err(_) => time::sleep(POLL).await,
            }
            if ended {
                notifications = Err(std::io::Error::other("notifications ended"));
            }
        }
    }

    async fn config_map(&mut self, namespace: &str, name: &str) -> Result<(), Closed> {
        let selection = Selection { fields: selector(name), spread: self.shared.spread() };
        let mut watch: Watch<ConfigMap> = watch_namespaced(&self.shared.server, namespace, selection);
        // The map of a list that is coming, and what the last map lacks.
        let (mut list, mut lack) = (None, None);
        loop {
            let net_conf = match watch.next().await {
                WatchEvent::Init => {
                    list = Some(None);
                    continue;
                }
                WatchEvent::Object(map) if list.is_some() => {
                    list = Some(Some(map));
                    continue;
                }
                WatchEvent::InitDone => net_conf(list.take().flatten()),
                WatchEvent::Object(map) => net_conf(Some(map)),
                WatchEvent::Deleted(_) => net_conf(None),
                WatchEvent::Recovered => {
                    if lack.is_none() {
                        self.events.report_ok(TASK).await?;
                    }
                    continue;
                }
                WatchEvent::Trouble(error) => {
                    let text = format!(
                        "the network configuration in ConfigMap {namespace}/{name} cannot be followed: {}: {}",
                        error.advice(),
                        chain(&error)
                    );
                    self.events.report_error(TASK, &text).await?;
                    continue;
                }
            };
            match net_conf {
                Ok(text) => {
                    lack = None;
                    self.take(text).await?;
                    self.events.report_ok(TASK).await?;
                }
                Err(text) => {
                    lack = Some(text);
                    let text = format!("there is no network configuration in ConfigMap {namespace}/{name}: {text}");
                    self.events.report_error(TASK, &text).await?;
                }
            }
        }
    }
}
