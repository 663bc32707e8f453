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
use super::store_events::StoreEvents;
use crate::config::NetConfSource;
use crate::config::store::REMEDIES;
use crate::store::{Closed, StoreError, StoreEvent};
use crate::whole_file;

const TASK: &str = "configuration";
const KEY: &str = "net-conf.json";

/// How often a file is read where the kernel sends no notifications.
const POLL: Duration = Duration::from_secs(10);

/// Reads the network configuration.
pub(super) async fn read(server: &ApiServer, source: &NetConfSource) -> Result<String, StoreError> {
    match source {
        NetConfSource::File(path) => read_file(path),
        NetConfSource::ConfigMap { namespace, name } => {
            let object = format!("ConfigMap {namespace}/{name}");
            // A list by its name: a Role can be limited to it, and the same right lets netd watch it.
            let params = ListParams::default().fields(&selector(name));
            let maps = server.namespaced::<ConfigMap>(namespace).list(&params).await.map_err(ApiError::from);
            let maps = maps.map_err(|error| StoreError::read(&object, error.advice(&REMEDIES), error))?;
            let advice = "make it, with the key net-conf.json, or name another one by --net-conf-configmap";
            net_conf(maps.items.first()).map_err(|lack| StoreError::read(&object, advice, lack))
        }
    }
}

fn read_file(path: &Path) -> Result<String, StoreError> {
    let advice =
        "mount the ConfigMap with net-conf.json there, or name it by --net-config-path or --net-conf-configmap";
    whole_file::read(path).map_err(|error| StoreError::read(path.display(), advice, error))
}

fn net_conf(map: Option<&ConfigMap>) -> Result<String, &'static str> {
    let data = &map.ok_or("there is no such ConfigMap")?.data;
    data.as_ref().and_then(|data| data.get(KEY)).cloned().ok_or("it has no key net-conf.json")
}

fn selector(name: &str) -> String {
    format!("metadata.name={name}")
}

/// Follows the network configuration until the daemon receives no more.
pub(super) async fn follow(shared: Arc<Shared>, events: StoreEvents) {
    let closed = events.clone();
    let follower = NetConfFollower { shared: Arc::clone(&shared), events };
    let run = async {
        match &shared.config.net_conf {
            NetConfSource::File(path) => follower.file(path).await,
            NetConfSource::ConfigMap { namespace, name } => follower.config_map(namespace, name).await,
        }
    };
    tokio::select! {
        _ = run => {}
        () = closed.closed() => {}
    }
}

struct NetConfFollower {
    shared: Arc<Shared>,
    events: StoreEvents,
}

impl NetConfFollower {
    async fn take(&self, text: String) -> Result<(), Closed> {
        if self.shared.set_net_conf(&text) {
            self.events.send([StoreEvent::NetConf(text)]).await?;
        }
        self.events.report_ok(TASK).await
    }

    async fn file(&self, path: &Path) -> Result<(), Closed> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut notifications = Inotify::init()
            .and_then(|inotify| inotify.into_event_stream(vec![0; 4096]))
            .inspect_err(|error| {
                tracing::warn!(%error, "changes of {} are seen late: raise the sysctl fs.inotify.max_user_instances", path.display());
            })
            .ok();
        loop {
            if let Some(stream) = &notifications {
                // A mounted ConfigMap changes by a link beside the file.
                let mask = WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE | WatchMask::DELETE | WatchMask::DELETE_SELF;
                let _ = stream.watches().add(folder, mask | WatchMask::MOVE_SELF | WatchMask::ONLYDIR);
            }
            match read_file(path) {
                Ok(text) => self.take(text).await?,
                Err(error) => self.events.report_error(TASK, &chain(&error)).await?,
            }
            let Some(stream) = &mut notifications else {
                time::sleep(POLL).await;
                continue;
            };
            if let Ok(None | Some(Err(_))) = time::timeout(POLL, stream.next()).await {
                notifications = None;
            }
        }
    }

    async fn config_map(&self, namespace: &str, name: &str) -> Result<(), Closed> {
        let selection = Selection { fields: selector(name), spread: self.shared.spread(), ..Selection::default() };
        let mut watch: Watch<ConfigMap> = watch_namespaced(&self.shared.server, namespace, selection);
        // The map as last known, whether its list is not whole yet, and what the map lacks.
        let (mut map, mut is_listing, mut lack) = (None, false, None);
        loop {
            match watch.next().await {
                WatchEvent::Init => (map, is_listing) = (None, true),
                WatchEvent::Object(new) => map = Some(new),
                WatchEvent::InitDone => is_listing = false,
                WatchEvent::Deleted(_) => map = None,
                WatchEvent::Recovered => {
                    if lack.is_none() {
                        self.events.report_ok(TASK).await?;
                    }
                    continue;
                }
                WatchEvent::Trouble(error) => {
                    let text = format!(
                        "the network configuration in ConfigMap {namespace}/{name} cannot be followed: {}: {}",
                        error.advice(&REMEDIES),
                        chain(&error)
                    );
                    self.events.report_error(TASK, &text).await?;
                    continue;
                }
            }
            if is_listing {
                continue;
            }
            match net_conf(map.as_ref()) {
                Ok(text) => {
                    lack = None;
                    self.take(text).await?;
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
