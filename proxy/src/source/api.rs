//! The API server, followed for changes: the source of a cluster.
//!
//! Four watches, each with waits of its own, come together here. A list ends what was missed while the API server was away. While it is
//! away, what was known stays: nothing is said but a problem, once.

pub mod events;
mod failures;
mod optional;

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use apiserver::{ApiServer, Selection, Watch, WatchEvent, watch};
use futures_util::stream::{self, BoxStream, StreamExt};
use kube::Resource;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task;

use self::failures::Failures;
use self::optional::OptionalWatch;
use super::objects::{Converted, EndpointSliceObject, LABEL_SELECTOR, NodeObject, ServiceCidrObject, ServiceObject};
use crate::model::{Collection, Event};

/// How many events that are there at once come together.
const BATCH: usize = 256;

/// What a watch of a collection says, with its objects converted.
type Followed = (Collection, WatchEvent<Converted>);

/// Follows the API server until the receiver is dropped. Nothing ends it: an API server that is away is waited for. `node` is this node's
/// name, whose Node alone is read. To be called within a tokio runtime.
pub fn follow(server: &ApiServer, node: &str) -> mpsc::Receiver<Vec<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    let mut batches = stream::select_all(watches(server, node)).ready_chunks(BATCH);
    task::spawn(async move {
        let mut failures = Failures::default();
        loop {
            let batch = tokio::select! {
                () = sender.closed() => return,
                Some(batch) = batches.next() => batch,
                else => return,
            };
            let mut events = Vec::with_capacity(batch.len());
            for (collection, event) in batch {
                take(collection, event, &mut failures, &mut events);
            }
            if !events.is_empty() && sender.send(events).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn watches(server: &ApiServer, node: &str) -> [BoxStream<'static, Followed>; 4] {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let all = Selection { spread: hasher.finish(), ..Selection::default() };
    let labelled = Selection { labels: LABEL_SELECTOR.to_owned(), ..all.clone() };
    let own = Selection { fields: format!("metadata.name={node}"), ..all.clone() };
    let services: Watch<ServiceObject> = watch(server, labelled.clone());
    let slices: Watch<EndpointSliceObject> = watch(server, labelled);
    let nodes: Watch<NodeObject> = watch(server, own);
    let ranges = OptionalWatch::<ServiceCidrObject>::new(server, all);
    let node = node.to_owned();
    [
        objects(Collection::Services, services, ServiceObject::convert),
        objects(Collection::Slices, slices, move |slice: EndpointSliceObject| slice.convert(&node)),
        objects(Collection::Nodes, nodes, NodeObject::convert),
        stream::unfold(ranges, async |mut watch| {
            Some(((Collection::ServiceCidrs, watch.next().await.map(ServiceCidrObject::convert)), watch))
        })
        .boxed(),
    ]
}

fn objects<K>(
    collection: Collection,
    watch: Watch<K>,
    convert: impl Fn(K) -> Converted + Send + 'static,
) -> BoxStream<'static, Followed>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let step = move |(mut watch, convert): (Watch<K>, _)| async move {
        let event = watch.next().await.map(&convert);
        Some(((collection, event), (watch, convert)))
    };
    stream::unfold((watch, convert), step).boxed()
}

/// What the model receives for a watch's event.
fn take(collection: Collection, event: WatchEvent<Converted>, failures: &mut Failures, events: &mut Vec<Event>) {
    let problems = match event {
        WatchEvent::Init => {
            events.push(Event::Init(collection));
            None
        }
        WatchEvent::Object(object) => {
            events.push(object.event(|_| None));
            None
        }
        WatchEvent::Deleted(object) => {
            events.push(Event::Unset(object.name, Vec::new()));
            None
        }
        WatchEvent::InitDone => {
            events.push(Event::InitDone(collection));
            failures.end(collection)
        }
        WatchEvent::Recovered => failures.end(collection),
        WatchEvent::Trouble(error) => failures.begin(collection, &error),
    };
    events.extend(problems);
}

#[cfg(test)]
mod tests;
