//! The network configuration: in a mounted file, or in a `ConfigMap` itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use inotify::{Inotify, WatchMask};
use network::chain;
use network::hash::fnv;
use tokio::time;

use super::Shared;
use super::api::{Api, CallError};
use super::health::{Health, Unheard};
use super::object::{ConfigMap, Object, Page};
use super::options::Source;
use super::watch::{Told, Watch};
use crate::store::{StoreError, StoreEvent};

const WHO: &str = "configuration";

/// How often a file is looked at where the kernel does not tell of changes.
const POLL: Duration = Duration::from_secs(10);

/// Reads it.
pub(super) async fn read(api: &Api, source: &Source) -> Result<String, StoreError> {
    match source {
        Source::File(path) => read_file(path),
        Source::ConfigMap { namespace, name } => {
            let (object, path) = (format!("ConfigMap {namespace}/{name}"), list_path(namespace));
            let refused = |error: CallError| StoreError::Read {
                object: object.clone(),
                advice: error.advice(),
                source: error.into(),
            };
            let garbage = |error: serde_json::Error| refused(CallError::Garbage(error.into()));
            let text = api.get(&format!("{path}?{}", selector(name, "fieldSelector=")), None).await.map_err(refused)?;
            let page: Page = serde_json::from_slice(&text).map_err(garbage)?;
            let map = page.items.first().map(|item| ConfigMap::read(item.get())).transpose().map_err(garbage)?;
            net_conf(map.as_ref()).map_err(|lack| StoreError::Read {
                object: object.clone(),
                advice: "make it, with the key net-conf.json, or name another one by --net-conf-configmap",
                source: lack.into(),
            })
        }
    }
}

/// True where reading it asks the API server.
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

fn net_conf(map: Option<&ConfigMap>) -> Result<String, &'static str> {
    let map = map.ok_or("there is no such ConfigMap")?;
    map.net_conf.clone().ok_or("it has no key net-conf.json")
}

fn list_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// Just this object: so a Role can be limited to its name.
fn selector(name: &str, key: &str) -> String {
    format!("{key}metadata.name%3D{name}")
}

/// Follows it until nobody listens. `told` is what was told of it last.
pub(super) async fn follow(shared: Arc<Shared>, health: Health, told: Option<String>) {
    let mut follower = Follower { health: health.clone(), shared: Arc::clone(&shared), told: None };
    let run = async {
        if let Some(text) = told {
            follower.take(text).await?;
        }
        match &shared.options.net_conf {
            Source::File(path) => follower.file(path).await,
            Source::ConfigMap { namespace, name } => follower.config_map(namespace, name).await,
        }
    };
    tokio::select! {
        _ = run => {}
        () = health.unheard() => {}
    }
}

struct Follower {
    health: Health,
    shared: Arc<Shared>,
    told: Option<String>,
}

impl Follower {
    async fn take(&mut self, text: String) -> Result<(), Unheard> {
        if self.told.as_ref() == Some(&text) {
            return Ok(());
        }
        self.told = Some(text.clone());
        self.shared.conf_is(&text);
        self.health.send(vec![StoreEvent::NetConf(text)]).await
    }

    async fn file(&mut self, path: &Path) -> Result<(), Unheard> {
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
                    self.health.is_well(WHO).await?;
                }
                Err(error) => self.health.ails(WHO, chain(&error)).await?,
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

    async fn config_map(&mut self, namespace: &str, name: &str) -> Result<(), Unheard> {
        let spread = self.shared.own.name().map_or(0, |own| fnv(own.as_str().as_bytes()));
        let (api, selector) = (Arc::clone(&self.shared.api), Some(selector(name, "")));
        let mut watch: Watch<ConfigMap> = Watch::new(api, list_path(namespace), selector, spread);
        let (mut lacks, mut list) = (false, None);
        loop {
            let lack = match watch.next().await {
                Ok(Told::Init) => {
                    list = Some(None);
                    continue;
                }
                Ok(Told::Is(map)) if list.is_some() => {
                    list = Some(Some(map));
                    continue;
                }
                Ok(Told::InitDone) => self.hold(net_conf(list.take().flatten().as_ref())).await?,
                Ok(Told::Is(map)) => self.hold(net_conf(Some(&map))).await?,
                Ok(Told::Gone(_)) => self.hold(net_conf(None)).await?,
                Ok(Told::Alive) if lacks => continue,
                Ok(Told::Alive) => {
                    self.health.is_well(WHO).await?;
                    continue;
                }
                Ok(Told::Unreadable(_, error)) => Some(error.to_string()),
                Err(error) => {
                    let what = format!(
                        "the network configuration in ConfigMap {namespace}/{name} cannot be followed: {}: {}",
                        error.advice(),
                        chain(&error)
                    );
                    self.health.ails(WHO, what).await?;
                    continue;
                }
            };
            lacks = lack.is_some();
            match lack {
                Some(lack) => {
                    let what = format!("there is no network configuration in ConfigMap {namespace}/{name}: {lack}");
                    self.health.ails(WHO, what).await?;
                }
                None => self.health.is_well(WHO).await?,
            }
        }
    }

    async fn hold(&mut self, net_conf: Result<String, &'static str>) -> Result<Option<String>, Unheard> {
        match net_conf {
            Ok(text) => self.take(text).await.map(|()| None),
            Err(lack) => Ok(Some(lack.to_owned())),
        }
    }
}
